// Package ports opens the ports of a process: those of the engine, for clients and for other
// servers, and the HTTP ports. They share what a process has once: its file descriptors, the
// bounds of connections without a login, the proxies in front of it, and its TLS.
package ports

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/system/encryption"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/budget"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/origin"
	"teamtalk/core/proxyproto"
)

// Options configure Ports. All but Clients and Servers are required.
type Options struct {
	Config *config.Config
	// Clients is the TLS of the ports for clients, and Servers that between servers; nil: none.
	Clients *encryption.Clients
	Servers *encryption.Servers
	// Ended is called at the end of each turn of a loop, see engine.Options.
	Ended func(began time.Time)
	// Failed is told why a port ended by itself. Any goroutine.
	Failed func(error)
	// Stops gets the stops of the engine's ports.
	Stops      *stops.Stack
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Ports are the ports of a process.
type Ports struct {
	// Budget counts the connections of all ports.
	Budget *budget.Budget
	// Trusted are the networks that have no bound for an address.
	Trusted origin.Networks

	opt Options
	// strangers bounds the connections without a login on the clients' ports.
	strangers *engine.Strangers
	// forwarders are the networks of HTTP proxies.
	forwarders origin.Networks
	proxies    *proxyproto.Proxies

	list []*Port // in the order of opening
	webs []webPort
}

// Port is a port of the engine. The Server is nil until it is open.
type Port struct {
	Name    string // for the banner and errors, such as "clients"
	Clients bool   // the peers are users' clients, not servers
	*engine.Server
}

// New returns Ports that are all closed. It returns an error for settings that are wrong, and when
// the limit of open files cannot be read.
func New(opt Options) (*Ports, error) {
	p := &Ports{opt: opt}
	var err error
	if p.Budget, err = budget.New(); err != nil {
		return nil, err
	}
	p.reportShed()
	cfg := opt.Config
	p.Trusted, err = origin.ParseNetworks("strangers.trusted_networks", cfg.Strangers.Trusted)
	if err != nil {
		return nil, err
	}
	p.forwarders, err = origin.ParseNetworks("http.trusted_proxies", cfg.HTTP.TrustedProxies)
	if err != nil {
		return nil, err
	}
	p.strangers = newStrangers(&cfg.Strangers, p.Trusted, opt.Registerer)
	p.proxies, err = newProxies(&cfg.Proxy, p.Budget.Limit(), opt.Log, opt.Registerer)
	return p, err
}

// Open opens a port. where names the setting, for the error. An empty address opens no port and
// leaves its Server nil.
func (p *Ports) Open(port *Port, where, addr string, opt engine.Options) error {
	if addr == "" {
		return nil
	}
	if err := p.Serve(port, where, addr, opt); err != nil {
		return err
	}
	p.list = append(p.list, port)
	return nil
}

// Serve starts the engine of a port, which List does not return. With an empty address it has no
// listener.
func (p *Ports) Serve(port *Port, where, addr string, opt engine.Options) error {
	opt.Name, opt.Addr = port.Name, addr
	opt.Loops, opt.Budget, opt.Ended = p.opt.Config.Loops, p.Budget, p.opt.Ended
	opt.Log, opt.Registerer = p.opt.Log, p.opt.Registerer
	last := stops.CloseServers
	if port.Clients {
		last = stops.CloseClients
		opt.Strangers, opt.Proxies = p.strangers, p.proxies
		p.opt.Clients.Port(&opt)
	} else {
		opt.MaxFrame, opt.MaxBuffered = p.opt.Config.LinkFrame(), 64<<20
		p.opt.Servers.Port(&opt)
	}
	srv, err := engine.Start(opt)
	if err != nil {
		return fmt.Errorf("%w (setting %s)", err, where)
	}
	port.Server = srv
	name := "port for " + port.Name
	p.opt.Stops.Push(stops.RefuseConnections, name, stops.Plainly(srv.Refuse))
	p.opt.Stops.Push(last, name, srv.Close)
	go func() {
		if err := srv.Err(); err != nil {
			p.opt.Failed(fmt.Errorf("%s: %w", name, err))
		}
	}()
	return nil
}

// List returns the ports of the engine that are open, in the order of opening.
func (p *Ports) List() []*Port { return p.list }

// Named returns the open port of the engine with a name; nil: there is none.
func (p *Ports) Named(name string) *Port {
	for _, port := range p.list {
		if port.Name == name {
			return port
		}
	}
	return nil
}

// Beyond reports whether other machines reach a port for clients, or one for servers.
func (p *Ports) Beyond(clients bool) bool {
	beyond := func(a net.Addr) bool {
		at, ok := a.(*net.TCPAddr)
		return ok && !at.IP.IsLoopback()
	}
	return clients && slices.ContainsFunc(p.webs, func(w webPort) bool { return beyond(w.addr) }) ||
		slices.ContainsFunc(p.list, func(port *Port) bool {
			return port.Clients == clients && beyond(port.Addr())
		})
}
