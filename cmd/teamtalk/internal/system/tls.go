package system

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

// encryption is the TLS of all ports for clients. A nil one leaves them without.
type encryption struct {
	certificate
	acme       *acme.Manager // nil: the certificate is in files
	handshakes *tlsconn.Handshakes
	config     *tls.Config
	plain      origin.Networks
}

// certificate is a certificate that changes while the server runs.
type certificate interface {
	// Reload reads it again.
	Reload() error
	// End returns the time at which it ends; zero without one.
	End() time.Time
	// WarnEnds logs that it ends soon.
	WarnEnds(now time.Time)
	// Config returns the configuration of a server that shows it.
	Config(min uint16) *tls.Config
}

// tlsVersions are the values of tls.min_version.
var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// startTLS reads the certificate of the section tls. The result is nil without one.
func startTLS(cfg *config.Config, log *slog.Logger, reg *prometheus.Registry) (*encryption, error) {
	if cfg.TLS.Certificate == "" && len(cfg.TLS.ACME.Domains) == 0 {
		return nil, nil
	}
	plain, err := origin.ParseNetworks("tls.plain_networks", cfg.TLS.PlainNetworks)
	if err != nil {
		return nil, err
	}
	e := &encryption{plain: plain}
	if cfg.TLS.Certificate != "" {
		e.certificate, err = cert.Load(cert.Options{Certificate: cfg.TLS.Certificate,
			Key: cfg.TLS.Key, Log: log, Registerer: reg})
		if err != nil {
			return nil, fmt.Errorf("%w (settings tls.certificate and tls.key)", err)
		}
	} else {
		if e.acme, err = openACME(cfg, log, reg); err != nil {
			return nil, fmt.Errorf("%w (section tls.acme)", err)
		}
		e.certificate = e.acme
	}
	e.config = e.Config(tlsVersions[cfg.TLS.MinVersion])
	e.handshakes = tlsconn.NewHandshakes(tlsconn.Options{Config: e.config, Registerer: reg})
	return e, nil
}

// reload reads the certificate again.
func (e *encryption) reload(log *slog.Logger) {
	if err := e.Reload(); err != nil {
		log.Error("certificate not read again, the one before stays", "err", err)
		return
	}
	log.Info("certificate read again", "end", e.End())
}

// port sets the TLS of a port of the engine.
func (e *encryption) port(opt *engine.Options) {
	if e != nil {
		opt.TLS, opt.Plain = e.handshakes, e.plain.Contains
	}
}

// web sets the TLS of an HTTP port.
func (e *encryption) web(opt *web.Options) {
	if e != nil {
		opt.TLS, opt.Plain = e.config, e.plain.Contains
	}
}
