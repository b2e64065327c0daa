package process

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/mono"
)

// A loop that begins to wait for its sockets keeps its processor of Go's scheduler until the
// watchdog of the runtime takes it away after 10 ms, see SpareProcessors. Until then the watchdog
// wakes about 40 times. With few turns these wake-ups are most of what a server does: with 2,000
// clients that send a heartbeat every 30 s they were 2,600 of 3,200 a second. To stop the world
// takes the processors of all waiting loops at once, and costs less than two of them.

const (
	// quietWindow is the time for which turns are counted.
	quietWindow = 100 * time.Millisecond
	// quietTurns is the largest number of turns in a window after which processors are
	// released. With more, a loop waits briefly, and the watchdog wakes rarely.
	quietTurns = 20
	// beforeRelease is the time from the end of a turn until its loop certainly waits.
	beforeRelease = 30 * time.Microsecond
	// releases is how often the processors are released at most when turns follow each other.
	releases = 3
)

// Releaser releases the processors of loops that wait, while there are few turns. Make one with
// NewReleaser.
type Releaser struct {
	begin   atomic.Int64 // of the window, as mono.Of
	turns   atomic.Int64 // in the window
	before  atomic.Int64 // in the window before
	last    atomic.Int64 // number of the last turn
	wake    chan struct{}
	release func() // a test replaces it
}

// NewReleaser makes a Releaser.
func NewReleaser() *Releaser {
	return &Releaser{wake: make(chan struct{}, 1), release: stopTheWorld}
}

// stopTheWorld stops all goroutines and starts them again, within about 20 µs when none runs.
func stopTheWorld() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
}

// Ended notes the end of a turn, which began at a time. Any goroutine.
func (r *Releaser) Ended(began time.Time) {
	at := mono.Of(began)
	begin := r.begin.Load()
	if at-begin >= int64(quietWindow) && r.begin.CompareAndSwap(begin, at) {
		n := r.turns.Swap(0)
		if at-begin >= 2*int64(quietWindow) {
			n = 0
		}
		r.before.Store(n)
	}
	if r.turns.Add(1) > quietTurns || r.before.Load() > quietTurns {
		return
	}
	r.last.Add(1)
	select {
	case r.wake <- struct{}{}:
	default: // Run is about to release them
	}
}

// Run releases processors until ctx ends.
func (r *Releaser) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		r.releaseAll()
	}
}

// releaseAll releases processors when the loops wait, and again if turns ended meanwhile.
func (r *Releaser) releaseAll() {
	for range releases {
		n := r.last.Load()
		pause := unix.NsecToTimeval(int64(beforeRelease))
		_, _ = unix.Select(0, nil, nil, nil, &pause) // a timer of Go would take a millisecond
		r.release()
		if r.last.Load() == n {
			return
		}
	}
}
