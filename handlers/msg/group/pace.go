package group

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Every member is told of a change of members, with the ids of all: one that is made in a group
// of 2,000 users that are online is 16 MB. So the changes that a user makes are paced by the
// members that are told of them. A person changes a group now and then, and names all users at
// once.
const (
	// toldRate is how many members a second are told of the changes of one user, toldBurst how
	// many at once.
	toldRate  = 1000
	toldBurst = 50_000
	// maxPause is how long a change waits for that. One that would wait longer is refused.
	maxPause = 10 * time.Second
	// maxPaced is how many users are remembered. The one whose last change was longest ago is
	// forgotten, and has its burst again.
	maxPaced = 16384
)

// pace paces the changes of each user, on all of its connections to this server. now and after
// must be set. Any goroutine.
type pace struct {
	now   func() time.Time
	after func(d time.Duration, f func()) (stop func() bool)
	mu    sync.Mutex
	users *simplelru.LRU[uint32, *paced]
}

// paced is what the changes of a user have cost.
type paced struct {
	paid    time.Time // when toldRate has paid for the members told
	told    int       // of its last change
	waiting []turn    // in the order of the changes; the first one's timer runs
}

// turn is a change that waits.
type turn struct {
	due time.Time
	ask func()
}

// outcome is what becomes of a change.
type outcome uint8

const (
	asked outcome = iota
	waits
	tooMany
)

// begin counts a change that a user makes, as one that is told to as many members as its last
// one, and calls ask with the number counted: at once, or when it is paid for. The changes of a
// user keep their order, also when one of them turns out to cost less while others wait. With
// tooMany ask is not called.
func (p *pace) begin(user uint32, ask func(counted int)) outcome {
	p.mu.Lock()
	now, u := p.now(), p.of(user)
	if u.paid.Before(now) {
		u.paid = now
	}
	wait := max(0, u.paid.Sub(now)-cost(toldBurst))
	if wait > maxPause {
		p.mu.Unlock()
		return tooMany
	}
	counted := u.told
	u.paid = u.paid.Add(cost(counted))
	if wait == 0 && len(u.waiting) == 0 {
		p.mu.Unlock()
		ask(counted)
		return asked
	}
	defer p.mu.Unlock()
	u.waiting = append(u.waiting, turn{now.Add(wait), func() { ask(counted) }})
	if len(u.waiting) == 1 {
		p.after(wait, func() { p.next(u) })
	}
	return waits
}

// next lets the first change that waits go on, and sets the timer of the one behind it. The
// change stays in the list until it is asked for, so that no new one overtakes it.
func (p *pace) next(u *paced) {
	p.mu.Lock()
	first := u.waiting[0]
	p.mu.Unlock()
	first.ask()
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.waiting = u.waiting[1:]; len(u.waiting) == 0 {
		u.waiting = nil
		return
	}
	p.after(max(0, u.waiting[0].due.Sub(p.now())), func() { p.next(u) })
}

// end replaces the number that begin counted by the number of members that are told.
func (p *pace) end(user uint32, counted, told int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.of(user)
	u.paid = u.paid.Add(cost(told - counted))
	if told > 0 {
		u.told = told
	}
}

// of returns the entry of a user. With mu held.
func (p *pace) of(user uint32) *paced {
	if p.users == nil {
		p.users, _ = simplelru.NewLRU[uint32, *paced](maxPaced, nil) // the size is positive
	}
	u, ok := p.users.Get(user)
	if !ok {
		u = &paced{}
		p.users.Add(user, u)
	}
	return u
}

// cost returns the time in which toldRate pays for n members.
func cost(n int) time.Duration { return time.Duration(n) * time.Second / toldRate }
