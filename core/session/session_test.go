package session

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

func TestNewSessionIsOpenAndNotLoggedIn(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w, v := b.connect(), b.connect()
	if w.s.ID() == 0 || v.s.ID() <= w.s.ID() {
		t.Errorf("ids %d, %d do not increase", w.s.ID(), v.s.ID())
	}
	if w.s.Remote() != "192.0.2.7:1234" || w.s.RemoteAddr().Port() != 1234 {
		t.Errorf("remote %s", w.s.Remote())
	}
	if w.s.Loop() != b.Loop || !w.s.Opened().Equal(b.clock.t) {
		t.Errorf("loop %v, opened %v", w.s.Loop(), w.s.Opened())
	}
	b.clock.advance(time.Hour)
	if now := b.Now(); !w.s.Opened().Equal(now) {
		t.Errorf("the time of the turn moved to %v without a turn", now)
	}
	if w.s.LoggedIn() || w.s.IsClosed() {
		t.Error("a new session is logged in, or closed")
	}
}

// TestUnencodableMessageDoesNotHarmTheSession sends a message without its required
// fields, which is a fault of this program. The connection stays open and its other
// frames are sent.
func TestUnencodableMessageDoesNotHarmTheSession(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	b.in(func() {
		w.s.SendFrame([]byte("before"))
		if err := w.s.Send(1, &pb.IMMsgDataAck{}); err == nil {
			t.Error("sent without its required fields")
		}
		w.s.SendFrame([]byte("after"))
	})
	b.wantWrites(w, "beforeafter")
	if err := w.s.Push(1, &pb.IMMsgDataAck{}); err == nil {
		t.Error("pushed without its required fields")
	}
	b.wantWakes()
	b.wantCount("encode errors", testutil.ToFloat64(b.metrics.encodeErrors), 2)
}

func TestThirdMalformedFrameInARowClosesTheSession(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	for _, ok := range []bool{false, false, true, false, false, true, true, false, false} {
		b.in(func() { w.s.Malformed(ok) })
	}
	b.wantOpen(w)
	b.in(func() { w.s.Malformed(false) })
	b.wantClosed(w, ErrMalformed)
	b.wantCount("closed for malformed frames", b.closedFor("malformed"), 1)
}

func TestPushCloseKeepsTheOrder(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	if err := w.s.PushShared([]byte("notice")); err != nil {
		t.Fatal(err)
	}
	w.s.PushClose(ErrShutdown)
	if err := w.s.PushShared([]byte("too late")); err != nil {
		t.Fatal(err)
	}
	b.turn()
	b.wantWrites(w, "notice")
	b.wantClosed(w, ErrShutdown)
}

func TestListenersHaveMetricsOfTheirOwn(t *testing.T) {
	reg := prometheus.NewRegistry()
	clients := NewMetrics(reg, "clients")
	NewMetrics(reg, "servers") // the same names with another label do not conflict
	clients.closed(nil)
	clients.closed(ErrIdle)
	clients.closed(errors.New("reset"))
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	for _, reason := range []string{"peer", "idle", "other"} {
		if got := testutil.ToFloat64(clients.closes.WithLabelValues(reason)); got != 1 {
			t.Errorf("closed for %s: %v", reason, got)
		}
	}
}

// BenchmarkMailbox posts frames and lets the loop take them, one at a time and in
// batches.
func BenchmarkMailbox(b *testing.B) {
	for name, batch := range map[string]int{"1": 1, "64": 64} {
		b.Run("batch="+name, func(b *testing.B) {
			l := newBench(b, &role{}, LoopOptions{}).inRealTime()
			w := &discard{}
			l.in(func() { w.s = l.AddClient(netip.AddrPort{}, w) })
			frame := make([]byte, 128)
			b.ReportAllocs()
			for b.Loop() {
				for range batch {
					if err := w.s.PushShared(frame); err != nil {
						b.Fatal(err)
					}
				}
				l.turn()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/frame")
		})
	}
}

// BenchmarkMailboxContended posts from all cores while one goroutine takes the items.
func BenchmarkMailboxContended(b *testing.B) {
	wake := make(chan struct{}, 2)
	l := NewLoop(LoopOptions{
		Clients: &role{}, MaxItems: 1 << 30, MaxBytes: 1 << 40,
		Wake: func(*Loop, bool) { wake <- struct{}{} },
	})
	w := &discard{}
	l.Begin()
	w.s = l.AddClient(netip.AddrPort{}, w)
	l.End()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for range wake {
			l.Turn()
		}
	}()
	frame := make([]byte, 128)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := w.s.PushShared(frame); err != nil {
				b.Error(err)
			}
		}
	})
	done := make(chan struct{})
	l.Post(func() { close(done) })
	<-done
	close(wake)
	<-stopped
}

// BenchmarkFanOut sends one frame to 1,000 sessions of a loop.
func BenchmarkFanOut(b *testing.B) {
	l := newBench(b, &role{}, LoopOptions{})
	group := make([]*Client, 1000)
	l.in(func() {
		for i := range group {
			w := &discard{}
			w.s = l.AddClient(netip.AddrPort{}, w)
			group[i] = w.s
		}
	})
	frame := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.FanOut(group, frame, Tag{}); err != nil {
			b.Fatal(err)
		}
		l.turn()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(group)), "ns/session")
}

// BenchmarkPosted posts eight segments of a file to one session, and to a thousand
// sessions a frame just long enough not to be copied and one just short enough to be
// copied.
func BenchmarkPosted(b *testing.B) {
	for _, bench := range []struct {
		name          string
		sessions      int
		frames, bytes int
	}{
		{"segments", 1, 8, 32 << 10},
		{"group/8KiB", 1000, 1, directFrame},
		{"group/7KiB", 1000, 1, directFrame - 1024},
	} {
		b.Run(bench.name, func(b *testing.B) {
			l := newBench(b, &role{}, LoopOptions{})
			group := make([]*Client, bench.sessions)
			l.in(func() {
				for i := range group {
					w := &discard{}
					w.s = l.AddClient(netip.AddrPort{}, w)
					group[i] = w.s
				}
			})
			frame := make([]byte, bench.bytes)
			b.SetBytes(int64(bench.sessions * bench.frames * bench.bytes))
			b.ReportAllocs()
			for b.Loop() {
				for range bench.frames {
					if err := l.FanOut(group, frame, Tag{}); err != nil {
						b.Fatal(err)
					}
				}
				l.turn()
				for len(l.wakes) > 0 { // the mailbox holds more than one turn runs
					l.turn()
				}
			}
		})
	}
}

// BenchmarkSweep looks at the deadlines of 100,000 sessions.
func BenchmarkSweep(b *testing.B) {
	l := newBench(b, &role{}, LoopOptions{})
	l.in(func() {
		for range 100_000 {
			w := &discard{}
			w.s = l.AddClient(netip.AddrPort{}, w)
			w.s.SetIdleLimit(time.Hour)
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		l.sweep()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100_000), "ns/session")
}

// BenchmarkDeliver passes a frame from the engine to the handler and writes its answer.
func BenchmarkDeliver(b *testing.B) {
	h := &role{frame: func(s *Client, h pdu.Header, _ []byte) { s.SendFrame(heartbeat) }}
	l := newBench(b, h, LoopOptions{}).inRealTime()
	w := &discard{}
	l.in(func() { w.s = l.AddClient(netip.AddrPort{}, w) })
	b.ReportAllocs()
	for b.Loop() {
		l.Begin()
		l.Deliver(&w.s.Conn, pdu.Header{}, nil)
		l.End()
	}
}

// discard is a carrier that discards every write.
type discard struct{ s *Client }

func (*discard) Write([]byte) error    { return nil }
func (*discard) Writev([][]byte) error { return nil }
func (*discard) Buffered() int         { return 0 }
func (*discard) Close()                {}
