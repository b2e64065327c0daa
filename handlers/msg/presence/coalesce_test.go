package presence

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/mono"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

const (
	statOnline  = pb.UserStatType_USER_STATUS_ONLINE
	statOffline = pb.UserStatType_USER_STATUS_OFFLINE
)

// testLoop is the only loop of a test, and its state.
type testLoop struct {
	*session.Loop
	state Loop
}

// newHandler returns a handler for one loop, whose turns the test runs.
func newHandler(t testing.TB, mode Mode, window time.Duration) (*Handler, *testLoop) {
	l := &testLoop{}
	l.Loop = session.NewLoop(session.LoopOptions{Wake: func(*session.Loop, bool) {}})
	h, err := New(Options{Mode: mode, Window: window,
		Client: func(s *session.Client) *Client { return s.Data.(*Client) },
		Loop:   func(*session.Loop) *Loop { return &l.state },
		Loops:  func() []*session.Loop { return []*session.Loop{l.Loop} },
		Online: session.NewRegistry(),
		QueriesFailed: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "failed", Help: "failed"}, []string{"kind"}),
		Now: time.Now, AfterFunc: mono.AfterFunc, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return h, l
}

// crowd is clients whose writes are only counted.
type crowd struct {
	writes, bytes int
	sessions      []*session.Client
}

// Write counts.
func (c *crowd) Write(p []byte) error { c.writes++; c.bytes += len(p); return nil }

// Buffered is nothing.
func (c *crowd) Buffered() int { return 0 }

// Close does nothing.
func (c *crowd) Close() {}

// join logs a PC client in on the loop. Within a turn.
func (c *crowd) join(h *Handler, l *testLoop, user uint32) *session.Client {
	s := l.AddClient(netip.AddrPort{}, c)
	s.Data = &Client{}
	s.SetLoggedIn(user, pb.ClientType_CLIENT_TYPE_WINDOWS)
	h.Join(s)
	c.sessions = append(c.sessions, s)
	return s
}

// TestStatusTurns: many clients and many changes are told in turns. Every client hears
// everything, changes made meanwhile are told after them, and no client hears twice
// though some leave in between.
func TestStatusTurns(t *testing.T) {
	const clients, users = 400, 3000 // 400 × 69 KB are more than one turn's
	var turns int
	h, l := newHandler(t, All, -1)
	l.Loop = session.NewLoop(session.LoopOptions{MaxTurn: 1,
		Wake: func(*session.Loop, bool) { turns++ }})
	var c crowd
	l.Begin()
	for i := range uint32(clients) {
		c.join(h, l, 1+i)
	}
	l.End()
	h.news.mu.Lock()
	for i := range uint32(users) {
		n := news{about: about{10_000 + i, newStatus}, status: statOnline}
		h.news.at[n.about] = len(h.news.list)
		h.news.list = append(h.news.list, n)
	}
	h.news.mu.Unlock()
	first := news{about: about{10_000, newStatus}, status: statOnline}
	frame, err := pdu.Append(nil, 0, first.message())
	if err != nil {
		t.Fatal(err)
	}
	h.tell(news{about: about{10_000, newStatus}, status: statOffline}) // begins
	l.Turn()
	if c.writes == 0 || c.writes >= clients {
		t.Fatalf("%d clients told in the first turn", c.writes)
	}
	h.tell(first)
	told := 0
	l.Nested(func() { // a client that has not heard leaves, and one that has
		for _, gone := range []*session.Client{c.sessions[0], c.sessions[clients-1]} {
			l.Remove(&gone.Conn, nil)
			h.Leave(gone)
		}
		told = c.writes
	})
	for range 100 {
		l.Turn()
	}
	// The first client has left its place, untold, to the last one. That one had left as
	// well, and its place to the one before it, which had heard and hears again.
	left := clients - 1
	// The first batch is a large frame that leaves piece by piece: frames that are sent
	// behind it meanwhile leave in one write with its end.
	if c.writes < left || c.writes > 2*left+1 {
		t.Errorf("%d writes (%d at first) for %d clients and two batches", c.writes, told, left)
	}
	want := left*users*len(frame) + (left-1)*len(frame)
	if c.bytes < want-users*len(frame) || c.bytes > want+2*users*len(frame) {
		t.Errorf("%d bytes written, want about %d", c.bytes, want)
	}
	h.news.mu.Lock()
	defer h.news.mu.Unlock()
	if len(h.news.list) != 0 || len(h.news.at) != 0 || h.news.telling != 0 || h.news.timed {
		t.Errorf("left over: %d, telling %d, timed %v", len(h.news.list), h.news.telling,
			h.news.timed)
	}
}

// TestStatusBound: beyond maxNews new changes are dropped and counted. The changes told
// at once have a bound too.
func TestStatusBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newHandler(t, All, 100*time.Millisecond)
		for user := range uint32(maxNews + 3) {
			h.tell(news{about: about{user, newStatus}, status: statOnline})
		}
		h.tell(news{about: about{0, newStatus}, status: statOffline}) // has a place
		if dropped := testutil.ToFloat64(h.metrics.dropped); dropped != 3 {
			t.Errorf("%v dropped, want 3", dropped)
		}
		h.news.mu.Lock()
		b, err := h.news.take()
		if err != nil || len(b.stats) < maxTold || len(b.stats) > maxTold+100 {
			t.Errorf("%d bytes told at once, %v", len(b.stats), err)
		}
		if len(b.each)+len(h.news.list) != maxNews {
			t.Errorf("%d told, %d left", len(b.each), len(h.news.list))
		}
		for i, n := range h.news.list {
			if h.news.at[n.about] != i {
				t.Fatalf("user %d is not at its place", n.user)
			}
		}
		var frames int
		for rest := b.stats; len(rest) > 0; frames++ {
			_, _, n, err := pdu.Next(rest, pdu.MaxServerFrame)
			if err != nil || n == 0 {
				t.Fatal("not whole frames")
			}
			if string(rest[:n]) != string(b.each[frames].frame) {
				t.Fatalf("frame %d is cut wrongly", frames)
			}
			rest = rest[n:]
		}
		if frames != len(b.each) {
			t.Errorf("%d frames for %d users", frames, len(b.each))
		}
		h.news.mu.Unlock()
	})
}

// BenchmarkTellStatus measures the work of the loop for one login while 2,000 PC clients
// are connected, told one by one and in batches of 100, as many as there are within a
// window at 1,000 logins a second. Writes to sockets, which cost the most, are not
// measured, but counted.
func BenchmarkTellStatus(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			h, l := newHandler(b, All, time.Hour)
			var c crowd
			l.Begin()
			for i := range uint32(2000) {
				c.join(h, l, i+1)
			}
			l.End()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i++ {
				h.tell(news{about: about{uint32(i), newStatus}, status: statOnline})
				if i%batch == batch-1 {
					h.tellNews()
					l.Turn()
				}
			}
			b.ReportMetric(float64(c.writes)/float64(b.N), "writes/login")
		})
	}
}
