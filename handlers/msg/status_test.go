package msg

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

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
	return pb.IMUserStatNotify_builder{UserStat: pb.UserStat_builder{UserId: proto.Uint32(user),
		Status: status.Enum()}.Build()}.Build()
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
		list = append(list, fmt.Sprint(n.GetUserStat().GetUserId(), " ",
			uint32(n.GetUserStat().GetStatus())))
	}
	return list
}

func wantStats(t *testing.T, who string, d *device, want ...string) {
	t.Helper()
	if got := stats(t, d.got()); !slices.Equal(got, want) {
		t.Errorf("%s was told %v, want %v", who, got, want)
	}
}

// TestStatusIsCollected: what is said within the window is told together, once for each
// user, with the last word; phones are not told.
func TestStatusIsCollected(t *testing.T) {
	inWorld(t, Options{PresenceWindow: time.Second}, func(w *world) {
		pc, mac, phone := w.user(0, 1, win), w.user(1, 2, mac), w.user(0, 3, ios)
		w.hear(7, statOnline)
		time.Sleep(900 * time.Millisecond)
		w.hear(8, statOnline)
		w.hear(7, statOffline)
		w.hear(9, statOffline)
		w.hear(9, statOnline) // was back at once; a client that asked in between needs to hear it
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
		if all, merged := w.counted("notifies_total"),
			w.counted("notifies_merged_total"); all != 6 || merged != 2 {
			t.Errorf("%v heard, %v merged; want 6 and 2", all, merged)
		}
		time.Sleep(5 * time.Second)
		pc.want()
	})
}

// TestStatusModes: each mode tells the clients that it names.
func TestStatusModes(t *testing.T) {
	for mode, want := range map[Presence][]string{PresenceAll: {"7 1"}, PresenceContacts: nil,
		PresenceNone: nil} {
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

// join logs a client in on a loop. Within a turn.
func (c *crowd) join(h *Server, l *session.Loop, user uint32,
	client pb.ClientType) *session.Client {
	s := l.AddClient(netip.AddrPort{}, c)
	if h.Open(s) != nil {
		panic("refused")
	}
	s.SetLoggedIn(user, client)
	h.online.Add(s)
	h.presence.Join(s)
	c.sessions = append(c.sessions, s)
	return s
}

// storm has n pc clients log in, rate of them a second, and counts the writes it costs to
// tell everybody.
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

// TestLoginStorm: 1,000 pc clients that log in within a second cost as many writes as
// there are windows and clients, not as there are logins and clients.
func TestLoginStorm(t *testing.T) {
	const n, rate = 1000, 1000
	writes, bytes := storm(t, 100*time.Millisecond, n, rate)
	each, eachBytes := storm(t, -1, n, rate)
	t.Logf("%d logins at %d/s: %d writes, %.1f each; one by one %d, %.1f each: a ratio of %.0f "+
		"(bytes %d and %d)", n, rate,
		writes, float64(writes)/n, each, float64(each)/n, float64(each)/float64(writes), bytes,
		eachBytes)
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
