package dbproxy

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// lockout counts the different wrong passwords of each name. The same one again does not count: a
// client that repeats its stored password is not guessing. Passwords are kept as hashes under a
// key that lives in this process only.
//
// The memory is bounded: beyond lockoutNames the name that failed longest ago is forgotten. Names
// that nobody has are counted apart, so that trying them does not make it forget those of real
// users; they are counted at all because otherwise a lock would tell which names exist.
type lockout struct {
	attempts int // negative: never locks
	window   time.Duration
	seed     maphash.Seed

	mu      sync.Mutex // held for one look-up
	known   *simplelru.LRU[uint32, []wrong]
	unknown *simplelru.LRU[string, []wrong]
}

// wrong is a wrong password.
type wrong struct {
	at   time.Time // when it was tried first
	hash uint64    // of the password
}

// lockoutNames is how many names with wrong passwords are remembered, of users and of nobody each.
const lockoutNames = 65536

// suspect is who tries to log in: a user, or with id 0 a name that nobody has.
type suspect struct {
	id   uint32
	name string
}

func newLockout(attempts int, window time.Duration) *lockout {
	l := &lockout{attempts: attempts, window: window, seed: maphash.MakeSeed()}
	// The only error is a size that is not positive.
	l.known, _ = simplelru.NewLRU[uint32, []wrong](lockoutNames, nil)
	l.unknown, _ = simplelru.NewLRU[string, []wrong](lockoutNames, nil)
	return l
}

// locked reports whether attempts different passwords failed and the oldest is not over.
func (l *lockout) locked(who suspect, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attempts > 0 && len(l.recent(who, now)) >= l.attempts
}

// fail counts a wrong password, and reports whether it is the one that locks the name.
func (l *lockout) fail(who suspect, password string, now time.Time) bool {
	if l.attempts < 0 {
		return false
	}
	hash := maphash.String(l.seed, password)
	l.mu.Lock()
	defer l.mu.Unlock()
	tried := l.recent(who, now)
	if slices.ContainsFunc(tried, func(w wrong) bool { return w.hash == hash }) {
		return false
	}
	tried = append(tried, wrong{now, hash})
	if who.id != 0 {
		l.known.Add(who.id, tried)
	} else {
		l.unknown.Add(who.name, tried)
	}
	return len(tried) == l.attempts
}

// clear forgets wrong passwords: whoever knows the right one is not guessing.
func (l *lockout) clear(who suspect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if who.id != 0 {
		l.known.Remove(who.id)
	} else {
		l.unknown.Remove(who.name)
	}
}

// recent returns the wrong passwords that still count, oldest first. While a name is locked none
// are added, so there are at most attempts.
func (l *lockout) recent(who suspect, now time.Time) []wrong {
	var tried []wrong
	if who.id != 0 {
		tried, _ = l.known.Peek(who.id)
	} else {
		tried, _ = l.unknown.Peek(who.name)
	}
	for len(tried) > 0 && now.Sub(tried[0].at) >= l.window {
		tried = tried[1:]
	}
	return tried
}
