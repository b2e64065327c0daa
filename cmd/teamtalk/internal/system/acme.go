package system

import (
	"fmt"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/acme"
	"teamtalk/core/config"
	"teamtalk/core/web"
)

// maxChallenges bounds the connections of the port for the challenges of a CA.
const maxChallenges = 64

// startACME begins to order the certificate, when the ports are open that the CA connects to.
func startACME(s *system) error {
	m := s.tls.ACME()
	if m == nil {
		return nil
	}
	s.ready.Add("certificate", m.Ready)
	addr := config.Addr(s.cfg.TLS.ACME.HTTPListen)
	if addr != "" && s.cfg.TLS.ACME.Challenge == acme.HTTP01 {
		l, err := web.Listen(addr)
		if err != nil {
			return fmt.Errorf("%w (setting tls.acme.http_listen)", err)
		}
		// No TLS: a CA asks without.
		srv := s.ports.ServePlain(l, web.Options{Name: "acme", Handler: m.Handler(),
			MaxConns: maxChallenges})
		s.stops.Push(stops.CloseAdmin, "port for the CA", srv.Close)
	}
	s.stops.Go(stops.RefuseConnections, "orders of certificates", m.Run)
	return nil
}
