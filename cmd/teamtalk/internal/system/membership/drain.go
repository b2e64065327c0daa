package membership

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/backoff"
	"teamtalk/core/config"
	"teamtalk/core/registry"
)

// A role that drains takes no new work and ends what it has. All roles drain when the process
// stops, some when an operator orders it. The registry says so, and other servers use the roles
// no more.

// draining is the roles that drain.
type draining struct {
	mu      sync.Mutex
	all     bool
	ordered []string
	clients *stops.Background // releases the message server's clients; nil: none is released
}

// Drains reports whether a role drains. Any goroutine.
func (m *Member) Drains(role string) bool {
	d := &m.draining
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all || slices.Contains(d.ordered, role)
}

// order makes the roles drain that an operator has ordered to, and others serve again. It does
// not wait.
func (m *Member) order(nodes []registry.Key) {
	d, roles := &m.draining, m.opt.Config.Roles
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.ordered
	d.ordered = nil
	for _, n := range nodes {
		d.ordered = append(d.ordered, n.Role)
	}
	if len(nodes) > 0 {
		m.opt.Log.Info("an operator has ordered roles to drain", "roles", d.ordered)
	} else {
		m.opt.Log.Info("an operator has ordered all roles to serve")
	}
	m.opt.Ready.Remove("drain")
	if len(d.ordered) == len(roles) {
		m.opt.Ready.Set("drain", errors.New("all roles drain, by order of an operator"))
	}
	for _, role := range roles {
		if on := slices.Contains(d.ordered, role); on != slices.Contains(before, role) {
			m.setDraining(role, on)
		}
	}
	m.Registry.Refresh()
}

// setDraining makes a role drain or serve. With the mutex of draining held.
func (m *Member) setDraining(role string, on bool) {
	switch role {
	case config.RoleDBProxy:
		m.servers.Requests.SetDraining(on)
	case config.RoleMsg:
		m.draining.stopReleasing()
		if on {
			m.draining.clients = stops.InBackground(m.release)
		} else {
			m.servers.Messages.SetDraining(false)
		}
	}
}

// stopReleasing lets the clients stay that are not released yet. With mu held.
func (d *draining) stopReleasing() {
	if d.clients != nil {
		d.clients.Cancel()
		d.clients = nil
	}
}

// release refuses new clients, once no login server sends any here, and releases all others until
// ctx ends. Those that are busy at first are released once they are not.
func (m *Member) release(ctx context.Context) {
	m.tellLogins(ctx)
	m.draining.mu.Lock()
	if ctx.Err() == nil {
		m.servers.Messages.SetDraining(true)
	}
	m.draining.mu.Unlock()
	m.logRelease(m.opt.Config.Msg.Release)
	for over := m.opt.Config.Msg.Release; ctx.Err() == nil; over = time.Second {
		if !m.servers.Messages.Release(ctx, over) {
			m.opt.Log.Info("no client is left", "role", config.RoleMsg)
			return
		}
	}
}

// announceEnd tells the other servers that all roles drain. Login servers send clients here until
// they have read it. These are served, since a stock client that is refused pauses for seconds.
func (m *Member) announceEnd(ctx context.Context) error {
	d := &m.draining
	d.mu.Lock()
	d.all = true
	d.stopReleasing() // the stops go on with it
	d.mu.Unlock()
	m.Registry.Refresh()
	m.tellLogins(ctx)
	return nil
}

// tellLogins waits until the login servers that read the registry have read that the message
// server of this process, if it has one, drains.
func (m *Member) tellLogins(ctx context.Context) {
	logins, _ := m.Registry.View().Nodes(config.RoleLogin)
	others := slices.ContainsFunc(logins, m.elsewhere)
	if m.servers.Messages != nil && (others || m.ReadByLogins()) && m.Registry.State() == nil {
		_ = backoff.Sleep(ctx, m.opt.Config.Registry.Poll)
	}
}

// elsewhere reports whether a server is in another process.
func (m *Member) elsewhere(n registry.Node) bool { return n.Name != m.Name }

// releaseAtEnd releases the message server's clients over the time in the settings, if other
// message servers are registered. Otherwise nobody could take them, and they end together.
func (m *Member) releaseAtEnd(ctx context.Context) error {
	others, _ := m.Registry.View().Nodes(config.RoleMsg)
	var over time.Duration
	if slices.ContainsFunc(others, func(n registry.Node) bool {
		return m.elsewhere(n) && !n.Draining
	}) {
		over = min(m.opt.Config.Msg.Release, m.opt.Config.ShutdownTimeout/2)
	}
	m.logRelease(over)
	if over > 0 {
		m.servers.Messages.Release(ctx, over)
	}
	return nil
}

// logRelease logs over which time the connections of clients end.
func (m *Member) logRelease(over time.Duration) {
	m.opt.Log.Info("ending the connections of clients", "role", config.RoleMsg,
		"users", m.servers.Messages.Online(), "over", over)
}
