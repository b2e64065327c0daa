package session

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/pdu"
)

// driver runs a loop on a goroutine, as the engine does, and counts what wakes it.
type driver struct {
	*Loop
	h       *role
	woken   atomic.Int64
	posts   chan struct{}
	stop    chan struct{}
	running sync.WaitGroup
}

func drive(h *role) *driver {
	d := &driver{h: h, posts: make(chan struct{}, 1), stop: make(chan struct{})}
	tick := time.NewTimer(0)
	tick.Stop()
	d.Loop = NewLoop(LoopOptions{Clients: h, Wake: func(*Loop, bool) { d.posts <- struct{}{} },
		Schedule: func(after time.Duration) {
			if tick.Stop(); after >= 0 {
				tick.Reset(after)
			}
		}})
	d.running.Go(func() {
		defer tick.Stop()
		for {
			select {
			case <-d.posts:
				d.woken.Add(1)
				d.Turn()
			case <-tick.C:
				d.woken.Add(1)
				d.Tick()
			case <-d.stop:
				return
			}
		}
	})
	return d
}

func (d *driver) end() {
	close(d.stop)
	d.running.Wait()
}

// do runs f on the loop.
func (d *driver) do(f func()) {
	done := make(chan struct{})
	d.Post(func() {
		f()
		close(done)
	})
	<-done
	synctest.Wait() // the turn ends
}

// passes lets a time pass, and returns how often the loop was woken in it.
func (d *driver) passes(t time.Duration) int {
	synctest.Wait()
	d.woken.Store(0)
	time.Sleep(t)
	synctest.Wait()
	return int(d.woken.Load())
}

// TestNothingWakesAnIdleLoop counts what wakes a loop in a minute: nothing as long as it has
// no connection, at most once a second with one, and nothing after its end.
func TestNothingWakesAnIdleLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drive(&role{})
		defer d.end()
		if n := d.passes(time.Minute); n > 0 {
			t.Errorf("without a connection: woken %d times", n)
		}
		w := &wire{l: d.Loop, h: d.h}
		d.do(func() {
			w.s = d.AddClient(netip.AddrPort{}, w)
			w.s.SetDeadline(15 * time.Second)
			w.s.SetIdleLimit(90 * time.Second)
			w.s.SetKeepAlive(5 * time.Second)
		})
		d.do(func() { w.s.SetLoggedIn(1, 1) })
		if n := d.passes(time.Minute); n < 11 || n > 16 {
			t.Errorf("one connection: woken %d times", n)
		}
		if n := len(w.writes); n < 10 || n > 12 {
			t.Errorf("%d heartbeats in a minute, one due every 5 s", n)
		}
		d.do(func() { w.s.SetKeepAlive(0) })
		if n := d.passes(29 * time.Second); n > 1 { // a heartbeat that was due before
			t.Errorf("one connection without heartbeats: woken %d times", n)
		}
		d.do(w.Close)
		if n := d.passes(time.Hour); n > 0 {
			t.Errorf("after its end: woken %d times", n)
		}
	})
}

// TestHeartbeatsOfALoopShareMoments: after its first one each of three connections gets its
// heartbeats when the others get theirs.
func TestHeartbeatsOfALoopShareMoments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drive(&role{})
		defer d.end()
		wires := make([]*wire, 3)
		for i := range wires {
			time.Sleep(1300 * time.Millisecond)
			d.do(func() {
				w := &wire{l: d.Loop, h: d.h}
				w.s = d.AddClient(netip.AddrPort{}, w)
				w.s.SetKeepAlive(5 * time.Second)
				wires[i] = w
			})
		}
		d.passes(20 * time.Second)
		before := len(wires[0].writes)
		if n := d.passes(time.Minute); n != 12 {
			t.Errorf("woken %d times in a minute, want 12", n)
		}
		if n := len(wires[0].writes) - before; n != 12 {
			t.Errorf("%d heartbeats in a minute, want 12", n)
		}
	})
}

// TestTheHandlerIsTickedWhenItIsDue has a handler with something due at one time, which a
// turn makes earlier, and another goroutine too.
func TestTheHandlerIsTickedWhenItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		due := int64(Never)
		var ticked []time.Duration
		h := &role{due: func(*Loop) int64 { return due },
			tick: func(l *Loop, now time.Time) {
				if ticked = append(ticked, now.Sub(start)); l.Millis() >= due {
					due = Never
				}
			}}
		d := drive(h)
		defer d.end()
		after := func(at time.Duration) int64 { return start.Add(at).UnixMilli() }
		d.do(func() { due = after(10 * time.Second) })
		time.Sleep(time.Second)
		d.do(func() { due = after(1250 * time.Millisecond) })
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(ticked) != 1 || ticked[0] != 1300*time.Millisecond {
			t.Errorf("ticks at %v, want one at 1.3 s", ticked)
		}
		ticked = nil
		synctest.Wait()
		due = 0 // as another goroutine does, under a lock of its own
		d.Reconsider()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(ticked) != 1 || ticked[0] != 61100*time.Millisecond {
			t.Errorf("ticks at %v, want one within 100 ms of 61 s", ticked)
		}
	})
}

// TestDeadlinesMoveWhileTheTimerEnds opens sessions whose limits end in any order, most of
// them at the moments at which the timer of the loop ends. None ends early, and none more than
// a second late.
func TestDeadlinesMoveWhileTheTimerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		d := drive(&role{closed: func(s *Client, _ error) { s.Data.(func())() }})
		defer d.end()
		ended := 0
		for range 300 {
			limit := time.Duration(1+rnd.IntN(40)) * time.Second / 2
			d.do(func() {
				begun := time.Now()
				w := &wire{l: d.Loop}
				w.s = d.AddClient(netip.AddrPort{}, w)
				w.h = d.h
				if rnd.IntN(2) == 0 {
					w.s.SetDeadline(limit)
				} else {
					w.s.SetIdleLimit(2 * limit)
					d.Deliver(&w.s.Conn, pdu.Header{}, nil)
					w.s.SetIdleLimit(limit)
				}
				w.s.Data = func() {
					ended++
					if took := time.Since(begun); took < limit || took > limit+time.Second {
						t.Errorf("ended after %v, limit %v", took, limit)
					}
				}
			})
			time.Sleep(time.Duration(rnd.IntN(8)) * 250 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if ended != 300 {
			t.Errorf("%d of 300 sessions have ended", ended)
		}
		if n := d.passes(time.Minute); n > 0 {
			t.Errorf("woken %d times without a session", n)
		}
	})
}

// TestALostOrEarlyTickDoesNoHarm: a tick at another time than the scheduled one schedules the
// next, and a scheduled one that never came is scheduled again in the next turn.
func TestALostOrEarlyTickDoesNoHarm(t *testing.T) {
	var scheduled []time.Duration
	b := newBench(t, &role{}, LoopOptions{})
	b.opt.Schedule = func(d time.Duration) { scheduled = append(scheduled, d) }
	w := b.connect()
	b.in(func() { w.s.SetDeadline(15 * time.Second) })
	b.clock.advance(5 * time.Second)
	b.Tick()
	b.clock.advance(time.Minute) // the tick after 15 s is lost
	b.in(func() {})
	b.Tick()
	b.wantClosed(w, ErrLoginDeadline)
	b.in(func() {})
	want := []time.Duration{15 * time.Second, 10 * time.Second, 0, -1}
	if len(scheduled) != len(want) {
		t.Fatalf("scheduled %v, want %v", scheduled, want)
	}
	for i := range want {
		if scheduled[i] != want[i] {
			t.Fatalf("scheduled %v, want %v", scheduled, want)
		}
	}
}
