package session

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// TestMailboxKeepsTheOrderOfEachPoster posts from several goroutines. All items run, and
// those of one goroutine run in its order.
func TestMailboxKeepsTheOrderOfEachPoster(t *testing.T) {
	const posters, each = 8, 500
	wake := make(chan struct{}, 2)
	l := NewLoop(LoopOptions{
		Handler: &role{}, MaxTurn: 64, Wake: func(*Loop, bool) { wake <- struct{}{} },
	})
	var got [posters][]int
	total := 0
	done := make(chan struct{})
	note := func(p, i int) {
		got[p] = append(got[p], i)
		if total++; total == posters*each {
			close(done)
		}
	}
	go func() {
		for {
			select {
			case <-wake:
				l.Turn()
			case <-done:
				return
			}
		}
	}()
	for p := range posters {
		go func() {
			for i := range each {
				if i%2 == 0 {
					l.Post(func() { note(p, i) })
				} else {
					l.PostResult(func(pb.Message, error) { note(p, i) }, nil, nil)
				}
			}
		}()
	}
	<-done
	for p, order := range got {
		if sorted := slices.IsSorted(order); len(order) != each || !sorted {
			t.Errorf("poster %d: %d of %d, in order: %v", p, len(order), each, sorted)
		}
	}
}

func TestResultsArriveAsPosted(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	m, failure := &pb.IMHeartBeat{}, errors.New("failed")
	ran := false
	b.PostResult(func(got pb.Message, err error) {
		ran = true
		if got != m || err != failure {
			t.Errorf("got %v, %v", got, err)
		}
	}, m, failure)
	b.turn()
	if !ran {
		t.Error("the result did not arrive")
	}
}

// TestOneWakePerTurn checks that posts before and during a turn call Wake at most once.
func TestOneWakePerTurn(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	ran := 0
	b.Post(func() {
		ran++
		b.Post(func() { ran++ }) // the current turn runs this function too
	})
	b.Post(func() { ran++ })
	b.wantWakes(false)
	b.turn()
	b.wantWakes()
	if ran != 3 {
		t.Errorf("%d of 3 ran in the turn", ran)
	}
	b.Post(func() { ran++ })
	b.wantWakes(false)
	// A turn for traffic runs the item. The Turn after the pending wake finds nothing.
	b.in(func() {})
	if ran != 4 {
		t.Errorf("%d of 4 ran", ran)
	}
	b.Post(func() { ran++ })
	b.wantWakes(false)
	b.turn()
	if ran != 5 {
		t.Errorf("%d of 5 ran", ran)
	}
}

func TestTurnRunsAtMostMaxTurnItems(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxTurn: 10})
	var ran []int
	for i := range 25 {
		b.Post(func() { ran = append(ran, i) })
	}
	b.wantWakes(false)
	for _, want := range []int{10, 20} {
		b.turn()
		if len(ran) != want {
			t.Fatalf("%d ran, want %d", len(ran), want)
		}
		b.wantWakes(true)
	}
	b.Post(func() { ran = append(ran, 25) }) // runs after the remaining items
	b.wantWakes(true)
	b.turn()
	b.wantWakes()
	if len(ran) != 26 || !slices.IsSorted(ran) {
		t.Errorf("ran %v", ran)
	}
}

// TestPostsDuringATurnRunBehindItsItems posts from items of a turn. The items of the turn
// still run first, in order.
func TestPostsDuringATurnRunBehindItsItems(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	var ran []int
	for i := range 4 {
		b.Post(func() {
			ran = append(ran, i)
			for j := range 3 {
				b.Post(func() { ran = append(ran, 10*(i+1)+j) })
			}
		})
	}
	b.turn()
	want := []int{0, 1, 2, 3, 10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42}
	if !slices.Equal(ran, want) {
		t.Errorf("ran %v", ran)
	}
}

// TestPendingWakeIsNotRepeated runs a turn for traffic that reaches its bound while a
// wake is pending already.
func TestPendingWakeIsNotRepeated(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxTurn: 10})
	for range 15 {
		b.Post(func() {})
	}
	b.in(func() {})
	b.wantWakes(false)
	b.turn()
	b.wantWakes()
}

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
			b.PostFrame(w.s, []byte("a")),
			b.PostFanOut([]*Session{w.s, other.s}, []byte("b")),
			w.s.Push(0, &pb.IMHeartBeat{}),
			w.s.PushFrame([]byte("c")),
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

func TestFullMailboxClosesTheReceiver(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxItems: 2})
	full, fine := b.connect(), b.connect()
	b.step("frames above the bound are dropped", func() {
		for range 2 {
			if err := b.PostFrame(fine.s, []byte("x")); err != nil {
				b.t.Fatal(err)
			}
		}
		for range 1000 {
			if err := b.PostFrame(full.s, []byte("y")); im.KindOf(err) != im.Busy {
				b.t.Fatalf("got %v, want busy", err)
			}
		}
		if n := len(b.overflow); n != 1 {
			b.t.Errorf("%d entries for one session, want one for all dropped frames", n)
		}
	})
	b.step("the turn runs functions and closes the receiver", func() {
		ran := false
		// Functions are never dropped: without its result a session would wait forever.
		b.Post(func() { ran = true })
		b.turn()
		if !ran {
			b.t.Error("a function was dropped")
		}
		b.wantClosed(full, ErrOverflow)
		b.wantWrites(full)
		b.wantWrites(fine, "xx")
		b.wantOpen(fine)
		b.wantCount("drops", testutil.ToFloat64(b.metrics.mailboxDrops), 1000)
		b.wantCount("closed for overflow", b.closedFor("overflow"), 1)
	})
	b.step("the drained mailbox accepts frames", func() {
		if err := b.PostFrame(fine.s, []byte("z")); err != nil {
			b.t.Error(err)
		}
		b.turn()
		b.wantWrites(fine, "z")
	})
}

func TestMailboxIsBoundedByBytes(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxBytes: 100})
	ws := []*wire{b.connect(), b.connect(), b.connect()}
	group := []*Session{ws[0].s, ws[1].s}
	if err := b.PostFanOut(group, make([]byte, 40)); err != nil {
		t.Fatal(err)
	}
	if err := b.PostFrame(ws[2].s, make([]byte, 44)); err != nil {
		t.Fatal(err) // 40 + 2*8 + 44: just fits
	}
	if err := b.PostFanOut(group, make([]byte, 1)); im.KindOf(err) != im.Busy {
		t.Fatalf("got %v, want busy", err)
	}
	b.turn()
	b.wantClosed(ws[0], ErrOverflow)
	b.wantClosed(ws[1], ErrOverflow)
	b.wantOpen(ws[2])
	// The bytes are free again.
	if err := b.PostFrame(ws[2].s, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	b.turn()
	b.wantOpen(ws[2])
}

// TestFanOutWritesBetweenCopies checks that a frame for a large group is not copied for
// all sessions before the first copies are written.
func TestFanOutWritesBetweenCopies(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	group, most := make([]*Session, 1200), 0
	b.in(func() {
		for i := range group {
			group[i] = b.Add(netip.AddrPort{}, &counting{write: func() {
				sum := 0
				for _, s := range group {
					sum += len(s.out)
				}
				most = max(most, sum)
			}})
		}
	})
	frame := make([]byte, directFrame-1)
	if err := b.PostFanOut(group, frame); err != nil {
		t.Fatal(err)
	}
	b.turn()
	if most == 0 || most > maxTurnBytes+len(frame) {
		t.Errorf("%d bytes copied at once", most)
	}
	for i, s := range group {
		if n := s.carrier.(*counting).bytes; n != len(frame) {
			t.Fatalf("connection %d got %d bytes", i, n)
		}
	}
}

// counting is a carrier that counts bytes and calls a function before each write.
type counting struct {
	write func()
	bytes int
}

func (c *counting) Write(p []byte) error {
	c.write()
	c.bytes += len(p)
	return nil
}

func (c *counting) Buffered() int { return 0 }
func (c *counting) Close()        {}

// TestEmptyMailboxAcceptsAFrameAboveTheBound posts one frame to a group that exceeds the
// bound. A mailbox that rejected it once would reject it forever.
func TestEmptyMailboxAcceptsAFrameAboveTheBound(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxBytes: 100})
	w, v := b.connect(), b.connect()
	if err := b.PostFanOut([]*Session{w.s, v.s}, make([]byte, 90)); err != nil {
		t.Fatal(err)
	}
	if err := b.PostFrame(w.s, []byte("x")); im.KindOf(err) != im.Busy {
		t.Fatalf("got %v, want busy", err)
	}
	b.turn()
	b.wantWrites(v, strings.Repeat("\x00", 90))
	b.wantClosed(w, ErrOverflow)
}

func TestCloseFlushesFirst(t *testing.T) {
	var why []error
	h := &role{closed: func(_ *Session, err error) { why = append(why, err) }}
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
	h := &role{frame: func(*Session, pdu.Header, []byte) { frames++ }}
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
			b.in(func() { b.Deliver(stays.s, pdu.Header{Command: pb.CmdHeartBeat}, nil) })
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
	b.h.closed = func(_ *Session, err error) {
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
	if !in.s.LoggedIn() || in.s.User != 7 || in.s.Client != pb.ClientType_CLIENT_TYPE_MAC ||
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
	b.in(func() { b.Deliver(speaks.s, pdu.Header{}, nil) })
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
			b.in(func() { b.Each(func(s *Session) { s.Close(ErrShutdown) }) })
		},
		"carriers": func(b *bench) {
			b.in(func() { b.Each(func(s *Session) { s.carrier.Close() }) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			closed := map[uint64]bool{}
			h := &role{closed: func(s *Session, _ error) { closed[s.ID()] = true }}
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

func TestSecondRemoveChangesNothing(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w, other := b.connect(), b.connect()
	b.in(func() {
		for _, err := range []error{ErrIdle, ErrSlow} {
			if why := b.Remove(w.s, err); why != ErrIdle {
				t.Errorf("removed because of %v", why)
			}
		}
		b.Each(func(s *Session) {
			if s != other.s {
				t.Error("the loop still holds the removed session")
			}
		})
	})
	if b.Sessions() != 1 || b.closedFor("idle") != 1 || b.closedFor("slow") != 0 {
		t.Errorf("%d sessions left", b.Sessions())
	}
}

func TestPanicsCloseOnlyTheirSession(t *testing.T) {
	b := newBench(t, &role{
		frame:  func(*Session, pdu.Header, []byte) { panic("frame") },
		tick:   func(*Loop, time.Time) { panic("tick") },
		closed: func(*Session, error) { panic("close") },
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
		b.Deliver(w.s, pdu.Header{}, nil)
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
	if err := b.Open(w.s); err != nil {
		t.Error(err)
	}
	b.h.open = func(*Session) error { return refusal }
	if err := b.Open(w.s); err != refusal {
		t.Errorf("got %v", err)
	}
	b.h.open = func(*Session) error { panic("open") }
	if err := b.Open(w.s); err != ErrPanic {
		t.Errorf("got %v, want ErrPanic", err)
	}
	b.wantCount("panics", testutil.ToFloat64(b.metrics.panics), 1)
}

// TestPanicInFanOutClosesOneSession checks that the rest of the group gets the frame.
func TestPanicInFanOutClosesOneSession(t *testing.T) {
	h := &sentRole{}
	b := &bench{t: t, h: &h.role, clock: newClock()}
	b.Loop = NewLoop(LoopOptions{
		Handler: h, Now: b.clock.now,
		Wake: func(_ *Loop, again bool) { b.wakes = append(b.wakes, again) },
	})
	ws := []*wire{b.connect(), b.connect(), b.connect(), b.connect()}
	b.in(func() { ws[3].s.Close(ErrIdle) })
	h.sent = func(s *Session, _ Tag, _ []byte) {
		if s == ws[1].s {
			panic("sent")
		}
	}
	tag := Tag{Peer: 1, ID: 2}
	group := []*Session{ws[3].s, ws[0].s, ws[1].s, ws[2].s}
	if err := b.PostTagged(group, []byte("x"), tag); err != nil {
		t.Fatal(err)
	}
	if err := b.PostFanOut([]*Session{ws[0].s, ws[2].s}, []byte("y")); err != nil {
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
	sent  func(s *Session, tag Tag, frame []byte)
}

func (r *sentRole) Sent(s *Session, tag Tag, frame []byte) {
	r.heard = append(r.heard, fmt.Sprintf("%s to %d, %v", frame, s.ID(), tag))
	r.sent(s, tag, frame)
}

// TestConnectionsEndInsideAndOutsideOfTurns also ends a connection while a flush iterates
// over the sessions.
func TestConnectionsEndInsideAndOutsideOfTurns(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w, watcher := b.connect(), b.connect()
	b.h.closed = func(s *Session, err error) { watcher.s.SendFrame(fmt.Appendf(nil, "%v;", err)) }
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
		l := NewLoop(LoopOptions{Handler: &role{}, Wake: func(*Loop, bool) { wake <- struct{}{} }})
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
		w := &wire{l: l, h: &role{}}
		closed := make(chan time.Duration, 1)
		w.h.closed = func(*Session, error) { closed <- time.Since(start) }
		l.Post(func() {
			w.s = l.Add(netip.AddrPort{}, w)
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
