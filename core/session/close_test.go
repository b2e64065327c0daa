package session

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

func TestCloseFlushesFirst(t *testing.T) {
	var why []error
	h := &role{closed: func(_ *Client, err error) { why = append(why, err) }}
	b := newBench(t, h, LoopOptions{})
	w := b.connect()
	first := errors.New("first")
	b.in(func() {
		w.s.SendFrame([]byte("notice"))
		w.s.Close(first)
		w.s.SendFrame([]byte("too late"))
		if err := w.s.Send(0, &pb.IMHeartBeat{}); err != nil {
			t.Error(err)
		}
		w.s.Close(errors.New("second"))
		b.wantOpen(w)
	})
	b.wantWrites(w, "notice")
	b.wantClosed(w, first)
	if len(why) != 1 || why[0] != first {
		t.Errorf("the handler heard %v", why)
	}
	if err := w.s.Push(0, &pb.IMHeartBeat{}); err != nil {
		t.Error(err)
	}
	b.turn()
	b.wantWrites(w)
	if w.closes != 1 {
		t.Errorf("closed %d times", w.closes)
	}
}

func TestCloseWaitsForThePeer(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	reads, stuck := b.connect(), b.connect()
	b.Tick()
	reads.buffered, stuck.buffered = 10, 10
	b.in(func() {
		reads.s.Close(ErrShutdown)
		stuck.s.Close(ErrShutdown)
	})
	tick := func() {
		b.clock.advance(TickInterval)
		b.Tick()
	}
	tick()
	b.wantOpen(reads, stuck)
	reads.buffered = 0
	tick() // closes reads with the next tick, not with the next second
	b.wantClosed(reads, ErrShutdown)
	for range 17 {
		tick()
	}
	b.wantOpen(stuck)
	tick()
	b.wantClosed(stuck, ErrShutdown)
}

// TestLingeringSessionOnlyWaits checks that a lingering session sends nothing more and
// drops arriving frames. It is closed by its peer, by Close, or after two seconds of the
// monotonic clock, even when frames arrive.
func TestLingeringSessionOnlyWaits(t *testing.T) {
	frames := 0
	h := &role{frame: func(*Client, pdu.Header, []byte) { frames++ }}
	b := newBench(t, h, LoopOptions{})
	kicked := errors.New("kicked")
	hangsUp, stopped, stays := b.connect(), b.connect(), b.connect()
	all := []*wire{hangsUp, stopped, stays}
	b.step("only earlier frames leave", func() {
		b.in(func() {
			for _, w := range all {
				w.s.SendFrame([]byte("notice"))
				w.s.Linger(kicked)
				w.s.SendFrame([]byte("too late"))
				w.s.Linger(errors.New("second"))
				if !w.s.IsClosed() || !w.s.Lingers() {
					b.t.Error("IsClosed or Lingers reports false for a lingering session")
				}
			}
		})
		b.wantOpen(all...)
		for _, w := range all {
			b.wantWrites(w, "notice")
		}
	})
	b.step("the peer closes", func() {
		hangsUp.end(nil)
		b.wantClosed(hangsUp, kicked)
	})
	b.step("Close closes", func() {
		b.in(func() { stopped.s.Close(ErrShutdown) })
		b.wantClosed(stopped, kicked)
	})
	b.step("two seconds pass while frames arrive", func() {
		for range 19 {
			b.clock.advance(TickInterval)
			b.in(func() { b.Deliver(&stays.s.Conn, pdu.Header{Command: pb.CmdHeartBeat}, nil) })
			b.Tick()
		}
		b.wantOpen(stays)
		b.clock.advance(TickInterval)
		b.Tick()
		b.wantClosed(stays, kicked)
		b.wantCount("ignored", testutil.ToFloat64(b.metrics.ignored), 19)
		if frames != 0 {
			b.t.Errorf("%d frames handled", frames)
		}
	})
}

// TestLoginDeadlineDoesNotExtendClosing closes a session whose login deadline is far
// away.
func TestLoginDeadlineDoesNotExtendClosing(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	w.s.SetDeadline(15 * time.Second)
	w.buffered = 10
	b.in(func() { w.s.Close(ErrMalformed) })
	b.clock.advance(2 * time.Second)
	b.Tick()
	b.wantClosed(w, ErrMalformed)
}

// TestClosingDoesNotExtendTheLoginDeadline closes a session without a login shortly
// before its deadline.
func TestClosingDoesNotExtendTheLoginDeadline(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	w.s.SetDeadline(time.Second)
	w.buffered = 10
	b.in(func() { w.s.Close(ErrMalformed) })
	b.clock.advance(time.Second)
	b.Tick()
	b.wantClosed(w, ErrMalformed)
}

func TestSlowPeerIsClosed(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxBuffered: 100})
	w, fine := b.connect(), b.connect()
	b.step("one turn may send more than the limit", func() {
		b.in(func() { w.s.SendFrame(make([]byte, 1000)) })
		b.wantOpen(w)
	})
	b.step("the buffer may be filled up to the limit", func() {
		w.writes = nil
		w.buffered = 60
		b.in(func() { w.s.SendFrame(make([]byte, 40)) })
		b.wantOpen(w)
	})
	b.step("a frame above the limit closes the session", func() {
		w.writes = nil
		w.buffered = 100
		b.in(func() {
			w.s.SendFrame([]byte("x"))
			fine.s.SendFrame([]byte("x"))
		})
		b.wantWrites(w)
		b.wantClosed(w, ErrSlow)
		b.wantWrites(fine, "x")
		b.wantCount("slow", testutil.ToFloat64(b.metrics.slow), 1)
		b.wantCount("closed for slowness", b.closedFor("slow"), 1)
	})
}

// TestFirstReasonStands checks that the reason of Close stands when the peer turns out to
// be slow during the last flush.
func TestFirstReasonStands(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxBuffered: 100})
	w := b.connect()
	w.buffered = 100
	b.in(func() {
		w.s.SendFrame([]byte("you are logged in elsewhere"))
		w.s.Close(ErrMalformed)
	})
	b.wantClosed(w, ErrMalformed)
}

func TestFailedWriteEndsTheSession(t *testing.T) {
	reset := errors.New("connection reset")
	var heard error
	b := newBench(t, &role{}, LoopOptions{})
	w, other := b.connect(), b.connect()
	b.h.closed = func(_ *Client, err error) {
		heard = err
		other.s.SendFrame([]byte("gone")) // within the same flush
	}
	w.broken = reset
	b.in(func() { w.s.SendFrame([]byte("x")) })
	b.wantClosed(w, reset)
	if heard != reset {
		t.Errorf("the handler heard %v", heard)
	}
	b.wantWrites(other, "gone")
	b.wantCount("closed otherwise", b.closedFor("other"), 1)
}

func TestSecondRemoveChangesNothing(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w, other := b.connect(), b.connect()
	b.in(func() {
		for _, err := range []error{ErrIdle, ErrSlow} {
			if why := b.Remove(&w.s.Conn, err); why != ErrIdle {
				t.Errorf("removed because of %v", why)
			}
		}
		b.Clients(func(s *Client) {
			if s != other.s {
				t.Error("the loop still holds the removed session")
			}
		})
	})
	if b.Sessions() != 1 || b.closedFor("idle") != 1 || b.closedFor("slow") != 0 {
		t.Errorf("%d sessions left", b.Sessions())
	}
}

// TestLeaveWithoutHalves lets a session leave whose carrier cannot close one direction: the
// session closes.
func TestLeaveWithoutHalves(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	b.in(func() {
		if !w.s.IsQuiet() {
			t.Error("a session without output is not quiet")
		}
		w.s.SendFrame([]byte("ack"))
		if w.s.IsQuiet() {
			t.Error("a session with output is quiet")
		}
		w.s.Leave(ErrShutdown)
		w.s.Leave(ErrIdle)
	})
	b.wantWrites(w, "ack")
	b.wantClosed(w, ErrShutdown)
}
