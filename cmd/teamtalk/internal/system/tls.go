package system

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/cert"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/origin"
	"teamtalk/core/tlsconn"
	"teamtalk/core/web"
)

// encryption is the TLS of all ports for clients. A nil one leaves them without.
type encryption struct {
	files      *cert.Files
	handshakes *tlsconn.Handshakes
	config     *tls.Config
	plain      origin.Networks
}

// tlsVersions are the values of tls.min_version.
var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// startTLS reads the certificate of the section tls. The result is nil without one.
func startTLS(
	cfg *config.TLS, log *slog.Logger, reg *prometheus.Registry,
) (*encryption, error) {
	if cfg.Certificate == "" {
		return nil, nil
	}
	plain, err := origin.ParseNetworks("tls.plain_networks", cfg.PlainNetworks)
	if err != nil {
		return nil, err
	}
	e := &encryption{plain: plain}
	e.files, err = cert.Load(cert.Options{Certificate: cfg.Certificate, Key: cfg.Key, Log: log,
		Registerer: reg})
	if err != nil {
		return nil, fmt.Errorf("%w (settings tls.certificate and tls.key)", err)
	}
	e.config = e.files.Config(tlsVersions[cfg.MinVersion])
	e.handshakes = tlsconn.NewHandshakes(tlsconn.Options{Config: e.config, Registerer: reg})
	return e, nil
}

// reload reads the certificate again.
func (e *encryption) reload(log *slog.Logger) {
	if err := e.files.Reload(); err != nil {
		log.Error("certificate not read again, the one before stays", "err", err)
		return
	}
	log.Info("certificate read again", "end", e.files.End())
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
