package dbproxy

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// lockout counts wrong passwords. Its memory is bounded: beyond lockoutNames the name that failed longest ago is forgotten. Names
// that nobody has are counted apart, so that trying them does not make it forget those of real users; they are counted at all because
// otherwise a lock would tell which names exist.
type lockout struct {
	attempts int // negative: never locks
	window   time.Duration

	mu      sync.Mutex // held for one look-up
	known   *simplelru.LRU[uint32, []time.Time]
	unknown *simplelru.LRU[string, []time.Time]
}

// lockoutNames is how many names with wrong passwords are remembered, of users and of nobody each.
const lockoutNames = 65536

// suspect is who tries to log in: a user, or with id 0 a name that nobody has.
type suspect struct {
	id   uint32
	name string
}

func newLockout(attempts int, window time.Duration) *lockout {
	l := &lockout{attempts: attempts, window: window}
	// The only error is a size that is not positive.
	l.known, _ = simplelru.NewLRU[uint32, []time.Time](lockoutNames, nil)
	l.unknown, _ = simplelru.NewLRU[string, []time.Time](lockoutNames, nil)
	return l
}

// locked reports whether the last attempts failed and the oldest of these is not over.
func (l *lockout) locked(who suspect, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attempts > 0 && len(l.recent(who, now)) >= l.attempts
}

// fail counts a wrong password, and reports whether it is the one that locks the name.
func (l *lockout) fail(who suspect, now time.Time) bool {
	if l.attempts < 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	times := append(l.recent(who, now), now)
	if who.id != 0 {
		l.known.Add(who.id, times)
	} else {
		l.unknown.Add(who.name, times)
	}
	return len(times) == l.attempts
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

// recent returns the failures that still count, oldest first. While a name is locked none are added, so there are at most attempts.
func (l *lockout) recent(who suspect, now time.Time) []time.Time {
	var times []time.Time
	if who.id != 0 {
		times, _ = l.known.Peek(who.id)
	} else {
		times, _ = l.unknown.Peek(who.name)
	}
	for len(times) > 0 && now.Sub(times[0]) >= l.window {
		times = times[1:]
	}
	return times
}
