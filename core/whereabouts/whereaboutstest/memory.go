// Package whereaboutstest has a whereabouts.Store in memory, faults for any store, and the tests
// that every store passes.
package whereaboutstest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"teamtalk/core/whereabouts"
)

// Memory is a whereabouts.Store in memory, which the processes of a test share. Any goroutine.
type Memory struct {
	mu      sync.Mutex
	users   map[uint32]map[string]whereabouts.Entry // by user and name of a node
	groups  map[uint32]*group
	version uint64 // that was given last
	watches map[int]chan struct{}
	next    int // key of the next watch
}

var _ whereabouts.Store = (*Memory)(nil)

// NewMemory returns a store that holds nothing.
func NewMemory() *Memory {
	return &Memory{users: map[uint32]map[string]whereabouts.Entry{}, groups: map[uint32]*group{},
		watches: map[int]chan struct{}{}}
}

// Apply writes updates; see whereabouts.Store.
func (m *Memory) Apply(ctx context.Context, by whereabouts.Node,
	updates []whereabouts.Update) []whereabouts.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	results := make([]whereabouts.Result, len(updates))
	for i, u := range updates {
		if err := ctx.Err(); err != nil {
			results[i].Err = err
			continue
		}
		results[i] = m.apply(by, u)
	}
	return results
}

// apply writes one update. The caller holds mu.
func (m *Memory) apply(by whereabouts.Node, u whereabouts.Update) whereabouts.Result {
	entries := m.users[u.User]
	had, ok := entries[by.Name]
	if ok && had.Epoch > by.Epoch {
		return whereabouts.Result{Err: &whereabouts.ReplacedError{Node: by, By: had.Epoch}}
	}
	m.version++
	r := whereabouts.Result{Version: m.version}
	if ok && had.Epoch == by.Epoch {
		r.Before = slices.Clone(had.Devices)
	}
	for _, e := range sorted(entries) {
		if e.Name != by.Name {
			r.Others = append(r.Others, e)
		}
	}
	if len(u.Devices) == 0 {
		m.remove(u.User, by.Name)
		return r
	}
	if entries == nil {
		entries = map[string]whereabouts.Entry{}
		m.users[u.User] = entries
	}
	entries[by.Name] = whereabouts.Entry{Node: by, Devices: whereabouts.Sorted(u.Devices)}
	return r
}

// remove removes what a node has of a user. The caller holds mu.
func (m *Memory) remove(user uint32, name string) {
	delete(m.users[user], name)
	if len(m.users[user]) == 0 {
		delete(m.users, user)
	}
}

// sorted returns copies of entries, sorted by name.
func sorted(entries map[string]whereabouts.Entry) []whereabouts.Entry {
	var list []whereabouts.Entry
	for _, e := range entries {
		e.Devices = slices.Clone(e.Devices)
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b whereabouts.Entry) int {
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

// Lookup returns what is known of users; see whereabouts.Store.
func (m *Memory) Lookup(ctx context.Context, users []uint32) []whereabouts.Found {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make([]whereabouts.Found, len(users))
	for i, u := range users {
		if found[i].Err = ctx.Err(); found[i].Err == nil {
			found[i].Entries = sorted(m.users[u])
		}
	}
	return found
}

// Remove removes entries; see whereabouts.Store.
func (m *Memory) Remove(ctx context.Context, user uint32, ended []whereabouts.Node) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, n := range ended {
		if e, ok := m.users[user][n.Name]; ok && e.Node == n {
			m.remove(user, n.Name)
		}
	}
	return nil
}

// Users returns the users that have an entry, sorted.
func (m *Memory) Users() []uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.users))
}

// Lose loses all entries, as a Redis without a file does that is restarted, and tells all watches.
func (m *Memory) Lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.users)
	clear(m.groups)
	for _, w := range m.watches {
		select {
		case w <- struct{}{}:
		default: // the watch has not told of the loss before yet
		}
	}
}

// Watch calls lost at its begin and after each loss, from this goroutine, until ctx ends. Losses
// that follow each other may be one call.
func (m *Memory) Watch(ctx context.Context, lost func()) {
	w := make(chan struct{}, 1)
	w <- struct{}{}
	m.mu.Lock()
	key := m.next
	m.next++
	m.watches[key] = w
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watches, key)
	}()
	for {
		select {
		case <-w:
			lost()
		case <-ctx.Done():
			return
		}
	}
}
