package system

import (
	"context"
	"fmt"
	"net/netip"

	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/web"
	"teamtalk/handlers/login"
)

// loginServer is the role login while it runs.
type loginServer struct {
	server *login.Server
	http   *web.Server // nil: no HTTP port
}

// startLogin opens the ports of the login server.
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
	opt := login.Options{
		IP2Networks: nets, MSFSPrior: s.filesURL(), MSFSBackup: cfg.MSFSBackup,
		Discovery: cfg.Discovery,
		Register:  register, RegisterNetworks: from,
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat, Log: s.log,
		Registerer: s.reg,
	}
	if s.registry != nil && !(s.cfg.Runs(config.RoleMsg) && alone(s)) {
		opt.Registered = s.registry.View()
	}
	l := &loginServer{server: login.New(opt)}
	s.login = l
	err := s.ports.Open(&ports.Port{Name: "login servers"}, "login.server_listen",
		cfg.ServerAddr(s.cfg.AllInOne()),
		engine.Options{Links: l.server.Servers()})
	if err != nil {
		return err
	}
	// Half of the connections remain for the message server's clients, which stay
	// connected.
	err = s.ports.Open(&ports.Port{Name: "login", Clients: true}, "login.client_listen",
		config.Addr(cfg.ClientListen),
		engine.Options{Clients: l.server.Clients(), MaxConns: max(1, s.ports.Budget.Limit()/2)})
	if err != nil {
		return err
	}
	return s.serveLogin(config.Addr(cfg.HTTPListen))
}

// serveLogin opens the HTTP port of the login server. An empty address opens none.
func (s *system) serveLogin(addr string) error {
	if addr == "" {
		return nil
	}
	l, err := web.Listen(addr)
	if err != nil {
		return fmt.Errorf("%w (setting login.http_listen)", err)
	}
	limit := func(c *config.Config) int { return c.Login.HTTPMaxConnections }
	s.login.http = s.ports.ServeWeb(l, limit, web.Options{Name: "login",
		Handler: s.login.server.HTTP()})
	s.stops.Push(stops.CloseWeb, "login HTTP", s.login.http.Close)
	return nil
}
