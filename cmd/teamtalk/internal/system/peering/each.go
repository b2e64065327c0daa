package peering

import (
	"errors"
	"slices"
	"sync"

	"teamtalk/core/link"
	"teamtalk/core/session"
)

// Member is one of several servers of a role that cannot stand in for each other.
type Member struct {
	// Handler receives the frames of the server.
	Handler session.LinkHandler
	// Joined is called with the link to the server, and Left when it is not registered any
	// more. From then on the link takes the answers that are due, and is closed.
	Joined func(*link.Group)
	Left   func()
}

// Each keeps a link to each registered server of a role but the one in this process, which own
// says there is. join is called for each server that is new, from one goroutine. The returned
// function closes the links.
func (l *Linker) Each(role string, own bool, join func() Member) (stop func() error) {
	e := &each{l: l, role: role, join: join, now: map[string]*member{},
		open: map[*link.Group]struct{}{}}
	end := l.watch(role, own, e.set)
	return func() error {
		end()
		return e.close()
	}
}

// each is the links of Each.
type each struct {
	l    *Linker
	role string
	join func() Member
	now  map[string]*member // the registered servers, by name; used by watch only

	mu     sync.Mutex
	open   map[*link.Group]struct{} // of servers that are registered, or have left
	drains sync.WaitGroup
}

// member is a server and its link.
type member struct {
	Member
	group *link.Group
}

// set makes these servers those that are linked to.
func (e *each) set(list []link.Address) {
	for name, m := range e.now {
		if !slices.ContainsFunc(list, func(a link.Address) bool { return a.Name == name }) {
			delete(e.now, name)
			e.leave(m)
		}
	}
	for _, a := range list {
		m := e.now[a.Name]
		if m == nil {
			m = e.add()
			e.now[a.Name] = m
		}
		m.group.SetServers([]link.Address{a})
	}
}

// add returns a new member, whose server is not set.
func (e *each) add() *member {
	m := &member{Member: e.join()}
	m.group = link.NewChangingGroup(e.role, e.l.opt.Log, func(a link.Address) []link.Peer {
		return e.l.dial(Peers{Role: e.role, Handler: m.Handler}, a)
	})
	e.mu.Lock()
	e.open[m.group] = struct{}{}
	e.mu.Unlock()
	m.Joined(m.group)
	return m
}

// leave ends a member whose server is not registered any more.
func (e *each) leave(m *member) {
	m.group.SetServers(nil)
	m.Left()
	e.drains.Go(func() {
		m.group.Drain()
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.open, m.group)
	})
}

// close closes all links, also those that wait for answers.
func (e *each) close() error {
	e.mu.Lock()
	var groups []*link.Group
	for g := range e.open {
		groups = append(groups, g)
	}
	e.mu.Unlock()
	var errs []error
	for _, g := range groups {
		errs = append(errs, g.Close())
	}
	e.drains.Wait()
	return errors.Join(errs...)
}
