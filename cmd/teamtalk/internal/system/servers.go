package system

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/cert"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/link"
	"teamtalk/core/tlsconn"
)

// mutual is the TLS between servers. A nil one leaves their ports and links without.
type mutual struct {
	peers      *cert.Peers
	handshakes *tlsconn.Handshakes
	plaintext  string // the setting link_tls.cpp_plaintext
}

// startServers reads the certificates of the section link_tls. The result is nil without.
func startServers(cfg *config.LinkTLS, log *slog.Logger, reg *prometheus.Registry) (
	*mutual, error) {
	if cfg.CA == "" {
		return nil, nil
	}
	peers, err := cert.LoadPeers(cfg.CA, cert.Options{Certificate: cfg.Certificate, Key: cfg.Key,
		Log: log, Registerer: reg})
	if err != nil {
		return nil, fmt.Errorf("%w (settings link_tls.ca, certificate and key)", err)
	}
	return &mutual{peers: peers, plaintext: cfg.CPPPlaintext,
		handshakes: tlsconn.NewHandshakes(tlsconn.Options{Config: peers.Accepting(),
			Metrics: "teamtalk_servers_tls", Registerer: reg})}, nil
}

// reload reads the certificates again.
func (m *mutual) reload(log *slog.Logger) {
	if err := m.peers.Reload(); err != nil {
		log.Error("certificate of servers not read again, the one before stays", "err", err)
		return
	}
	log.Info("certificate of servers read again", "end", m.peers.End())
}

// port sets the TLS of a port for servers.
func (m *mutual) port(opt *engine.Options) {
	if m == nil {
		return
	}
	opt.TLS = m.handshakes
	opt.Plain = func(netip.Addr) bool { return m.plaintext != "off" }
}

// dial returns the function that opens links; nil for those without TLS.
func (m *mutual) dial() func(ctx context.Context, addr string) (net.Conn, error) {
	if m == nil || m.plaintext == "dial" {
		return nil
	}
	d := &tls.Dialer{Config: m.peers.Dialing()}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		return link.DialTLS(ctx, d, addr)
	}
}

// proven reports whether each peer on the ports for servers must have a certificate.
func (m *mutual) proven() bool { return m != nil && m.plaintext == "off" }

// warnOpenLinks logs a warning when other machines reach a port for servers that accepts peers
// without a certificate.
func warnOpenLinks(s *system) {
	if !s.servers.proven() && reachedByOthers(s, false) {
		s.log.Warn("the ports for servers accept peers without a certificate, as the settings " +
			"allow (section link_tls): let only servers reach them")
	}
}
