package link

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"teamtalk/core/hash"
)

// Server is a member of a Group, with the connections to it.
type Server struct {
	// Name identifies the server: callers with the same name for it select it for the same
	// keys, whatever else is in their lists. It is the address in the configuration.
	Name string
	// Conns are the connections, each with its own Dial.
	Conns []Peer
}

// Address is a server of a group whose servers change.
type Address struct {
	Name string // stays the same when the server moves: keys follow it
	Addr string // where it is now, for the function that connects to it
}

// server is a server of a group.
type server struct {
	name   string
	addr   string // of a group whose servers change
	hash   uint64
	number int             // the server's bit in parked.tried, if it is below maxTried
	conns  []*member       // never changed
	left   atomic.Bool     // it was removed, and gets no more requests
	sole   context.Context // ends when another server has the name
	yields func()          // ends sole
}

// member is a connection of a group.
type member struct {
	Peer
	server *server
}

func newServer(name string, number int, conns []Peer) *server {
	s := &server{name: name, hash: hash.Name(name), number: number}
	s.sole, s.yields = context.WithCancel(context.Background())
	for _, p := range conns {
		s.conns = append(s.conns, &member{p, s})
	}
	return s
}

// roster is the servers of a group at a time. It is never changed, only replaced.
type roster struct {
	servers []*server
	members []*member // the connections of all servers
}

func rosterOf(servers []*server) *roster {
	r := &roster{servers: servers}
	for _, s := range servers {
		r.members = append(r.members, s.conns...)
	}
	return r
}

func (r *roster) find(name string) *server {
	i := slices.IndexFunc(r.servers, func(s *server) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return r.servers[i]
}

// NewGroup returns a group whose servers do not change. Servers with the same name are one,
// with the connections of all of them. The group owns the connections: Close closes them.
// The log may be nil.
func NewGroup(name string, log *slog.Logger, servers ...Server) *Group {
	conns := map[string][]Peer{}
	for _, s := range servers {
		conns[s.Name] = append(conns[s.Name], s.Conns...)
	}
	var list []*server
	for _, s := range servers {
		if len(conns[s.Name]) > 0 {
			list = append(list, newServer(s.Name, len(list), conns[s.Name]))
			delete(conns, s.Name)
		}
	}
	return newGroup(name, log, list)
}

// NewChangingGroup returns a group whose servers SetServers sets. It has none before. dial
// opens the connections to a server, as Dial does, and must not wait. The log may be nil.
func NewChangingGroup(name string, log *slog.Logger, dial func(Address) []Peer) *Group {
	g := newGroup(name, log, nil)
	g.dial = dial
	return g
}

// Linger lets connections to a server that is removed stay open for d at most, for messages that
// the server sends by itself, until it closes them or another one has its name. It must be called
// before SetServers.
func (g *Group) Linger(d time.Duration) { g.linger = d }

func newGroup(name string, log *slog.Logger, servers []*server) *Group {
	g := &Group{name: name, log: logFor(log, name)}
	g.roster.Store(rosterOf(servers))
	g.all.group = g
	return g
}

// SetServers makes these servers those of a group made by NewChangingGroup. Of several with one
// name it takes the first. Connections to a server stay while it has its address. The others get
// no further request, take the answers that are due, and are closed then. Only keys of servers
// that join or leave move to others, and a key with open calls moves when they have ended. After
// Close it does nothing. It does not wait. Any goroutine.
func (g *Group) SetServers(list []Address) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	old := g.roster.Load()
	next := &roster{}
	for _, a := range list {
		if next.find(a.Name) != nil {
			continue
		}
		s := old.find(a.Name)
		if s == nil || s.addr != a.Addr {
			for _, o := range slices.Concat(old.servers, g.leaving) {
				if o.name == a.Name {
					o.yields()
				}
			}
			s = newServer(a.Name, g.freeNumber(old, next), g.dial(a))
			s.addr = a.Addr
		}
		next.servers = append(next.servers, s)
	}
	g.roster.Store(rosterOf(next.servers))
	for _, s := range old.servers {
		if !slices.Contains(next.servers, s) {
			g.remove(s)
		}
	}
}

// Drain removes all servers, and returns when their links are closed.
func (g *Group) Drain() {
	g.SetServers(nil)
	g.drains.Wait()
}

// Empty reports whether the group has no server, not even one that is down.
func (g *Group) Empty() bool { return len(g.roster.Load().servers) == 0 }

// freeNumber returns the lowest number that no server has, also none that was removed and is
// not closed. With mu held.
func (g *Group) freeNumber(of ...*roster) int {
	for n := 0; ; n++ {
		has := func(s *server) bool { return s.number == n }
		if !slices.ContainsFunc(g.leaving, has) &&
			!slices.ContainsFunc(of, func(r *roster) bool {
				return slices.ContainsFunc(r.servers, has)
			}) {
			return n
		}
	}
}

// drainer is a peer that can be closed without the loss of an answer. Remote is.
type drainer interface {
	Retire() (ended <-chan struct{})
	Drain()
}

// remove closes the connections to a server when the answers that are due have arrived. With
// mu held.
func (g *Group) remove(s *server) {
	s.left.Store(true)
	g.leaving = append(g.leaving, s)
	g.drains.Go(func() {
		s.wait(g.linger)
		for _, m := range s.conns {
			if d, ok := m.Peer.(drainer); ok {
				d.Drain()
			}
			_ = m.Close() // Group.Close returns its errors
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.leaving = slices.DeleteFunc(g.leaving, func(o *server) bool { return o == s })
	})
}

// wait waits until the connections end, for d at most, or another server has the name.
func (s *server) wait(d time.Duration) {
	ctx, cancel := context.WithTimeout(s.sole, d)
	defer cancel()
	var ends []<-chan struct{}
	for _, m := range s.conns {
		if r, ok := m.Peer.(drainer); ok {
			ends = append(ends, r.Retire())
		}
	}
	for _, ended := range ends {
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
}

// Close closes all connections, also those that wait for answers.
func (g *Group) Close() error {
	g.mu.Lock()
	g.closed = true
	servers := slices.Concat(g.roster.Load().servers, g.leaving)
	g.mu.Unlock()
	var errs []error
	for _, s := range servers {
		for _, m := range s.conns {
			errs = append(errs, m.Close())
		}
	}
	g.drains.Wait()
	return errors.Join(errs...)
}
