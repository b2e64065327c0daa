package system

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/backoff"
	"teamtalk/core/registry"
)

// A role that drains takes no new work and ends what it has. All roles drain when the process
// stops, some when an operator orders it. The registry says so, and other servers use the roles
// no more.

// draining is the roles that drain.
type draining struct {
	s       *system
	mu      sync.Mutex
	all     bool
	ordered []string
	clients *stops.Background // releases the message server's clients; nil: none is released
}

// has reports whether a role drains.
func (d *draining) has(role string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all || slices.Contains(d.ordered, role)
}

// order makes the roles drain that an operator has ordered to, and others serve again. It does
// not wait.
func (d *draining) order(nodes []registry.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.ordered
	d.ordered = nil
	for _, n := range nodes {
		d.ordered = append(d.ordered, n.Role)
	}
	if len(nodes) > 0 {
		d.s.log.Info("an operator has ordered roles to drain", "roles", d.ordered)
	} else {
		d.s.log.Info("an operator has ordered all roles to serve")
	}
	d.s.ready.Remove("drain")
	if len(d.ordered) == len(d.s.cfg.Roles) {
		d.s.ready.Set("drain", errors.New("all roles drain, by order of an operator"))
	}
	for _, role := range d.s.cfg.Roles {
		if on := slices.Contains(d.ordered, role); on != slices.Contains(before, role) {
			d.set(role, on)
		}
	}
	d.s.registry.Refresh()
}

// set makes a role drain or serve. With mu held.
func (d *draining) set(role string, on bool) {
	switch role {
	case RoleDBProxy:
		d.s.db.SetDraining(on)
	case roleMsg:
		d.stopReleasing()
		if on {
			d.clients = stops.InBackground(d.release)
		} else {
			d.s.msg.SetDraining(false)
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
func (d *draining) release(ctx context.Context) {
	d.tellLogins(ctx)
	d.mu.Lock()
	if ctx.Err() == nil {
		d.s.msg.SetDraining(true)
	}
	d.mu.Unlock()
	d.logRelease(d.s.cfg.Msg.Release)
	for over := d.s.cfg.Msg.Release; ctx.Err() == nil; over = time.Second {
		if !d.s.msg.Release(ctx, over) {
			d.s.log.Info("no client is left", "role", roleMsg)
			return
		}
	}
}

// announceEnd tells the other servers that all roles drain. Login servers send clients here until
// they have read it. These are served, since a stock client that is refused pauses for seconds.
func (d *draining) announceEnd(ctx context.Context) error {
	d.mu.Lock()
	d.all = true
	d.stopReleasing() // the stops go on with it
	d.mu.Unlock()
	d.s.registry.Refresh()
	d.tellLogins(ctx)
	return nil
}

// tellLogins waits until the login servers that read the registry have read that the message
// server of this process, if it has one, drains.
func (d *draining) tellLogins(ctx context.Context) {
	logins, _ := d.s.registry.View().Nodes(roleLogin)
	others := slices.ContainsFunc(logins, func(n registry.Node) bool { return n.Name != d.s.node })
	if d.s.msg != nil && (others || readByLogins(d.s)) && d.s.registry.State() == nil {
		_ = backoff.Sleep(ctx, d.s.cfg.Registry.Poll)
	}
}

// releaseAtEnd releases the message server's clients over the time in the settings, if other
// message servers are registered. Otherwise nobody could take them, and they end together.
func (d *draining) releaseAtEnd(ctx context.Context) error {
	others, _ := d.s.registry.View().Nodes(roleMsg)
	var over time.Duration
	if slices.ContainsFunc(others, func(n registry.Node) bool {
		return n.Name != d.s.node && !n.Draining
	}) {
		over = min(d.s.cfg.Msg.Release, d.s.cfg.ShutdownTimeout/2)
	}
	d.logRelease(over)
	if over > 0 {
		d.s.msg.Release(ctx, over)
	}
	return nil
}

// logRelease logs over which time the connections of clients end.
func (d *draining) logRelease(over time.Duration) {
	d.s.log.Info("ending the connections of clients", "role", roleMsg, "users", d.s.msg.Online(),
		"over", over)
}
