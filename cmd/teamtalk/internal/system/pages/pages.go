// Package pages connects the chat page of a process to the servers that its users need: message
// servers, file servers, small files and registration. Each of them is the one in the same process,
// those that the settings name, or those that are registered.
package pages

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"teamtalk/core/budget"
	"teamtalk/core/config"
	"teamtalk/core/obs"
	"teamtalk/core/registry"
	"teamtalk/core/web"
	page "teamtalk/handlers/web"
)

// Port is a port of this process, to which a client is connected without a socket.
type Port interface {
	// Attach connects a client, see engine.Server.
	Attach(client netip.AddrPort, secure bool) (net.Conn, error)
}

// Options say what a process has. Config, Budget and Log are required.
type Options struct {
	Config *config.Config
	// View has the registered servers; nil: there is no registry.
	View *registry.View
	// Budget counts the connections to other processes.
	Budget *budget.Budget
	// Messages is the port of the message server in this process; nil: there is none.
	Messages Port
	// Adopt makes the connection of a page one of that message server; nil: Messages attaches it.
	Adopt func(web.Taken) error
	// Files returns the port of the file server in this process if clients are told this address
	// of it, and nil for other addresses. nil: there is no file server in this process.
	Files func(addr string) Port
	// SmallFiles and Register answer in this process; nil: they are elsewhere.
	SmallFiles, Register http.Handler
	Log                  *slog.Logger
}

// Servers are the servers that a page's users need.
type Servers struct {
	opt  Options
	dial *page.Dialer
	urls *tls.Config // for URLs of other servers; nil: the default
}

// New returns the servers. It reads the file of web.msg_ca, and returns an error that names the
// setting.
func New(opt Options) (*Servers, error) {
	s := &Servers{opt: opt}
	dial := page.DialOptions{Targets: s.targets, Budget: opt.Budget,
		Timeout: opt.Config.Link.DialTimeout}
	if file := opt.Config.Web.MsgCA; file != "" {
		var err error
		if dial.TLS, err = trusting(file, false); err != nil {
			return nil, err
		}
		// The CA may have signed their certificates, beside those of the system.
		if s.urls, err = trusting(file, true); err != nil {
			return nil, err
		}
	}
	s.dial = page.NewDialer(dial)
	return s, nil
}

// Connect sets how pages reach the servers.
func (s *Servers) Connect(opt *page.Options) {
	opt.FileServers = files{s}
	opt.Messages, opt.Adopt = s.dial.Dial, s.opt.Adopt
	if here := s.opt.Messages; here != nil {
		opt.Messages = func(_ context.Context, client netip.AddrPort, secure bool) (
			net.Conn, error) {
			return here.Attach(client, secure)
		}
	}
	cfg, login := &s.opt.Config.Web, &s.opt.Config.Login
	opt.SmallFiles = s.handler(config.RoleMSFS, s.opt.SmallFiles, cfg.MSFS, login.MSFSPrior)
	opt.Register = s.handler(config.RoleHTTP, s.opt.Register, cfg.Register, login.Register)
}

// handler returns what answers requests for a server: the one in this process, unless the setting
// names another one, or the one at the setting, else at prior, else one that is registered.
func (s *Servers) handler(role string, here http.Handler, setting, prior string) http.Handler {
	if setting == "" && here != nil {
		return here
	}
	return page.Remote(page.RemoteOptions{URL: s.locate(role, setting, prior), TLS: s.urls,
		Log: s.opt.Log})
}

// Follows reports whether pages are connected to the message servers that are registered.
func (s *Servers) Follows() bool {
	return s.opt.Messages == nil && len(s.opt.Config.Web.Msg) == 0
}

// Check says why no registered message server takes pages; nil when one does.
func (s *Servers) Check() error {
	if len(s.targets()) > 0 {
		return nil
	}
	for _, n := range s.nodes(config.RoleMsg) {
		if n.Pages == "" || n.Draining {
			continue
		}
		if err := s.opt.Config.MayCarry(n.Pages); err != nil {
			return obs.Degraded(err)
		}
	}
	return obs.Degraded(errors.New("no message server is registered that takes pages: set " +
		"msg.websocket_listen there"))
}

// nodes returns the registered servers of a role.
func (s *Servers) nodes(role string) []registry.Node {
	if s.opt.View == nil {
		return nil
	}
	nodes, _ := s.opt.View.Nodes(role)
	return nodes
}

// locate returns a function that returns the URL of a server: that of the first setting that is
// not empty, else that of the first one that is registered.
func (s *Servers) locate(role string, settings ...string) func() string {
	for _, u := range settings {
		if u != "" {
			return func() string { return u }
		}
	}
	c := s.opt.Config
	return func() string {
		for _, n := range s.nodes(role) {
			switch {
			case n.Pages != "" && c.MayCarry(n.Pages) != nil: // it would leave without TLS
			case n.Pages != "" && c.Web.MsgCA != "":
				return "https://" + n.Pages
			case n.Pages != "":
				return "http://" + n.Pages
			}
		}
		return ""
	}
}

// targets returns the message servers in other processes that take pages.
func (s *Servers) targets() (list []page.Target) {
	for _, addr := range s.opt.Config.Web.Msg {
		list = append(list, page.Target{Addr: addr})
	}
	if len(list) > 0 {
		return list
	}
	for _, n := range s.nodes(config.RoleMsg) {
		if n.Pages == "" || n.Draining || s.opt.Config.MayCarry(n.Pages) != nil {
			continue
		}
		list = append(list, page.Target{Addr: n.Pages, Connections: n.Load.Users,
			Capacity: n.Capacity})
	}
	return list
}

// trusting returns a configuration that trusts the certificates in the file of web.msg_ca.
func trusting(file string, system bool) (*tls.Config, error) {
	roots, err := Roots(file, system)
	if err != nil {
		return nil, fmt.Errorf("%w (setting web.msg_ca)", err)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}
