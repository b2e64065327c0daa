package system

import (
	"context"
	"fmt"
	"net"
	"slices"

	"teamtalk/cmd/teamtalk/internal/system/pages"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/web"
	"teamtalk/core/websocket"
	page "teamtalk/handlers/web"
)

// chatPage is the role web while it runs.
type chatPage struct {
	port *web.Server
	url  string // at which browsers of this machine reach it
}

// startWeb opens the port of the chat page, unless the settings turn it off.
func startWeb(s *system) error {
	if !s.cfg.ServesWeb() {
		return nil
	}
	opt, err := pageOptions(s)
	if err != nil {
		return err
	}
	l, err := web.Listen(s.cfg.Web.Listen)
	if err != nil {
		return fmt.Errorf("%w (setting web.listen)", err)
	}
	p := page.New(opt)
	s.stops.Push(stops.CloseWeb, "WebSockets of pages", p.Close)
	limit := func(c *config.Config) int { return c.Web.MaxConnections }
	srv := s.ports.ServeWeb(l, limit, web.Options{Name: config.RoleWeb, Handler: p})
	s.stops.Push(stops.CloseWeb, "page", srv.Close)
	s.web = &chatPage{srv, pageURL(s, l.Addr())}
	return nil
}

// pageOptions returns the options that the settings hold.
func pageOptions(s *system) (page.Options, error) {
	cfg := &s.cfg.Web
	opt := page.Options{WebSocket: cfg.WebSocket, Version: s.build.Version, Log: s.log,
		Registerer: s.reg}
	if !cfg.HideTextKey {
		opt.TextKey = string(s.cfg.Keys.Text)
	}
	var err error
	if opt.Origins, err = websocket.ParseOrigins(s.cfg.Msg.WebSocketOrigins); err != nil {
		return opt, fmt.Errorf("setting msg.websocket_origins: %w", err)
	}
	servers, err := pages.New(pageServers(s))
	if err != nil {
		return opt, err
	}
	servers.Connect(&opt)
	if servers.Follows() {
		s.ready.Add("web", func(context.Context) error { return servers.Check() })
	}
	return opt, nil
}

// pageServers returns what this process has of the servers that the page's users need.
func pageServers(s *system) pages.Options {
	opt := pages.Options{Config: s.cfg, Budget: s.ports.Budget, Log: s.log}
	if s.registry != nil {
		opt.View = s.registry.View()
	}
	if s.msg != nil {
		opt.Messages = s.pages
		if s.tls == nil || s.pages.Adopts() {
			opt.Adopt = func(t web.Taken) error { return s.pages.Adopt(engine.Taken(t)) }
		}
	}
	if s.file != nil {
		opt.Files = func(addr string) pages.Port { return filePort(s, addr) }
	}
	if s.msfs != nil {
		opt.SmallFiles = s.msfs.server
	}
	if s.api != nil && s.api.register != nil {
		opt.Register = s.api.server
	}
	return opt
}

// filePort returns the port of the file server, if clients are told this address of it.
func filePort(s *system, addr string) pages.Port {
	p := s.ports.Named(config.RoleFile)
	if p == nil || !slices.Contains(clientAddresses(s, p, p.Addr().(*net.TCPAddr)), addr) {
		return nil
	}
	return p
}
