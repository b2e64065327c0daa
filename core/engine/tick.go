package engine

import (
	"context"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// schedule sets the timer of the loop's next tick, and drops the one before. Loop only.
func (l *loop) schedule(d time.Duration) {
	if l.unarm != nil {
		l.unarm()
		l.unarm = nil
	}
	if d >= 0 {
		l.unarm = l.server.opt.AfterFunc(d, l.postTick)
	}
}

// postTick posts a tick to the loop, which checks its deadlines. A timer that ended while it
// was set anew posts one tick too many, which does no harm: the tick schedules the next one.
// Any goroutine.
func (l *loop) postTick() {
	if l.ticking.Swap(true) {
		return // the previous tick has not run yet
	}
	err := l.wake(gnet.RunnableFunc(func(context.Context) error {
		l.ticking.Store(false)
		l.Tick()
		return nil
	}))
	if err != nil {
		l.ticking.Store(false)
	}
}

// wake runs f on the loop. Timers call it, which may end after the loops: gnet would write to
// the descriptor that a loop had. Any goroutine.
func (l *loop) wake(f gnet.Runnable) error {
	s := l.server
	s.waking.RLock()
	defer s.waking.RUnlock()
	if s.ending.Load() {
		return errClosed
	}
	return l.el.Execute(context.Background(), f)
}
