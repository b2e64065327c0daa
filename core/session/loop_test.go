package session

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

func TestTurnWritesOncePerSession(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w, other := b.connect(), b.connect()
	beat := string(heartbeat)
	b.step("frames sent on the loop", func() {
		b.in(func() {
			if err := w.s.Send(0, &pb.IMHeartBeat{}); err != nil {
				b.t.Error(err)
			}
			w.s.SendFrame([]byte("two"))
			if len(w.writes) > 0 {
				b.t.Error("written before the turn ended")
			}
		})
		b.wantWrites(w, beat+"two")
	})
	b.step("frames posted to the loop", func() {
		for _, err := range []error{
			w.s.PushShared([]byte("a")),
			b.FanOut([]*Client{w.s, other.s}, []byte("b"), Tag{}),
			w.s.Push(0, &pb.IMHeartBeat{}),
			w.s.PushShared([]byte("c")),
		} {
			if err != nil {
				b.t.Error(err)
			}
		}
		b.turn()
		b.wantWrites(w, "ab"+beat+"c")
		b.wantWrites(other, "b")
	})
	b.step("no frames", func() {
		b.in(func() {})
		b.wantWrites(w)
	})
	b.wantCount("writes", testutil.ToFloat64(b.metrics.writes), 3)
	b.wantCount("bytes", testutil.ToFloat64(b.metrics.writtenBytes),
		float64(len(beat+"two")+len("ab"+beat+"c")+len("b")))
}

// TestBuffersAreNotShared checks that the output of one session never reaches another,
// although sessions borrow the same buffers.
func TestBuffersAreNotShared(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	ws := make([]*wire, 20)
	for i := range ws {
		ws[i] = b.connect()
	}
	for round := range 5 {
		b.in(func() {
			for part := range 3 {
				for i, w := range ws {
					w.s.SendFrame([]byte(fmt.Sprintf("%d.%d.%d;", round, i, part)))
				}
			}
		})
		for i, w := range ws {
			b.wantWrites(w, fmt.Sprintf("%[1]d.%[2]d.0;%[1]d.%[2]d.1;%[1]d.%[2]d.2;", round, i))
		}
	}
}

func TestSessionWithoutLoginIsClosedAtItsDeadline(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	late, in, never := b.connect(), b.connect(), b.connect()
	late.s.SetDeadline(15 * time.Second)
	in.s.SetDeadline(15 * time.Second)
	never.s.SetDeadline(0)
	b.Tick()
	in.s.SetLoggedIn(7, pb.ClientType_CLIENT_TYPE_MAC)
	b.clock.advance(14 * time.Second)
	b.Tick()
	b.wantOpen(late, in, never)
	b.clock.advance(time.Second)
	b.Tick()
	b.wantClosed(late, ErrLoginDeadline)
	b.wantOpen(in, never)
	if !in.s.LoggedIn() || in.s.User != 7 || in.s.ClientType != pb.ClientType_CLIENT_TYPE_MAC ||
		never.s.LoggedIn() {
		t.Error("the login state differs from the state that was set")
	}
	b.wantCount("closed for the deadline", b.closedFor("login_deadline"), 1)
}

func TestSilentSessionIsClosed(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	silent, speaks := b.connect(), b.connect()
	silent.s.SetIdleLimit(30 * time.Second)
	speaks.s.SetIdleLimit(30 * time.Second)
	b.Tick()
	b.clock.advance(29 * time.Second)
	b.Tick()
	b.wantOpen(silent, speaks)
	b.in(func() { b.Deliver(&speaks.s.Conn, pdu.Header{}, nil) })
	// A write to the session does not extend its idle limit.
	b.in(func() { silent.s.SendFrame([]byte("x")) })
	b.clock.advance(time.Second)
	b.Tick()
	b.wantClosed(silent, ErrIdle)
	b.wantOpen(speaks)
	b.clock.advance(29 * time.Second)
	b.Tick()
	b.wantClosed(speaks, ErrIdle)
}

func TestQuietSessionGetsHeartbeats(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w, quiet := b.connect(), b.connect()
	w.s.SetKeepAlive(5 * time.Second)
	b.Tick()
	b.step("after five seconds without a frame", func() {
		for range 4 {
			b.clock.advance(time.Second)
			b.Tick()
		}
		b.wantWrites(w)
		b.clock.advance(time.Second)
		b.Tick()
		b.wantWrites(w, string(heartbeat))
	})
	b.step("a frame restarts the interval", func() {
		b.clock.advance(3 * time.Second)
		b.in(func() { w.s.SendFrame([]byte("x")) })
		b.wantWrites(w, "x")
		b.clock.advance(4 * time.Second)
		b.Tick()
		b.wantWrites(w)
		b.clock.advance(time.Second)
		b.Tick()
		b.wantWrites(w, string(heartbeat))
	})
	b.step("not without SetKeepAlive", func() { b.wantWrites(quiet) })
	h, body, n, err := pdu.Next(heartbeat, 100)
	if err != nil || n != 16 || len(body) != 0 || h.Command != pb.CmdHeartBeat || h.Seq != 0 {
		t.Errorf("the heartbeat is %+v", h)
	}
}

// TestSweepRunsOncePerSecond checks that ten ticks a second sweep the sessions once, and
// that every tick sweeps while a closing session waits.
func TestSweepRunsOncePerSecond(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	b.Tick()
	lingered, w := b.connect(), b.connect()
	lingered.buffered = 10
	b.in(func() { lingered.s.Close(ErrIdle) })
	lingered.buffered = 0
	b.Tick() // sweeps, because a closing session waits
	b.wantClosed(lingered, ErrIdle)
	w.s.SetDeadline(time.Millisecond)
	for range 9 {
		b.clock.advance(TickInterval)
		b.Tick()
		b.wantOpen(w)
	}
	b.clock.advance(TickInterval)
	b.Tick()
	b.wantClosed(w, ErrLoginDeadline)
}

// TestSessionsEndDuringIteration ends sessions while the loop iterates over them.
func TestSessionsEndDuringIteration(t *testing.T) {
	for name, end := range map[string]func(b *bench){
		"sweep": func(b *bench) {
			b.clock.advance(10 * time.Second)
			b.Tick()
		},
		"each": func(b *bench) {
			b.in(func() { b.Clients(func(s *Client) { s.Close(ErrShutdown) }) })
		},
		"carriers": func(b *bench) {
			b.in(func() { b.Clients(func(s *Client) { s.carrier.Close() }) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			closed := map[uint64]bool{}
			h := &role{closed: func(s *Client, _ error) { closed[s.ID()] = true }}
			b := newBench(t, h, LoopOptions{})
			b.Tick()
			ws := make([]*wire, 100)
			for i := range ws {
				ws[i] = b.connect()
				ws[i].s.SetDeadline(time.Second)
			}
			if b.Sessions() != 100 || testutil.ToFloat64(b.metrics.sessions) != 100 {
				t.Errorf("%d sessions", b.Sessions())
			}
			// Some sessions end first, at the ends and in the middle, so that slots move.
			for _, i := range []int{0, 99, 50, 51} {
				b.in(func() { ws[i].Close() })
			}
			end(b)
			if len(closed) != 100 || b.Sessions() != 0 ||
				testutil.ToFloat64(b.metrics.sessions) != 0 {
				t.Errorf("%d closed, %d left", len(closed), b.Sessions())
			}
		})
	}
}

func TestPanicsCloseOnlyTheirSession(t *testing.T) {
	b := newBench(t, &role{
		frame:  func(*Client, pdu.Header, []byte) { panic("frame") },
		tick:   func(*Loop, time.Time) { panic("tick") },
		closed: func(*Client, error) { panic("close") },
	}, LoopOptions{})
	w, other := b.connect(), b.connect()
	ran := false
	b.Post(func() { panic("post") })
	b.PostResult(func(pb.Message, error) { panic("result") }, nil, nil)
	b.Post(func() { ran = true })
	b.turn()
	if !ran {
		t.Error("a panic ended the turn")
	}
	b.in(func() {
		w.s.SendFrame([]byte("before"))
		b.Deliver(&w.s.Conn, pdu.Header{}, nil)
		other.s.SendFrame([]byte("x"))
	})
	b.wantWrites(w, "before")
	b.wantClosed(w, ErrPanic)
	b.wantWrites(other, "x")
	b.Tick()
	b.wantOpen(other)
	b.wantCount("panics", testutil.ToFloat64(b.metrics.panics), 5)
	b.wantCount("closed for a panic", b.closedFor("panic"), 1)
	b.Post(func() { ran = false })
	b.turn()
	if ran {
		t.Error("the loop is stuck")
	}
}

func TestOpenReturnsErrorsAndPanics(t *testing.T) {
	refusal := errors.New("no room")
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	if err := b.Open(&w.s.Conn); err != nil {
		t.Error(err)
	}
	b.h.open = func(*Client) error { return refusal }
	if err := b.Open(&w.s.Conn); err != refusal {
		t.Errorf("got %v", err)
	}
	b.h.open = func(*Client) error { panic("open") }
	if err := b.Open(&w.s.Conn); err != ErrPanic {
		t.Errorf("got %v, want ErrPanic", err)
	}
	b.wantCount("panics", testutil.ToFloat64(b.metrics.panics), 1)
}

// TestPanicInFanOutClosesOneSession checks that the rest of the group gets the frame.
func TestPanicInFanOutClosesOneSession(t *testing.T) {
	h := &sentRole{}
	b := &bench{t: t, h: &h.role, clock: newClock()}
	b.Loop = NewLoop(LoopOptions{
		Clients: h, Now: b.clock.now,
		Wake: func(_ *Loop, again bool) { b.wakes = append(b.wakes, again) },
	})
	ws := []*wire{b.connect(), b.connect(), b.connect(), b.connect()}
	b.in(func() { ws[3].s.Close(ErrIdle) })
	h.sent = func(s *Client, _ Tag, _ []byte) {
		if s == ws[1].s {
			panic("sent")
		}
	}
	tag := Tag{Peer: 1, ID: 2}
	group := []*Client{ws[3].s, ws[0].s, ws[1].s, ws[2].s}
	if err := b.FanOut(group, []byte("x"), tag); err != nil {
		t.Fatal(err)
	}
	if err := b.FanOut([]*Client{ws[0].s, ws[2].s}, []byte("y"), Tag{}); err != nil {
		t.Fatal(err)
	}
	b.turn()
	b.wantWrites(ws[0], "xy")
	b.wantWrites(ws[2], "xy")
	b.wantClosed(ws[1], ErrPanic)
	want := []string{"x to 1", "x to 2", "x to 3"}
	for i := range want {
		want[i] = fmt.Sprintf("x to %d, {1 2 0}", ws[i].s.ID())
	}
	if !slices.Equal(h.heard, want) {
		t.Errorf("heard %q, want %q", h.heard, want)
	}
}

// sentRole records the tagged frames.
type sentRole struct {
	role
	heard []string
	sent  func(s *Client, tag Tag, frame []byte)
}

func (r *sentRole) Sent(s *Client, tag Tag, frame []byte) {
	r.heard = append(r.heard, fmt.Sprintf("%s to %d, %v", frame, s.ID(), tag))
	r.sent(s, tag, frame)
}

// TestConnectionsEndInsideAndOutsideOfTurns also ends a connection while a flush iterates
// over the sessions.
func TestConnectionsEndInsideAndOutsideOfTurns(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w, watcher := b.connect(), b.connect()
	b.h.closed = func(s *Client, err error) { watcher.s.SendFrame(fmt.Appendf(nil, "%v;", err)) }
	w.end(nil) // outside of turns: runs a turn of its own, with a flush
	b.wantWrites(watcher, "<nil>;")
	b.wantCount("closed by the peer", b.closedFor("peer"), 1)
	v := b.connect()
	b.in(func() {
		v.s.SendFrame([]byte("lost"))
		v.end(nil)
		b.wantWrites(watcher) // the turn flushes at its end
	})
	b.wantWrites(watcher, "<nil>;")
	b.wantWrites(v)
}

func TestOpenLoopRunsOnceBeforeTheFirstSession(t *testing.T) {
	var heard []string
	var at time.Time
	b := newBench(t, &role{
		openLoop: func(l *Loop) {
			l.Data = "mine"
			heard = append(heard, fmt.Sprint("open ", l.Sessions()))
		},
		tick: func(l *Loop, now time.Time) {
			heard = append(heard, "tick")
			at = now
			if !l.Now().Equal(now) {
				t.Error("two times in one turn")
			}
		},
	}, LoopOptions{})
	b.connect()
	b.connect()
	b.Tick()
	if !slices.Equal(heard, []string{"open 0", "tick"}) || b.Data != "mine" ||
		!at.Equal(b.clock.t) {
		t.Errorf("heard %v at %v, data %v", heard, at, b.Data)
	}
}

// TestLoopInVirtualTime runs a loop as the engine does, with goroutines and a ticker,
// under virtual time.
func TestLoopInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := make(chan struct{}, 1)
		stop := make(chan struct{})
		h := &role{}
		l := NewLoop(LoopOptions{Clients: h, Wake: func(*Loop, bool) { wake <- struct{}{} }})
		var running sync.WaitGroup
		running.Go(func() {
			tick := time.NewTicker(TickInterval)
			defer tick.Stop()
			for {
				select {
				case <-wake:
					l.Turn()
				case <-tick.C:
					l.Tick()
				case <-stop:
					return
				}
			}
		})
		start := time.Now()
		w := &wire{l: l, h: h}
		closed := make(chan time.Duration, 1)
		w.h.closed = func(*Client, error) { closed <- time.Since(start) }
		l.Post(func() {
			w.s = l.AddClient(netip.AddrPort{}, w)
			w.s.SetDeadline(15 * time.Second)
			w.s.SetKeepAlive(5 * time.Second)
		})
		after := <-closed
		if after < 15*time.Second || after > 16*time.Second+TickInterval {
			t.Errorf("closed after %v, want 15 s", after)
		}
		close(stop)
		running.Wait()
		if len(w.writes) != 2 && len(w.writes) != 3 {
			t.Errorf("%d heartbeats in 15 s, one due every 5", len(w.writes))
		}
		if w.reason != ErrLoginDeadline {
			t.Errorf("closed because of %v", w.reason)
		}
	})
}
