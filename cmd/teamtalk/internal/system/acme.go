package system

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/acme"
	"teamtalk/core/config"
	"teamtalk/core/web"
)

// openACME opens the certificate of the section tls.acme, which may not exist yet.
func openACME(cfg *config.Config, log *slog.Logger, reg *prometheus.Registry) (
	*acme.Manager, error) {
	a := &cfg.TLS.ACME
	roots, err := acmeRoots(a)
	if err != nil {
		return nil, err
	}
	return acme.Open(acme.Options{Domains: a.Domains, Email: a.Email, Directory: a.Directory,
		Folder: open.Folder(cfg, a.Folder, "acme"), Roots: roots, Challenge: a.Challenge, Log: log,
		Registerer: reg})
}

// acmeRoots returns the certificates that prove the CA; nil for those of the system.
func acmeRoots(a *config.ACME) (*x509.CertPool, error) {
	if a.DirectoryCA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(a.DirectoryCA)
	if err != nil {
		return nil, fmt.Errorf("directory_ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("directory_ca: %s holds no certificate in PEM form", a.DirectoryCA)
	}
	return roots, nil
}

// maxChallenges bounds the connections of the port for the challenges of a CA.
const maxChallenges = 64

// startACME begins to order the certificate, when the ports are open that the CA connects to.
func startACME(s *system) error {
	if s.tls == nil || s.tls.acme == nil {
		return nil
	}
	m := s.tls.acme
	s.ready.Add("certificate", m.Ready)
	addr := config.Addr(s.cfg.TLS.ACME.HTTPListen)
	if addr != "" && s.cfg.TLS.ACME.Challenge == acme.HTTP01 {
		l, err := web.Listen(addr)
		if err != nil {
			return fmt.Errorf("%w (setting tls.acme.http_listen)", err)
		}
		// No TLS: a CA asks without.
		srv := web.Serve(l, web.Options{Name: "acme", Handler: m.Handler(),
			MaxConns: maxChallenges, Budget: s.budget, Log: s.log, Registerer: s.reg,
			PerAddress: s.cfg.Strangers.PerAddress, Trusted: s.trusted, Proxies: s.proxies})
		s.stops.Push(stops.CloseAdmin, "port for the CA", srv.Close)
		go func() {
			if err := srv.Err(); err != nil {
				s.fail(err)
			}
		}()
	}
	s.stops.Go(stops.RefuseConnections, "orders of certificates", m.Run)
	return nil
}
