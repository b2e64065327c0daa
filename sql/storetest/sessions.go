package storetest

import (
	"slices"
	"time"

	"teamtalk/core/im"
)

var sessionTests = []test{
	{"both sides", sessionsBothSides},
	{"newest first, up to limit, at or after", sessionsOrder},
	{"many in one second", sessionsOneSecond},
	{"updated by every second with a message", sessionsUpdated},
}

// session returns user's session with peer.
func (f *fixture) session(user, peer uint32) (s im.RecentSession, ok bool) {
	f.Helper()
	sessions, err := f.s.RecentSessions(f.ctx, user, 0, 1<<20)
	f.check("RecentSessions", err)
	for _, r := range sessions {
		if r.Peer == peer {
			if ok {
				f.Errorf("%d has two sessions with %d", user, peer)
			}
			s, ok = r, true
		}
	}
	return s, ok
}

func sessionsBothSides(f *fixture) {
	a, b := f.pair()
	last := text(b, a, "2")
	f.append(text(a, b, "1"), last)
	for _, side := range [][2]uint32{{a, b}, {b, a}} {
		got, err := f.s.RecentSessions(f.ctx, side[0], 0, 100)
		f.check("RecentSessions", err)
		if len(got) != 1 {
			f.Fatalf("%d has %d sessions, want 1", side[0], len(got))
		}
		f.wantSession("a side", side[0], singleSession, side[1], last)
	}
}

// peers returns the peers of user's recent sessions, in order.
func (f *fixture) peers(user, since uint32, limit int) []uint32 {
	f.Helper()
	sessions, err := f.s.RecentSessions(f.ctx, user, since, limit)
	f.check("RecentSessions", err)
	var peers []uint32
	for i, s := range sessions {
		if i > 0 && s.Updated > sessions[i-1].Updated {
			f.Errorf("sessions are not newest first: %d before %d", sessions[i-1].Updated,
				s.Updated)
		}
		peers = append(peers, s.Peer)
	}
	return peers
}

func sessionsOrder(f *fixture) {
	u := f.users(5)
	for _, m := range []*im.Message{text(u[0], u[1], "1"), text(u[0], u[2], "2"),
		text(u[3], u[0], "3"), text(u[0], u[4], "4"), text(u[1], u[0], "5")} {
		f.advance(2 * time.Second)
		f.append(m)
	}
	newest := []uint32{u[1], u[4], u[3], u[2]}
	for limit, want := range map[int][]uint32{100: newest, 4: newest, 2: newest[:2], 1: newest[:1],
		0: nil, -1: nil} {
		if got := f.peers(u[0], 0, limit); !slices.Equal(got, want) {
			f.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
	for i, peer := range newest {
		s, _ := f.session(u[0], peer)
		if got := f.peers(u[0], s.Updated, 100); !slices.Equal(got, newest[:i+1]) {
			f.Errorf("since session %d: got %v, want %v", i, got, newest[:i+1])
		}
		if got := f.peers(u[0], s.Updated+1, 100); !slices.Equal(got, newest[:i]) {
			f.Errorf("after session %d: got %v, want %v", i, got, newest[:i])
		}
	}
}

func sessionsOneSecond(f *fixture) {
	u := f.users(61)
	var batch []*im.Message
	for _, peer := range u[1:] {
		batch = append(batch, text(u[0], peer, "x"))
	}
	// A client that asked between the two got the time of the first. Later sessions,
	// perhaps of the same second, must not be skipped.
	since := f.now()
	f.append(batch[:30]...)
	f.append(batch[30:]...)
	got := f.peers(u[0], since, 100)
	slices.Sort(got)
	want := slices.Clone(u[1:])
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.Errorf("got %v, want %v", got, want)
	}
}

func sessionsUpdated(f *fixture) {
	u := f.users(3)
	for _, later := range []time.Duration{0, 0, time.Second, 0, 4 * time.Second} {
		f.advance(later)
		a, b := text(u[0], u[1], "a"), text(u[2], u[0], "b")
		f.append(a)
		f.append(b)
		f.wantSession("the sender", u[0], singleSession, u[1], a)
		f.wantSession("the recipient", u[1], singleSession, u[0], a)
		f.wantSession("the recipient", u[0], singleSession, u[2], b)
		f.wantSession("the sender", u[2], singleSession, u[0], b)
	}
	mixed := []*im.Message{text(u[0], u[1], "1"), text(u[1], u[0], "2"), text(u[0], u[1], "3")}
	f.advance(time.Second)
	f.append(mixed...)
	f.wantSession("a batch", u[1], singleSession, u[0], mixed[2])
}
