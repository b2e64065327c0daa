// Package encryption holds the TLS of the ports of a process: that of all ports for clients, and
// the one between servers. Without a certificate a port has none.
package encryption

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/acme"
	"teamtalk/core/cert"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/origin"
	"teamtalk/core/tlsconn"
	"teamtalk/core/web"
)

// Clients is the TLS of all ports for clients. A nil one leaves them without.
type Clients struct {
	certificate certificate
	acme        *acme.Manager // nil: the certificate is in files
	handshakes  *tlsconn.Handshakes
	config      *tls.Config
	plain       origin.Networks
}

// certificate is a certificate that changes while the server runs.
type certificate interface {
	// Prepare reads it again, and returns the function that uses what was read.
	Prepare() (use func(), err error)
	// End returns the time at which it ends; zero without one.
	End() time.Time
	// WarnEnds logs that it ends soon.
	WarnEnds(now time.Time)
	// Config returns the configuration of a server that shows it.
	Config(min uint16) *tls.Config
}

// tlsVersions are the values of tls.min_version.
var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// OpenClients reads the certificate of the section tls. The result is nil without one.
func OpenClients(cfg *config.Config, log *slog.Logger, reg *prometheus.Registry) (
	*Clients, error) {
	if cfg.TLS.Certificate == "" && len(cfg.TLS.ACME.Domains) == 0 {
		return nil, nil
	}
	plain, err := origin.ParseNetworks("tls.plain_networks", cfg.TLS.PlainNetworks)
	if err != nil {
		return nil, err
	}
	c := &Clients{plain: plain}
	if cfg.TLS.Certificate != "" {
		c.certificate, err = cert.Load(cert.Options{Certificate: cfg.TLS.Certificate,
			Key: cfg.TLS.Key, Log: log, Registerer: reg})
		if err != nil {
			return nil, fmt.Errorf("%w (settings tls.certificate and tls.key)", err)
		}
	} else {
		if c.acme, err = openACME(cfg, log, reg); err != nil {
			return nil, fmt.Errorf("%w (section tls.acme)", err)
		}
		c.certificate = c.acme
	}
	c.config = c.certificate.Config(tlsVersions[cfg.TLS.MinVersion])
	c.handshakes = tlsconn.NewHandshakes(tlsconn.Options{Config: c.config, Registerer: reg})
	return c, nil
}

// Prepare reads the certificate again, and returns the function that uses what was read, and logs
// when it ends.
func (c *Clients) Prepare(log *slog.Logger) (use func(), err error) {
	read, err := c.certificate.Prepare()
	if err != nil {
		return nil, fmt.Errorf("tls.certificate: %w", err)
	}
	return func() {
		read()
		log.Info("certificate read again", "end", c.End())
	}, nil
}

// Port sets the TLS of a port of the engine.
func (c *Clients) Port(opt *engine.Options) {
	if c != nil {
		opt.TLS, opt.Plain = c.handshakes, c.plain.Contains
	}
}

// Web sets the TLS of an HTTP port.
func (c *Clients) Web(opt *web.Options) {
	if c != nil {
		opt.TLS, opt.Plain = c.config, c.plain.Contains
	}
}

// End returns the time at which the certificate ends; zero while there is none yet.
func (c *Clients) End() time.Time { return c.certificate.End() }

// WarnEnds logs that the certificate ends soon.
func (c *Clients) WarnEnds(now time.Time) { c.certificate.WarnEnds(now) }

// ACME returns the part that orders the certificate; nil without one.
func (c *Clients) ACME() *acme.Manager {
	if c == nil {
		return nil
	}
	return c.acme
}
