package session

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Registry holds the logged-in sessions of this process by user. All methods: any
// goroutine.
type Registry struct {
	shards [64]registryShard
	users  atomic.Int64
	count  atomic.Int64
	epoch  atomic.Uint64
}

type registryShard struct {
	mu sync.RWMutex
	// The slices are never changed, only replaced, so that a reader may keep the slice it
	// got.
	users map[uint32][]*Client
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	r := &Registry{}
	for i := range r.shards {
		r.shards[i].users = map[uint32][]*Client{}
	}
	return r
}

func (r *Registry) shard(user uint32) *registryShard {
	return &r.shards[user%uint32(len(r.shards))]
}

// Add stores s under its User and returns the sessions that the user had before.
func (r *Registry) Add(s *Client) []*Client {
	sh := r.shard(s.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.users[s.User]
	if len(old) == 0 {
		r.users.Add(1)
	}
	r.count.Add(1)
	sh.users[s.User] = append(slices.Clip(old), s)
	r.epoch.Add(1) // after the change: a reader of the new number finds the session
	return old
}

// Remove deletes s. It returns the remaining sessions of the user, and whether the
// registry held s.
func (r *Registry) Remove(s *Client) ([]*Client, bool) {
	sh := r.shard(s.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.users[s.User]
	i := slices.Index(old, s)
	if i < 0 {
		return old, false
	}
	r.count.Add(-1)
	defer r.epoch.Add(1)
	if len(old) == 1 {
		delete(sh.users, s.User)
		r.users.Add(-1)
		return nil, true
	}
	rest := make([]*Client, 0, len(old)-1)
	rest = append(append(rest, old[:i]...), old[i+1:]...)
	sh.users[s.User] = rest
	return rest, true
}

// Of returns the sessions of user. The slice must not be changed.
func (r *Registry) Of(user uint32) []*Client {
	sh := r.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.users[user]
}

// Epoch returns a number that changes with every Add and Remove. A result that Of
// returned after a call of Epoch stays valid while Epoch returns the same number.
func (r *Registry) Epoch() uint64 { return r.epoch.Load() }

// Users returns the number of users online. A user with several sessions counts once.
func (r *Registry) Users() int { return int(r.users.Load()) }

// Count returns the number of sessions.
func (r *Registry) Count() int { return int(r.count.Load()) }

// Each calls f for every session, user by user, and holds no lock while f runs. It may
// skip or include sessions that are added or removed meanwhile.
func (r *Registry) Each(f func(*Client)) {
	var batch [][]*Client
	for i := range r.shards {
		sh := &r.shards[i]
		batch = batch[:0]
		sh.mu.RLock()
		for _, ss := range sh.users {
			batch = append(batch, ss)
		}
		sh.mu.RUnlock()
		for _, ss := range batch {
			for _, s := range ss {
				f(s)
			}
		}
	}
}
