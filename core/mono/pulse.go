package mono

import (
	"sync/atomic"
	"time"
)

// Pulse paces periodic work by use: the work is done often while there is use, and rarely or
// not at all while there is none, because each time wakes an idle process. Make one with
// NewPulse.
type Pulse struct {
	used atomic.Bool
	wake chan struct{} // holds a token when used was set
}

// NewPulse makes a Pulse that was not used yet.
func NewPulse() *Pulse { return &Pulse{wake: make(chan struct{}, 1)} }

// Use makes Run do its work at the next multiple of its shorter interval. Any goroutine.
func (p *Pulse) Use() {
	if p.used.Load() || p.used.Swap(true) {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // Run has not taken the token before
	}
}

// Run calls f at the next multiple of busy after each Use, and without any at the multiples of
// idle, until stop is closed. With 0 for idle it does not call f without Use. An idle that is
// shorter than busy counts as busy. A Use while f runs counts for the next call.
//
// The multiples are those of Every, so the periodic work of a process wakes it together.
func (p *Pulse) Run(stop <-chan struct{}, busy, idle time.Duration, f func()) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		t.Stop()
		if idle > 0 {
			now := time.Now()
			t.Reset(until(now, 0, max(busy, idle)))
		}
		select {
		case <-stop:
			return
		case <-t.C:
		case <-p.wake:
			now := time.Now()
			t.Reset(until(now, 0, busy))
			select {
			case <-stop:
				return
			case <-t.C:
			}
		}
		p.used.Store(false)
		f()
	}
}
