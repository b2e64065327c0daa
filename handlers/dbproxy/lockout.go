package dbproxy

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// lockout counts the different wrong passwords of each login name. Repeating the same
// password does not count: a client that repeats its stored password is not guessing.
// Passwords are stored as hashes whose key exists in this process only.
//
// The memory is bounded: above lockoutNames, the name that failed least recently is
// evicted. Names without a user have a table of their own, so that trying such names does
// not evict those of users. They are counted because otherwise a lock would reveal which
// names exist.
type lockout struct {
	attempts int // negative: never locks
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

// lockoutNames bounds the names with wrong passwords, for users and for unknown names
// each.
const lockoutNames = 65536

// suspect identifies a login name: by the user's id, or, with id 0, by the name itself
// when no user has it.
type suspect struct {
	id   uint32
	name string
}

func newLockout(attempts int, window time.Duration) *lockout {
	l := &lockout{attempts: attempts, window: window, seed: maphash.MakeSeed()}
	// NewLRU fails only when the size is not positive.
	l.known, _ = simplelru.NewLRU[uint32, []wrong](lockoutNames, nil)
	l.unknown, _ = simplelru.NewLRU[string, []wrong](lockoutNames, nil)
	return l
}

// locked reports whether the name is locked: attempts different passwords failed, and the
// oldest is not older than the window.
func (l *lockout) locked(name suspect, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attempts > 0 && len(l.recent(name, now)) >= l.attempts
}

// fail counts a wrong password, and reports whether the name is locked by it.
func (l *lockout) fail(name suspect, password string, now time.Time) bool {
	if l.attempts < 0 {
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
	if name.id != 0 {
		l.known.Add(name.id, tried)
	} else {
		l.unknown.Add(name.name, tried)
	}
	return len(tried) == l.attempts
}

// clear deletes the wrong passwords of a name after a login with the right one.
func (l *lockout) clear(name suspect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name.id != 0 {
		l.known.Remove(name.id)
	} else {
		l.unknown.Remove(name.name)
	}
}

// recent returns the wrong passwords within the window, oldest first. fail is not called
// for a locked name, so there are at most attempts of them.
func (l *lockout) recent(name suspect, now time.Time) []wrong {
	var tried []wrong
	if name.id != 0 {
		tried, _ = l.known.Peek(name.id)
	} else {
		tried, _ = l.unknown.Peek(name.name)
	}
	for len(tried) > 0 && now.Sub(tried[0].at) >= l.window {
		tried = tried[1:]
	}
	return tried
}
