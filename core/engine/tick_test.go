package engine

import (
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
)

// ticked counts the ticks of all loops.
type ticked struct {
	*role
	n atomic.Int64
}

func (h *ticked) OpenLoop(*session.Loop)        {}
func (h *ticked) Tick(*session.Loop, time.Time) { h.n.Add(1) }
func (h *ticked) Due(*session.Loop) int64       { return session.Never }

// timersOf returns how many timers run, and how many have ended.
func (c *clock) timersOf() (run, fired int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers), c.fired
}

// minute lets a minute pass, second by second.
func (c *clock) minute(s *Server) {
	for range 60 {
		c.advance(time.Second)
		settle(s)
	}
}

// TestNothingWakesIdleLoops counts what wakes the loops of a server in a minute: nothing
// before the first connection, less than one timer a second with an idle one, and nothing
// after its end.
func TestNothingWakesIdleLoops(t *testing.T) {
	clock, h := newClock(), &ticked{role: newRole()}
	h.open = func(s *session.Client) error {
		s.SetIdleLimit(time.Hour)
		s.SetKeepAlive(5 * time.Second)
		return nil
	}
	s := start(t, Options{Clients: h, Loops: 2, Now: clock.now, AfterFunc: clock.afterFunc})
	clock.minute(s)
	if run, fired := clock.timersOf(); run+fired > 0 || h.n.Load() > 0 {
		t.Errorf("without a connection: %d timers, %d ticks", run+fired, h.n.Load())
	}
	c := dial(t, s)
	c.echo(hello)
	clock.minute(s)
	if _, fired := clock.timersOf(); fired < 10 || fired > 60 {
		t.Errorf("one connection: woken %d times in a minute", fired)
	}
	c.Close()
	next(t, h.closed)
	settle(s)
	run, before := clock.timersOf()
	clock.minute(s)
	if _, fired := clock.timersOf(); run > 0 || fired != before {
		t.Errorf("after its end: %d timers, woken %d times", run, fired-before)
	}
}

// TestATimerEndsWhileItIsSetAnew runs the function of a timer that was stopped too late, before
// and after the deadline that took its place. Both sessions end at their deadlines.
func TestATimerEndsWhileItIsSetAnew(t *testing.T) {
	clock, h := newClock(), newRole()
	stale := make(chan func(), 100)
	h.frame = func(s *session.Client, head pdu.Header, _ []byte) {
		s.SetDeadline(time.Duration(head.Seq) * time.Second)
		s.SendFrame(frameOf(head.Command, head.Seq, nil))
	}
	s := start(t, Options{Clients: h, Loops: 1, Now: clock.now,
		AfterFunc: func(d time.Duration, f func()) func() bool {
			stop := clock.afterFunc(d, f)
			return func() bool {
				stop()
				stale <- f
				return false
			}
		}})
	late, soon := dial(t, s), dial(t, s)
	late.echo(frameOf(1, 15, nil))
	soon.echo(frameOf(1, 5, nil))
	settle(s)
	next(t, stale)()
	settle(s)
	clock.advance(4 * time.Second)
	settle(s)
	if n := s.Open(); n != 2 {
		t.Fatalf("%d connections are open before the first deadline", n)
	}
	clock.advance(time.Second)
	soon.wantEnd()
	settle(s)
	next(t, stale)()
	clock.advance(10 * time.Second)
	late.wantEnd()
}
