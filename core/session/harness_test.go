package session

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/mono"
	"teamtalk/core/pdu"
)

// clock is a time that advances only by calls of advance.
type clock struct{ t time.Time }

func newClock() *clock                   { return &clock{time.Unix(1_700_000_000, 0)} }
func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

// wire is a carrier that records what it is given.
type wire struct {
	l        *Loop
	s        *Client
	h        *role
	writes   []string
	buffered int
	broken   error // error of the next Write
	closes   int
	reason   error // reason of the close
}

func (w *wire) Write(p []byte) error {
	if w.closes > 0 {
		panic("write after close")
	}
	if w.broken != nil {
		w.end(w.broken)
		return w.broken
	}
	w.writes = append(w.writes, string(p))
	return nil
}

// Writev records ps as one write. It also overwrites the list, as the interface allows.
func (w *wire) Writev(ps [][]byte) error {
	all := bytes.Join(ps, nil)
	for i := range ps {
		ps[i] = ps[i][len(ps[i]):]
	}
	return w.Write(all)
}

func (w *wire) Buffered() int { return w.buffered }
func (w *wire) Close()        { w.end(nil) }

// end does what the engine does when a connection is gone.
func (w *wire) end(err error) {
	if w.closes++; w.closes > 1 {
		return
	}
	w.l.Ended(&w.s.Conn, err)
	w.reason = w.s.closeErr
}

// role is a handler made of functions. A nil function does nothing.
type role struct {
	open     func(s *Client) error
	frame    func(s *Client, h pdu.Header, body []byte)
	closed   func(s *Client, err error)
	openLoop func(l *Loop)
	tick     func(l *Loop, now time.Time)
	due      func(l *Loop) int64
}

func (r *role) Open(s *Client) error {
	if r.open != nil {
		return r.open(s)
	}
	return nil
}

func (r *role) Frame(s *Client, h pdu.Header, body []byte) {
	if r.frame != nil {
		r.frame(s, h, body)
	}
}

func (r *role) Close(s *Client, err error) {
	if r.closed != nil {
		r.closed(s, err)
	}
}

func (r *role) OpenLoop(l *Loop) {
	if r.openLoop != nil {
		r.openLoop(l)
	}
}

func (r *role) Tick(l *Loop, now time.Time) {
	if r.tick != nil {
		r.tick(l, now)
	}
}

func (r *role) Due(l *Loop) int64 {
	if r.due != nil {
		return r.due(l)
	}
	return Never
}

// bench is a loop that the test drives by hand.
type bench struct {
	*Loop
	t     testing.TB
	h     *role
	clock *clock
	wakes []bool // the argument again of each call of Wake
}

func newBench(t testing.TB, h *role, opt LoopOptions) *bench {
	b := &bench{t: t, h: h, clock: newClock()}
	if h != nil {
		opt.Clients = h
	}
	opt.Now = b.clock.now
	opt.Wake = func(l *Loop, again bool) {
		if l != b.Loop {
			t.Error("Wake of another loop")
		}
		b.wakes = append(b.wakes, again)
	}
	b.Loop = NewLoop(opt)
	return b
}

// inRealTime makes the loop of a benchmark read the clock that servers read.
func (b *bench) inRealTime() *bench {
	b.opt.Now, b.realTime, b.begun = mono.Now, true, mono.Now()
	b.begunMs = b.begun.UnixMilli()
	return b
}

// step runs f as a subtest on the state that earlier steps left. The test ends when a
// step fails, because later steps build on it.
func (b *bench) step(name string, f func()) {
	b.t.Helper()
	outer := b.t.(*testing.T)
	defer func() { b.t = outer }()
	ok := outer.Run(name, func(t *testing.T) {
		b.t = t
		f()
	})
	if !ok {
		outer.FailNow()
	}
}

// connect adds a session in a turn of its own.
func (b *bench) connect() *wire {
	w := &wire{l: b.Loop, h: b.h}
	b.in(func() { w.s = b.AddClient(netip.MustParseAddrPort("192.0.2.7:1234"), w) })
	return w
}

// in runs f as part of a turn.
func (b *bench) in(f func()) {
	b.Begin()
	f()
	b.End()
}

// turn does what the engine does after Wake. The test fails when the loop did not call
// Wake.
func (b *bench) turn() {
	b.t.Helper()
	if len(b.wakes) == 0 {
		b.t.Fatal("the loop was not woken")
	}
	b.wakes = nil
	b.Turn()
}

func (b *bench) wantWakes(want ...bool) {
	b.t.Helper()
	if len(b.wakes) != len(want) {
		b.t.Fatalf("wakes %v, want %v", b.wakes, want)
	}
	for i := range want {
		if b.wakes[i] != want[i] {
			b.t.Fatalf("wakes %v, want %v", b.wakes, want)
		}
	}
}

func (b *bench) wantWrites(w *wire, want ...string) {
	b.t.Helper()
	if len(w.writes) != len(want) {
		b.t.Fatalf("writes %q, want %q", w.writes, want)
	}
	for i := range want {
		if w.writes[i] != want[i] {
			b.t.Fatalf("writes %q, want %q", w.writes, want)
		}
	}
	w.writes = nil
}

func (b *bench) wantClosed(w *wire, why error) {
	b.t.Helper()
	if w.closes == 0 {
		b.t.Fatalf("still open, want it closed: %v", why)
	}
	if !errors.Is(w.reason, why) {
		b.t.Fatalf("closed because of %v, want %v", w.reason, why)
	}
	if !w.s.IsClosed() {
		b.t.Fatal("IsClosed reports false for a closed session")
	}
}

func (b *bench) wantOpen(ws ...*wire) {
	b.t.Helper()
	for i, w := range ws {
		if w.closes > 0 {
			b.t.Fatalf("connection %d is closed: %v", i, w.reason)
		}
	}
}

// wantCount compares the value of a metric.
func (b *bench) wantCount(what string, got, want float64) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (b *bench) closedFor(reason string) float64 {
	return testutil.ToFloat64(b.metrics.closes.WithLabelValues(reason))
}
