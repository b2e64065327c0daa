package encryption

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/cert"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/link"
	"teamtalk/core/tlsconn"
)

// Servers is the TLS between servers. A nil one leaves their ports and links without.
type Servers struct {
	peers      *cert.Peers
	handshakes *tlsconn.Handshakes
	plaintext  string // the setting link_tls.cpp_plaintext
}

// OpenServers reads the certificates of the section link_tls. The result is nil without.
func OpenServers(cfg *config.LinkTLS, log *slog.Logger, reg *prometheus.Registry) (
	*Servers, error) {
	if cfg.CA == "" {
		return nil, nil
	}
	peers, err := cert.LoadPeers(cfg.CA, cert.Options{Certificate: cfg.Certificate, Key: cfg.Key,
		Log: log, Registerer: reg})
	if err != nil {
		return nil, fmt.Errorf("%w (settings link_tls.ca, certificate and key)", err)
	}
	return &Servers{peers: peers, plaintext: cfg.CPPPlaintext,
		handshakes: tlsconn.NewHandshakes(tlsconn.Options{Config: peers.Accepting(),
			Metrics: "teamtalk_servers_tls", Registerer: reg})}, nil
}

// Prepare reads the certificates again, and returns the function that uses what was read, and logs
// when the own one ends.
func (s *Servers) Prepare(log *slog.Logger) (use func(), err error) {
	read, err := s.peers.Prepare()
	if err != nil {
		return nil, fmt.Errorf("link_tls.certificate: %w", err)
	}
	return func() {
		read()
		log.Info("certificate of servers read again", "end", s.peers.End())
	}, nil
}

// Port sets the TLS of a port for servers.
func (s *Servers) Port(opt *engine.Options) {
	if s == nil {
		return
	}
	opt.TLS = s.handshakes
	opt.Plain = func(netip.Addr) bool { return s.plaintext != "off" }
}

// Dial returns the function that opens links; nil for those without TLS.
func (s *Servers) Dial() func(ctx context.Context, addr string) (net.Conn, error) {
	if s == nil || s.plaintext == "dial" {
		return nil
	}
	d := &tls.Dialer{Config: s.peers.Dialing()}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		return link.DialTLS(ctx, d, addr)
	}
}

// Proven reports whether each peer on the ports for servers must have a certificate.
func (s *Servers) Proven() bool { return s != nil && s.plaintext == "off" }

// End returns the time at which the certificate ends, for people.
func (s *Servers) End() string { return s.peers.End() }

// WarnEnds logs that the certificate ends soon.
func (s *Servers) WarnEnds(now time.Time) { s.peers.WarnEnds(now) }

// Plaintext returns the setting link_tls.cpp_plaintext.
func (s *Servers) Plaintext() string { return s.plaintext }
