package scenario

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// ClientTLS returns the configuration of the connections to servers; nil: no TLS. The error
// names the setting.
func (s *Scenario) ClientTLS() (*tls.Config, error) {
	if !s.TLS {
		return nil, nil
	}
	c := &tls.Config{ServerName: s.TLSName}
	if s.TLSCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(s.TLSCA)
	if err != nil {
		return nil, fmt.Errorf("tls_ca: %w", err)
	}
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls_ca: %s holds no certificate in PEM form", s.TLSCA)
	}
	return c, nil
}
