package session

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Registry knows who is online in this process, and by which sessions. All methods may be called from anywhere.
type Registry struct {
	shards [64]registryShard
	users  atomic.Int64
	count  atomic.Int64
	epoch  atomic.Uint64
}

type registryShard struct {
	mu sync.RWMutex
	// The slices are never changed, only replaced: a reader may keep the one it got.
	users map[uint32][]*Session
}

// NewRegistry makes an empty registry.
func NewRegistry() *Registry {
	r := &Registry{}
	for i := range r.shards {
		r.shards[i].users = map[uint32][]*Session{}
	}
	return r
}

func (r *Registry) shard(user uint32) *registryShard { return &r.shards[user%uint32(len(r.shards))] }

// Add enters s under its User and returns the sessions the user had before.
func (r *Registry) Add(s *Session) []*Session {
	sh := r.shard(s.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.users[s.User]
	if len(old) == 0 {
		r.users.Add(1)
	}
	r.count.Add(1)
	sh.users[s.User] = append(slices.Clip(old), s)
	r.epoch.Add(1) // after the change: who sees the new number finds the session
	return old
}

// Remove takes s out. It returns the sessions the user still has, and whether s was there.
func (r *Registry) Remove(s *Session) ([]*Session, bool) {
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
	rest := make([]*Session, 0, len(old)-1)
	rest = append(append(rest, old[:i]...), old[i+1:]...)
	sh.users[s.User] = rest
	return rest, true
}

// Of returns the user's sessions; the slice must not be changed.
func (r *Registry) Of(user uint32) []*Session {
	sh := r.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.users[user]
}

// Epoch is a number that changes with every session that comes or goes. What was learned with Of after an Epoch still holds as long as Epoch gives the
// same.
func (r *Registry) Epoch() uint64 { return r.epoch.Load() }

// Users is the number of users online, Count that of their sessions.
func (r *Registry) Users() int { return int(r.users.Load()) }

// Count is the number of sessions.
func (r *Registry) Count() int { return int(r.count.Load()) }

// Each calls f for every session, user by user, without holding a lock while f runs. Sessions that come or go meanwhile may be left out or not.
func (r *Registry) Each(f func(*Session)) {
	var batch [][]*Session
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
