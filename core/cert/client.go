package cert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
)

// Client is what this process uses as a client of a database with TLS: the CA of the
// database, and perhaps a certificate of its own. Any goroutine.
type Client struct {
	section string // of the settings
	ca      string // file; empty: the CAs of the system
	roots   *x509.CertPool
	own     *Files // nil: none
}

// LoadClient reads the files that the settings ca, certificate and key of a section name.
// Each of them may be empty, but a certificate needs its key. The error names the setting.
func LoadClient(section, ca, certificate, key string) (*Client, error) {
	c := &Client{section: section, ca: ca}
	if (certificate == "") != (key == "") {
		return nil, fmt.Errorf("%s.key: needed with %[1]s.certificate, and the other way round",
			section)
	}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("%s.ca: %w", section, err)
		}
		c.roots = x509.NewCertPool()
		if !c.roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s.ca: %s holds no certificate in PEM form", section, ca)
		}
	}
	if certificate != "" {
		var err error
		c.own, err = Load(Options{Certificate: certificate, Key: key,
			Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, fmt.Errorf("%s.certificate: %w", section, err)
		}
	}
	return c, nil
}

// Verifies reports whether the setting ca is given, so that servers must have a certificate
// of that CA. It returns false for nil.
func (c *Client) Verifies() bool { return c != nil && c.ca != "" }

// Identifies reports whether the setting certificate is given. It returns false for nil.
func (c *Client) Identifies() bool { return c != nil && c.own != nil }

// Config returns a configuration that verifies the server; nil for a nil Client.
func (c *Client) Config() *tls.Config {
	if c == nil {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.roots}
	c.Identify(cfg)
	return cfg
}

// Identify adds the own certificate to a configuration, if there is one. Its files are read
// for each connection, so a certificate that was renewed is used at once. While they cannot
// be read, the one that was read before is used.
func (c *Client) Identify(cfg *tls.Config) {
	if !c.Identifies() {
		return
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		_ = c.own.Reload()
		return c.own.current.Load(), nil
	}
}

// HandshakeError means that there is no TLS connection to a server, because of a certificate
// or because the server has no TLS.
type HandshakeError struct {
	Advice string // what to change
	Err    error
}

// Error returns the error with the advice.
func (e *HandshakeError) Error() string { return e.Err.Error() + ": " + e.Advice }

// Unwrap returns the error of the handshake.
func (e *HandshakeError) Unwrap() error { return e.Err }

// ErrNoTLS means that a server has no TLS.
var ErrNoTLS = errors.New("the server has no TLS")

// Explain returns an error of a connection to addr as a HandshakeError, if a certificate or a
// missing one is its reason. It returns other errors unchanged.
func (c *Client) Explain(addr string, err error) error {
	var known *HandshakeError
	if err == nil || c == nil || errors.As(err, &known) {
		return err
	}
	advice := ""
	var unknown x509.UnknownAuthorityError
	var wrongHost x509.HostnameError
	var invalid x509.CertificateInvalidError
	var remote *net.OpError
	var record tls.RecordHeaderError // the server answered with something else
	switch {
	case errors.As(err, &unknown) && c.ca == "":
		advice = fmt.Sprintf("name the CA of %s in the setting %s.ca", addr, c.section)
	case errors.As(err, &unknown):
		advice = fmt.Sprintf("the CA of %s is not in %s (setting %s.ca)", addr, c.ca, c.section)
	case errors.As(err, &wrongHost):
		advice = fmt.Sprintf("give %s a certificate for this name, or name the server in the "+
			"section %s as its certificate does", addr, c.section)
	case errors.As(err, &invalid):
		advice = "give " + addr + " another certificate"
	case errors.As(err, &remote) && remote.Op == "remote error":
		advice = fmt.Sprintf("%s refuses this process; see %s.certificate and %[2]s.key", addr,
			c.section)
	case errors.Is(err, ErrNoTLS), errors.As(err, &record):
		advice = fmt.Sprintf("turn TLS on at %s, or leave it out in the section %s", addr,
			c.section)
	default:
		return err
	}
	return &HandshakeError{Advice: advice, Err: err}
}

// IsHandshake reports whether err is a HandshakeError.
func IsHandshake(err error) bool {
	var e *HandshakeError
	return errors.As(err, &e)
}
