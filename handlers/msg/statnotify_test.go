package msg

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

const (
	statOnline  = pb.UserStatType_USER_STATUS_ONLINE
	statOffline = pb.UserStatType_USER_STATUS_OFFLINE
)

// hear has the server hear from its route server that a user's pc came or went.
func (w *world) hear(user uint32, status pb.UserStatType) {
	w.h.RouteLink().Message(w.route.s, 0, statOf(user, status))
}

func statOf(user uint32, status pb.UserStatType) *pb.IMUserStatNotify {
	return pb.IMUserStatNotify_builder{UserStat: pb.UserStat_builder{UserId: proto.Uint32(user), Status: status.Enum()}.Build()}.Build()
}

// stats is what a device was told, as "user status" in order.
func stats(t *testing.T, got []received) []string {
	t.Helper()
	var list []string
	for _, g := range got {
		n, ok := g.m.(*pb.IMUserStatNotify)
		if !ok || g.seq != 0 {
			t.Fatalf("got %v with seq %d", g.m.Command(), g.seq)
		}
		list = append(list, fmt.Sprint(n.GetUserStat().GetUserId(), " ", uint32(n.GetUserStat().GetStatus())))
	}
	return list
}

func wantStats(t *testing.T, who string, d *device, want ...string) {
	t.Helper()
	if got := stats(t, d.got()); !slices.Equal(got, want) {
		t.Errorf("%s was told %v, want %v", who, got, want)
	}
}

// TestStatusIsCollected: what is said within the window is told together, once for each user, with the last word; phones are not told.
func TestStatusIsCollected(t *testing.T) {
	inWorld(t, Options{PresenceWindow: time.Second}, func(w *world) {
		pc, mac, phone := w.user(0, 1, win), w.user(1, 2, mac), w.user(0, 3, ios)
		w.hear(7, statOnline)
		time.Sleep(900 * time.Millisecond)
		w.hear(8, statOnline)
		w.hear(7, statOffline)
		w.hear(9, statOffline)
		w.hear(9, statOnline) // was back at once; who asked in between needs to hear it
		pc.want()
		time.Sleep(200 * time.Millisecond)
		w.hear(8, statOffline) // the next window
		for _, d := range []*device{pc, mac} {
			wantStats(t, "pc", d, "7 2", "8 1", "9 1")
		}
		time.Sleep(900 * time.Millisecond)
		pc.want()
		time.Sleep(200 * time.Millisecond)
		wantStats(t, "pc", pc, "8 2")
		phone.want()
		if all, merged := testutil.ToFloat64(w.h.metrics.news), testutil.ToFloat64(w.h.metrics.newsMerged); all != 6 || merged != 2 {
			t.Errorf("%v heard, %v merged; want 6 and 2", all, merged)
		}
		time.Sleep(5 * time.Second)
		pc.want()
	})
}

// TestStatusModes: who hears of whom.
func TestStatusModes(t *testing.T) {
	for mode, want := range map[Presence][]string{PresenceAll: {"7 1"}, PresenceContacts: nil, PresenceNone: nil} {
		inWorld(t, Options{Presence: mode}, func(w *world) {
			w.db.also = sessionsOf(nil)
			pc := w.user(0, 1, win)
			w.hear(7, statOnline)
			w.settle()
			wantStats(t, string(mode), pc, want...)
		})
	}
	inWorld(t, Options{PresenceWindow: -1}, func(w *world) {
		pc := w.user(0, 1, win)
		w.hear(7, statOnline)
		w.hear(7, statOffline)
		synctest.Wait()
		if got := stats(t, pc.got()); len(got) == 0 || got[len(got)-1] != "7 2" {
			t.Errorf("without a window: told %v", got)
		}
	})
}

// crowd is clients of which only what is written is counted.
type crowd struct {
	writes, bytes int
	sessions      []*session.Session
}

// Write counts.
func (c *crowd) Write(p []byte) error { c.writes++; c.bytes += len(p); return nil }

// Buffered is nothing.
func (c *crowd) Buffered() int { return 0 }

// Close does nothing.
func (c *crowd) Close() {}

// join logs a client in on a loop. Within a turn.
func (c *crowd) join(h *Server, l *session.Loop, user uint32, client pb.ClientType) *session.Session {
	s := l.Add(netip.AddrPort{}, c)
	if h.Open(s) != nil {
		panic("refused")
	}
	s.SetLoggedIn(user, client)
	clientOf(s).login = loggedIn
	h.online.Add(s)
	stateOf(l).join(s)
	c.sessions = append(c.sessions, s)
	return s
}

// TestStatusTurns: many clients and much to tell: it is told in turns, everybody hears everything, what comes meanwhile is told after it, and nobody hears twice
// though some go in between.
func TestStatusTurns(t *testing.T) {
	const clients, users = 400, 3000 // 400 × 69 KB are more than one turn's
	h, err := New(Options{PresenceWindow: -1})
	if err != nil {
		t.Fatal(err)
	}
	var turns int
	l := session.NewLoop(session.LoopOptions{Handler: h, Wake: func(*session.Loop, bool) { turns++ }, MaxTurn: 1})
	var c crowd
	l.Begin()
	for i := range uint32(clients) {
		c.join(h, l, 1+i, win)
	}
	l.End()
	h.crier.mu.Lock()
	for i := range uint32(users) {
		n := news{about: about{10_000 + i, newStatus}, status: statOnline}
		h.crier.at[n.about] = len(h.crier.list)
		h.crier.list = append(h.crier.list, n)
	}
	h.crier.mu.Unlock()
	frame, err := pdu.Append(nil, 0, statOf(10_000, statOnline))
	if err != nil {
		t.Fatal(err)
	}
	h.tell(news{about: about{10_000, newStatus}, status: statOffline}) // begins
	l.Turn()
	if c.writes == 0 || c.writes >= clients {
		t.Fatalf("%d clients told in the first turn", c.writes)
	}
	h.tell(news{about: about{10_000, newStatus}, status: statOnline})
	told := 0
	l.Nested(func() { // one who has not heard goes, one who has goes
		for _, gone := range []*session.Session{c.sessions[0], c.sessions[clients-1]} {
			l.Remove(gone, nil)
			h.Close(gone, nil)
		}
		told = c.writes
	})
	for range 100 {
		l.Turn()
	}
	// The first has left its place, untold, to the last, who had gone and left its place to the one before, who had heard: that one hears again.
	left := clients - 1
	// The first batch is a large frame that leaves piece by piece: what is sent behind it meanwhile leaves in one write with its end.
	if c.writes < left || c.writes > 2*left+1 {
		t.Errorf("%d writes (%d at first) for %d clients and two batches", c.writes, told, left)
	}
	if want := left*users*len(frame) + (left-1)*len(frame); c.bytes < want-users*len(frame) || c.bytes > want+2*users*len(frame) {
		t.Errorf("%d bytes written, want about %d", c.bytes, want)
	}
	h.crier.mu.Lock()
	defer h.crier.mu.Unlock()
	if len(h.crier.list) != 0 || len(h.crier.at) != 0 || h.crier.telling != 0 || h.crier.timed {
		t.Errorf("left over: %d, telling %d, timed %v", len(h.crier.list), h.crier.telling, h.crier.timed)
	}
}

// TestStatusBound: beyond maxNews new changes are dropped and counted; what is told at once has a bound too.
func TestStatusBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		for user := range uint32(maxNews + 3) {
			h.tell(news{about: about{user, newStatus}, status: statOnline})
		}
		h.tell(news{about: about{0, newStatus}, status: statOffline}) // has a place
		if dropped := testutil.ToFloat64(h.metrics.newsDropped); dropped != 3 {
			t.Errorf("%v dropped, want 3", dropped)
		}
		h.crier.mu.Lock()
		b, err := h.crier.take()
		if err != nil || len(b.stats) < maxTold || len(b.stats) > maxTold+100 {
			t.Errorf("%d bytes told at once, %v", len(b.stats), err)
		}
		if len(b.each)+len(h.crier.list) != maxNews {
			t.Errorf("%d told, %d left", len(b.each), len(h.crier.list))
		}
		for i, n := range h.crier.list {
			if h.crier.at[n.about] != i {
				t.Fatalf("user %d is not where it is looked for", n.user)
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
		h.crier.mu.Unlock()
	})
}

// storm has n pc clients log in, rate of them a second, and counts the writes it costs to tell everybody.
func storm(t testing.TB, window time.Duration, n, rate int) (writes, bytes int) {
	inBubble := func(t *testing.T) {
		inWorld(t, Options{PresenceWindow: window}, func(w *world) {
			var c [2]crowd
			for i := range n {
				d := &device{w: w, loop: w.loops[i%2]}
				d.on(func() { c[i%2].join(w.h, d.loop.Loop, uint32(i+1), win) })
				w.hear(uint32(i+1), statOnline)
				synctest.Wait()
				time.Sleep(time.Second / time.Duration(rate))
			}
			w.settle()
			writes, bytes = c[0].writes+c[1].writes, c[0].bytes+c[1].bytes
		})
	}
	inBubble(t.(*testing.T))
	return writes, bytes
}

// TestLoginStorm: 1,000 pc clients that log in within a second cost as many writes as there are windows and clients, not as there are logins and clients.
func TestLoginStorm(t *testing.T) {
	const n, rate = 1000, 1000
	writes, bytes := storm(t, 100*time.Millisecond, n, rate)
	each, eachBytes := storm(t, -1, n, rate)
	t.Logf("%d logins at %d/s: %d writes, %.1f each; one by one %d, %.1f each: a ratio of %.0f (bytes %d and %d)", n, rate,
		writes, float64(writes)/n, each, float64(each)/n, float64(each)/float64(writes), bytes, eachBytes)
	if each != n*(n+1)/2 {
		t.Errorf("one by one: %d writes, want %d", each, n*(n+1)/2)
	}
	if writes > each/50 {
		t.Errorf("%d writes with a window, %d one by one", writes, each)
	}
	if bytes < eachBytes {
		t.Errorf("%d bytes with a window, fewer than %d: somebody was not told", bytes, eachBytes)
	}
}

// BenchmarkTellStatus is the work of the loop for one login while 2,000 pc clients are connected, told one by one and in batches of 100, as many as come within
// a window at 1,000 logins a second. Writes to sockets, which cost the most, are not in it, but counted.
func BenchmarkTellStatus(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			h, err := New(Options{PresenceWindow: time.Hour})
			if err != nil {
				b.Fatal(err)
			}
			l := session.NewLoop(session.LoopOptions{Handler: h, Wake: func(*session.Loop, bool) {}})
			var c crowd
			l.Begin()
			for i := range uint32(2000) {
				c.join(h, l, i+1, win)
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
