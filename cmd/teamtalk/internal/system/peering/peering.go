// Package peering links the servers of a process to those that they need: to the server in the
// same process, to those at the addresses of a setting, or to those that are registered.
//
// Registered servers are used when the setting names none. Their links follow the registry: a
// server that registers is connected to, one that is registered at another address is connected
// to there, and one that leaves or whose lease ends gets no more requests, and its link is closed
// when the answers that are due have arrived. Requests are spread by the names of the servers, so
// all processes send those of one key to the same server. While the registry cannot be read, the
// servers that are known stay.
//
// A server in the same process is one of them under the name of the process, if other processes
// reach it as well. One without a port, and a db_proxy with an embedded store, is used alone:
// nobody else shares it, and what it stores is stored nowhere else.
package peering

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"

	"teamtalk/core/config"
	"teamtalk/core/link"
	"teamtalk/core/obs"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// dbproxy is the role that holds the store.
const dbproxy = "dbproxy"

// Options configure a Linker. All but View and Dial are required.
type Options struct {
	Config *config.Config
	// View has the registered servers; nil: there is no registry. Node is the name of this
	// process in it.
	View *registry.View
	Node string
	// MaxFrame is the longest frame between servers, in bytes.
	MaxFrame int
	// Dial opens a connection. nil: without TLS.
	Dial    func(ctx context.Context, addr string) (net.Conn, error)
	Answers *link.Answers
	Metrics *link.Metrics
	Log     *slog.Logger
}

// Linker opens links. Any goroutine.
type Linker struct {
	opt Options

	mu      sync.Mutex
	refused map[string]error // by role: why a registered server is not connected to
}

// New returns a Linker.
func New(opt Options) *Linker { return &Linker{opt: opt, refused: map[string]error{}} }

// Peers are the servers of one role, and how a server talks to them.
type Peers struct {
	Role    string
	Here    session.LinkHandler // the server in this process; nil: there is none
	Addrs   []string            // of servers in other processes
	Conns   int                 // connections to each of them; 0: one
	Handler session.LinkHandler // of the calling server: receives the peers' frames
	// Listed says that Here and Addrs are all, whatever is registered.
	Listed bool
}

// Open opens links to the servers of one role. The returned function closes them.
func (l *Linker) Open(p Peers) (*link.Group, func() error, error) {
	var local []link.Peer
	if p.Here != nil {
		pipe, err := l.local(p)
		if err != nil {
			return nil, nil, err
		}
		local = []link.Peer{pipe}
	}
	if l.Follows(p) {
		g, stop := l.follow(p, local)
		return g, stop, nil
	}
	all := []link.Server{{Name: p.Role, Conns: local}}
	for _, addr := range p.Addrs {
		all = append(all, link.Server{Name: addr, Conns: l.dial(p, link.Address{Addr: addr})})
	}
	g := link.NewGroup(p.Role, l.opt.Log, all...)
	end := l.warnUnused(p)
	return g, func() error {
		end()
		return g.Close()
	}, nil
}

// warnUnused logs a warning when a server of the role is registered that this process does not use,
// because it uses its own alone or those of a list, until the returned function is called.
func (l *Linker) warnUnused(p Peers) (end func()) {
	told := false
	warn := func(others []link.Address, text string, attrs ...any) {
		if len(others) > 0 && !told {
			told = true
			l.opt.Log.Warn(text, append([]any{"role", p.Role, "node", others[0].Name, "addr",
				others[0].Addr}, attrs...)...)
		}
	}
	switch {
	case l.opt.View == nil || p.Listed:
		return func() {}
	case len(p.Addrs) > 0:
		return l.watch(p.Role, p.Here != nil, func(others []link.Address) {
			warn(slices.DeleteFunc(others, func(a link.Address) bool {
				return slices.Contains(p.Addrs, a.Addr)
			}), "a registered server is not used, because the settings of this process list the "+
				"servers of its role: empty the list to use all that are registered", "list",
				p.Addrs)
		})
	}
	why := "no port for servers is open"
	if l.opt.Config.Serves(p.Role) {
		why = "its store is embedded"
	}
	return l.watch(p.Role, true, func(others []link.Address) {
		warn(others, "a server of another process is registered, but this process uses its own "+
			"alone: users of the two do not see each other", "because", why)
	})
}

// Follows reports whether Open links to the registered servers: the setting names none, and a
// server in this process is reached by others as well.
func (l *Linker) Follows(p Peers) bool {
	c := l.opt.Config
	return l.opt.View != nil && !p.Listed && len(p.Addrs) == 0 &&
		(p.Here == nil || c.Serves(p.Role) && (p.Role != dbproxy || c.Store == "mysql"))
}

// Check returns why no server of a group takes requests; nil when one does.
func (l *Linker) Check(g *link.Group) error {
	l.mu.Lock()
	refused := l.refused[g.Name()]
	l.mu.Unlock()
	switch {
	case g.Empty() && refused != nil:
		return fmt.Errorf("no %s server is connected: %w", g.Name(), refused)
	case g.Empty():
		return fmt.Errorf("no %s server is registered", g.Name())
	case !g.Up():
		return fmt.Errorf("no %s server is connected", g.Name())
	case g.Withdrawn() && l.allDrain(g.Name()):
		return obs.Degraded(fmt.Errorf("every %s server drains by order, and is used all the same",
			g.Name()))
	case g.Withdrawn():
		return fmt.Errorf("the store of every %s server fails, or it drains", g.Name())
	}
	return nil
}

// allDrain reports whether servers of a role are registered, and all of them drain.
func (l *Linker) allDrain(role string) bool {
	if l.opt.View == nil {
		return false
	}
	nodes, _ := l.opt.View.Nodes(role)
	return len(nodes) > 0 &&
		!slices.ContainsFunc(nodes, func(n registry.Node) bool { return !n.Draining })
}

// features returns what this process tells the servers of a role.
func features(role string) uint32 {
	if role != dbproxy {
		return 0
	}
	return uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS | pb.ServerFeature_SERVER_FEATURE_PARTS)
}

// local links to the server in this process.
func (l *Linker) local(p Peers) (*link.Pipe, error) {
	return link.Local(link.LocalOptions{
		Name: p.Role, CallerName: "msg", Caller: p.Handler, Callee: p.Here,
		Features:    features(p.Role),
		CallTimeout: l.opt.Config.Link.CallTimeout, Log: l.opt.Log, Metrics: l.opt.Metrics,
	})
}

// dial opens the connections to a server in another process. One without a name is not in the
// registry.
func (l *Linker) dial(p Peers, a link.Address) (conns []link.Peer) {
	c, log := &l.opt.Config.Link, l.opt.Log
	if a.Name != "" {
		log = log.With("node", a.Name)
	}
	for range max(p.Conns, 1) {
		conns = append(conns, link.Dial(link.Options{
			Name: p.Role, Addr: a.Addr, Handler: p.Handler, Features: features(p.Role),
			Self: strings.TrimSuffix(strings.Join(l.opt.Config.Roles, ",")+"/"+l.opt.Node, "/"),
			Dial: l.opt.Dial, DialTimeout: c.DialTimeout,
			Heartbeat: c.Heartbeat, IdleLimit: c.Timeout,
			MaxBackoff: c.BackoffMax, CallTimeout: c.CallTimeout,
			MaxFrame: l.opt.MaxFrame, Answers: l.opt.Answers, Log: log,
			Metrics: l.opt.Metrics,
		}))
	}
	return conns
}

// follow returns a group of the registered servers of a role. local is the link to the one in
// this process, if there is one.
func (l *Linker) follow(p Peers, local []link.Peer) (*link.Group, func() error) {
	g := link.NewChangingGroup(p.Role, l.opt.Log, func(a link.Address) []link.Peer {
		if a.Addr == here {
			return local
		}
		return l.dial(p, a)
	})
	if talks(p.Role) {
		g.Linger(l.opt.Config.ShutdownTimeout)
	}
	end := l.watch(p.Role, p.Here != nil, func(list []link.Address) {
		if p.Here != nil {
			list = append(list, link.Address{Name: l.opt.Node, Addr: here})
		}
		g.SetServers(list)
	})
	return g, func() error {
		end()
		return g.Close()
	}
}

// talks reports whether the servers of a role send messages by themselves. A link to one that
// leaves stays open until it has stopped, or for shutdown_timeout: a route server passes on what
// the clients of a message server in its process write to the end, and a push server reports on
// its last pushes.
func talks(role string) bool { return role == "route" || role == "push" }

// registered returns the role under which the servers of a role are registered. Without route
// servers, message servers take their part.
func (l *Linker) registered(role string) string {
	if role == "route" && l.opt.Config.Msg.Whereabouts == "redis" {
		return "msg"
	}
	return role
}

// here is the address of the server in this process, which no other has.
const here = ""

// watch calls set with the registered servers of a role: at once, and whenever they change, from
// one goroutine, until the returned function is called. own says that the server of this process
// is linked to without the registry.
func (l *Linker) watch(role string, own bool, set func([]link.Address)) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	nodes, changed := l.opt.View.Nodes(l.registered(role))
	set(l.addresses(role, own, nodes))
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			nodes, changed = l.opt.View.Nodes(l.registered(role))
			set(l.addresses(role, own, nodes))
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

// addresses returns the servers among nodes that this process connects to.
func (l *Linker) addresses(role string, own bool, nodes []registry.Node) (list []link.Address) {
	var refused error
	for _, n := range nodes {
		if n.Addr == "" || own && n.Name == l.opt.Node {
			continue
		}
		if err := l.opt.Config.MayDial(n.Addr); err != nil {
			refused = err
			l.opt.Log.Warn("a registered server is not connected to", "role", role,
				"node", n.Name, "addr", n.Addr, "err", err)
			continue
		}
		list = append(list, link.Address{Name: n.Name, Addr: n.Addr})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[role] = refused
	return slices.Clip(list)
}
