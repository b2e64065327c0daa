// Package lockout locks a login name after too many different wrong passwords.
package lockout

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Lockout counts the different wrong passwords of each login name. Repeating the same
// password does not count: a client that repeats its stored password is not guessing.
// Passwords are stored as hashes whose key exists in this process only.
//
// The memory is bounded: above maxNames, the name that failed least recently is evicted.
// Names without a user have a table of their own, so that trying such names does not
// evict those of users. They are counted because otherwise a lock would reveal which
// names exist. Any goroutine may use a Lockout.
type Lockout struct {
	attempts int // 0: never locks
	window   time.Duration
	seed     maphash.Seed

	mu      sync.Mutex // held for one lookup
	known   *simplelru.LRU[uint32, []wrong]
	unknown *simplelru.LRU[string, []wrong]
}

// wrong is one wrong password.
type wrong struct {
	at   time.Time // of the first attempt
	hash uint64    // of the password
}

// maxNames bounds the names with wrong passwords, for users and for unknown names each.
const maxNames = 65536

// Name identifies a login name: by the user's id, or, with ID 0, by the name itself when
// no user has it.
type Name struct {
	ID   uint32
	Name string
}

// New returns a Lockout that locks a name after this number of different wrong passwords
// within the window. With 0 attempts it never locks.
func New(attempts int, window time.Duration) *Lockout {
	l := &Lockout{attempts: attempts, window: window, seed: maphash.MakeSeed()}
	// NewLRU fails only when the size is not positive.
	l.known, _ = simplelru.NewLRU[uint32, []wrong](maxNames, nil)
	l.unknown, _ = simplelru.NewLRU[string, []wrong](maxNames, nil)
	return l
}

// Locked reports whether the name is locked: attempts different passwords failed, and the
// oldest is not older than the window.
func (l *Lockout) Locked(name Name, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attempts > 0 && len(l.recent(name, now)) >= l.attempts
}

// Fail counts a wrong password, and reports whether the name is locked by it.
func (l *Lockout) Fail(name Name, password string, now time.Time) bool {
	if l.attempts <= 0 {
		return false
	}
	hash := maphash.String(l.seed, password)
	l.mu.Lock()
	defer l.mu.Unlock()
	tried := l.recent(name, now)
	if slices.ContainsFunc(tried, func(w wrong) bool { return w.hash == hash }) {
		return false
	}
	tried = append(tried, wrong{now, hash})
	if name.ID != 0 {
		l.known.Add(name.ID, tried)
	} else {
		l.unknown.Add(name.Name, tried)
	}
	return len(tried) == l.attempts
}

// Clear deletes the wrong passwords of a name after a login with the right one.
func (l *Lockout) Clear(name Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name.ID != 0 {
		l.known.Remove(name.ID)
	} else {
		l.unknown.Remove(name.Name)
	}
}

// recent returns the wrong passwords within the window, oldest first. Fail is not called
// for a locked name, so there are at most attempts of them.
func (l *Lockout) recent(name Name, now time.Time) []wrong {
	var tried []wrong
	if name.ID != 0 {
		tried, _ = l.known.Peek(name.ID)
	} else {
		tried, _ = l.unknown.Peek(name.Name)
	}
	for len(tried) > 0 && now.Sub(tried[0].at) >= l.window {
		tried = tried[1:]
	}
	return tried
}
