package pages

import (
	"crypto/x509"
	"fmt"
	"os"
)

// Roots returns the certificates in a file, and those of the system beside them if system is
// true. Without a file it returns nil.
func Roots(file string, system bool) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if system {
		if all, err := x509.SystemCertPool(); err == nil {
			roots = all
		}
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return roots, nil
}
