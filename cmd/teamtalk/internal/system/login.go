package system

import (
	"context"
	"fmt"
	"net/netip"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/web"
	"teamtalk/handlers/login"
)

func (s *system) startLogin(context.Context) error {
	cfg := s.cfg.Login
	var nets []netip.Prefix
	for _, n := range cfg.IP2Networks {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return fmt.Errorf("setting login.ip2_networks: %w", err)
		}
		nets = append(nets, p)
	}
	register, from := s.registration()
	s.login = login.New(login.Options{
		IP2Networks: nets, MSFSPrior: s.filesURL(), MSFSBackup: cfg.MSFSBackup, Discovery: cfg.Discovery, Register: register, RegisterNetworks: from,
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat, Log: s.log, Registerer: s.reg,
	})
	err := s.listen(&port{name: "login servers"}, "login.server_listen", cfg.ServerAddr(s.cfg.AllInOne()),
		engine.Options{Handler: s.login.Servers()})
	if err != nil {
		return err
	}
	err = s.listen(&port{name: "login", clients: true}, "login.client_listen", config.Addr(cfg.ClientListen),
		engine.Options{Handler: s.login.Clients(), MaxConns: max(1, s.budget.Limit()/2)}) // the rest is for message servers' clients, who stay
	if err != nil {
		return err
	}
	return s.startHTTP(config.Addr(cfg.HTTPListen))
}

// startHTTP opens the HTTP port of the login server.
func (s *system) startHTTP(addr string) error {
	if addr == "" {
		return nil
	}
	l, err := web.Listen(addr)
	if err != nil {
		return fmt.Errorf("%w (setting login.http_listen)", err)
	}
	s.http = s.serveWeb(l, web.Options{Name: "login", Handler: s.login.HTTP(), MaxConns: s.cfg.Login.HTTPMaxConnections})
	return nil
}
