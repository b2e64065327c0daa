package system

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"

	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/obs"
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
	srv := s.serveWeb(l, limit, web.Options{Name: roleWeb, Handler: p})
	s.stops.Push(stops.CloseWeb, "page", srv.Close)
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	s.web = &chatPage{srv, scheme + address.Reachable(l.Addr().String()) + "/"}
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
	if err = connectPages(s, &opt); err != nil {
		return opt, err
	}
	encrypted, err := pageTLS(s)
	if err != nil {
		return opt, err
	}
	remote := func(role string, settings ...string) http.Handler {
		return page.Remote(page.RemoteOptions{URL: locate(s, role, settings), TLS: encrypted,
			Log: s.log})
	}
	if opt.SmallFiles = remote(roleMSFS, cfg.MSFS, s.cfg.Login.MSFSPrior); cfg.MSFS == "" &&
		s.msfs != nil {
		opt.SmallFiles = s.msfs.server
	}
	if opt.Register = remote(roleHTTP, cfg.Register, s.cfg.Login.Register); cfg.Register == "" &&
		s.api != nil && s.api.register != nil {
		opt.Register = s.api.server
	}
	return opt, nil
}

// locate returns a function that returns the URL of a server: that of the first setting that is not
// empty, else that of the first one that is registered.
func locate(s *system, role string, settings []string) func() string {
	for _, u := range settings {
		if u != "" {
			return func() string { return u }
		}
	}
	return func() string {
		if s.registry == nil {
			return ""
		}
		nodes, _ := s.registry.View().Nodes(role)
		for _, n := range nodes {
			switch {
			case n.Pages != "" && s.cfg.MayCarry(n.Pages) != nil: // it would leave without TLS
			case n.Pages != "" && s.cfg.Web.MsgCA != "":
				return "https://" + n.Pages
			case n.Pages != "":
				return "http://" + n.Pages
			}
		}
		return ""
	}
}

// connectPages says how pages reach message servers and file servers: those in this process, or
// those of the settings or of the registry.
func connectPages(s *system, opt *page.Options) error {
	dial := page.DialOptions{Targets: func() []page.Target { return pageTargets(s) },
		Budget: s.budget, Timeout: s.cfg.Link.DialTimeout}
	if file := s.cfg.Web.MsgCA; file != "" {
		roots, err := rootsOf(file, false)
		if err != nil {
			return fmt.Errorf("%w (setting web.msg_ca)", err)
		}
		dial.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	d := page.NewDialer(dial)
	opt.FileServers = pageFiles{s, d}
	if s.msg != nil && (s.tls == nil || s.pages.Adopts()) {
		opt.Adopt = func(t web.Taken) error { return s.pages.Adopt(engine.Taken(t)) }
		return nil
	}
	if s.msg != nil {
		opt.Messages = func(_ context.Context, client netip.AddrPort, secure bool) (
			net.Conn, error) {
			return s.pages.Attach(client, secure)
		}
		return nil
	}
	opt.Messages = d.Dial
	if len(s.cfg.Web.Msg) == 0 {
		s.ready.Add("web", func(context.Context) error { return obs.Degraded(noTarget(s)) })
	}
	return nil
}

// pageFiles are the file servers with which pages exchange files.
type pageFiles struct {
	s *system
	d *page.Dialer
}

// Any reports whether a file server is known.
func (f pageFiles) Any() bool {
	return f.s.file != nil || len(f.known()) > 0
}

// known returns the addresses at which this server reaches file servers in other processes, by
// those that clients are told.
func (f pageFiles) known() map[string]string {
	addrs := map[string]string{}
	for _, addr := range f.s.cfg.Web.File {
		addrs[addr] = addr
	}
	if len(addrs) > 0 || f.s.registry == nil {
		return addrs
	}
	nodes, _ := f.s.registry.View().Nodes(roleFile)
	for _, n := range nodes {
		for _, addr := range n.Clients {
			if n.Pages != "" {
				addrs[addr] = n.Pages
			}
		}
	}
	return addrs
}

// Connect connects a client to a file server. Other addresses are refused: a page must not make
// this server connect to any machine.
func (f pageFiles) Connect(ctx context.Context, addr string, client netip.AddrPort, secure bool) (
	net.Conn, error) {
	for _, p := range f.s.ports {
		if p.name == roleFile && slices.Contains(clientAddresses(f.s, p, p.Addr().(*net.TCPAddr)),
			addr) {
			return p.Attach(client, secure)
		}
	}
	near := f.known()[addr]
	if near == "" {
		return nil, im.Errorf(im.NotFound, "no file server is known at this address")
	}
	if err := f.s.cfg.MayCarry(near); err != nil {
		return nil, err
	}
	return f.d.To(ctx, near, client, secure)
}

// pageTargets returns the message servers in other processes that take pages.
func pageTargets(s *system) (list []page.Target) {
	for _, addr := range s.cfg.Web.Msg {
		list = append(list, page.Target{Addr: addr})
	}
	if len(list) > 0 || s.registry == nil {
		return list
	}
	nodes, _ := s.registry.View().Nodes(roleMsg)
	for _, n := range nodes {
		if n.Pages == "" || n.Draining || s.cfg.MayCarry(n.Pages) != nil {
			continue
		}
		list = append(list, page.Target{Addr: n.Pages, Connections: n.Load.Users,
			Capacity: n.Capacity})
	}
	return list
}

// noTarget says why no registered message server takes pages; nil when one does.
func noTarget(s *system) error {
	if len(pageTargets(s)) > 0 {
		return nil
	}
	nodes, _ := s.registry.View().Nodes(roleMsg)
	for _, n := range nodes {
		if n.Pages == "" || n.Draining {
			continue
		}
		if err := s.cfg.MayCarry(n.Pages); err != nil {
			return err
		}
	}
	return errors.New("no message server is registered that takes pages: set " +
		"msg.websocket_listen there")
}

// pageTLS returns the configuration for URLs of other servers. The CA of the settings may have
// signed their certificates, beside those of the system.
func pageTLS(s *system) (*tls.Config, error) {
	file := s.cfg.Web.MsgCA
	if file == "" {
		return nil, nil
	}
	roots, err := rootsOf(file, true)
	if err != nil {
		return nil, fmt.Errorf("%w (setting web.msg_ca)", err)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// rootsOf returns the certificates in a file, and those of the system beside them if system is
// true. Without a file it returns nil.
func rootsOf(file string, system bool) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if system {
		if all, err := x509.SystemCertPool(); err == nil {
			roots = all
		}
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return roots, nil
}
