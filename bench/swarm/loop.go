package swarm

import (
	"crypto/tls"
	"math"
	"net/netip"
	"sync"

	"teamtalk/core/batch"
	"teamtalk/core/tlsconn"
)

// Loop is one event loop. Loop only: all methods but Do are called on the loop.
type Loop struct {
	index int
	swarm *Swarm
	now   int64
	buf   []byte // read buffer shared by all connections
	open  int    // established connections

	timers     []timer // heap, the next to fire first
	dirty      []*Conn // connections with bytes to write at the end of the turn
	failed     []failure
	connecting queue
	free       [][]byte // buffers that no connection uses now
	buffers    *tlsconn.Buffers
	configs    map[netip.Addr]*tls.Config // of servers

	mu     sync.Mutex
	posted batch.Buffer[func()]
	woken  bool // a wake-up has been sent
	stop   bool
	done   chan struct{}

	poll
}

type failure struct {
	conn *Conn
	err  error
}

// Index returns the position of the loop in Swarm.Loops.
func (l *Loop) Index() int { return l.index }

// Now returns the time, in the unit of Swarm.Now, at which the loop last read the clock:
// after each read.
func (l *Loop) Now() int64 { return l.now }

// Open returns the number of established connections.
func (l *Loop) Open() int { return l.open }

// Do runs f on the loop later. It returns false, and f does not run, when the swarm is
// closed. Any goroutine.
func (l *Loop) Do(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop {
		return false
	}
	l.posted.Waiting = append(l.posted.Waiting, f)
	if !l.woken {
		l.woken = true
		l.wake() // under the lock, because the event descriptor may be closed once stop is set
	}
	return true
}

// Dial starts to open a connection. h receives the result, never before Dial has
// returned.
func (l *Loop) Dial(addr netip.AddrPort, h Handler) *Conn {
	c := &Conn{loop: l, handler: h, state: connecting, sys: noSocket, peer: addr}
	if err := l.dial(c, addr); err != nil {
		l.failed = append(l.failed, failure{c, err})
		return c
	}
	l.connecting.push(c, l.now+int64(l.swarm.opt.ConnectTimeout))
	return c
}

// keepPosted is the largest capacity of posted that is kept after a flood, in functions.
const keepPosted = 1 << 16

// turn does the work that follows the events: posted functions, timers, failed
// connections, writes. It reports whether the loop continues.
func (l *Loop) turn() bool {
	l.mu.Lock()
	posted := l.posted.Take(keepPosted)
	l.woken = false
	stop := l.stop
	l.mu.Unlock()
	if stop {
		return false
	}
	for i, f := range posted {
		f()
		posted[i] = nil
	}
	l.fire()
	for c := l.connecting.due(l.now); c != nil; c = l.connecting.due(l.now) {
		c.fail(ErrConnectTimeout)
	}
	for len(l.failed) > 0 {
		failed := l.failed
		l.failed = nil
		for _, f := range failed {
			if f.conn.state != closed {
				f.conn.fail(f.err)
			}
		}
	}
	for i := 0; i < len(l.dirty); i++ { // the handler of a failed connection may write to others
		c := l.dirty[i]
		c.seal()
		c.dirty = false
		c.flush()
		l.dirty[i] = nil
	}
	l.dirty = l.dirty[:0]
	return true
}

// patience returns how long the loop may wait for events, in nanoseconds; negative:
// without a limit.
func (l *Loop) patience() int64 {
	if len(l.failed) > 0 || len(l.dirty) > 0 {
		return 0
	}
	next := min(l.nextTimer(), l.connecting.next())
	if next == math.MaxInt64 {
		return -1
	}
	return max(0, next-l.swarm.Now())
}

// borrow returns an empty buffer.
func (l *Loop) borrow() []byte {
	if n := len(l.free); n > 0 {
		b := l.free[n-1]
		l.free = l.free[:n-1]
		return b
	}
	return make([]byte, 0, 512)
}

// give returns a buffer to the loop, which drops it when it is large or has enough.
func (l *Loop) give(b []byte) {
	const most, longest = 1024, 64 << 10
	if cap(b) > 0 && cap(b) <= longest && len(l.free) < most {
		l.free = append(l.free, b[:0])
	}
}

// keep replaces the contents of a buffer by rest, which may be a part of it. It returns nil for
// an empty rest.
func (l *Loop) keep(b, rest []byte) []byte {
	if len(rest) == 0 {
		l.give(b)
		return nil
	}
	if b == nil {
		b = l.borrow()
	}
	return append(b[:0], rest...)
}

// look reads the clock and fires the timers that are due. Schedules are kept this way
// when many connections have bytes to read, and bytes read after a timer's time are
// handled after the timer.
func (l *Loop) look() {
	l.now = l.swarm.Now()
	if l.nextTimer() <= l.now {
		l.fire()
	}
}

// timer is a function and the time at which it is due.
type timer struct {
	at int64
	f  func(now int64) int64
}

// At calls f on the loop at a time of Now, before any bytes that are read after that
// time. f receives the time and returns the time of its next call; 0: no further call.
func (l *Loop) At(at int64, f func(now int64) int64) {
	l.timers = append(l.timers, timer{at, f})
	h := l.timers
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].at <= h[i].at {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (l *Loop) nextTimer() int64 {
	if len(l.timers) == 0 {
		return math.MaxInt64
	}
	return l.timers[0].at
}

// fire calls the timers that are due, each at most once, so that a timer that is always
// due does not delay the connections.
func (l *Loop) fire() {
	for n := len(l.timers); n > 0 && l.nextTimer() <= l.now; n-- {
		f := l.timers[0].f
		last := len(l.timers) - 1
		l.timers[0] = l.timers[last]
		l.timers[last] = timer{}
		l.timers = l.timers[:last]
		l.sink()
		if next := f(l.now); next != 0 {
			l.At(next, f)
		}
	}
}

func (l *Loop) sink() {
	h := l.timers
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].at < h[least].at {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// queue holds the connections in the making, in the order of their deadlines.
type queue struct {
	waiting []deadline
	head    int
}

type deadline struct {
	conn *Conn
	at   int64
}

func (q *queue) push(c *Conn, at int64) { q.waiting = append(q.waiting, deadline{c, at}) }

// next returns the first deadline.
func (q *queue) next() int64 {
	for q.head < len(q.waiting) && q.waiting[q.head].conn.state != connecting {
		q.pop()
	}
	if q.head == len(q.waiting) {
		return math.MaxInt64
	}
	return q.waiting[q.head].at
}

// due removes and returns the first connection when its deadline has passed, and
// otherwise returns nil.
func (q *queue) due(now int64) *Conn {
	if q.next() > now {
		return nil
	}
	return q.pop()
}

func (q *queue) pop() *Conn {
	c := q.waiting[q.head].conn
	q.waiting[q.head] = deadline{}
	q.head++
	if q.head == len(q.waiting) {
		q.waiting, q.head = q.waiting[:0], 0
	} else if q.head >= 1024 && 2*q.head > len(q.waiting) {
		n := copy(q.waiting, q.waiting[q.head:])
		clear(q.waiting[n:])
		q.waiting, q.head = q.waiting[:n], 0
	}
	return c
}
