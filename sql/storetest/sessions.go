package storetest

import (
	"fmt"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var sessionTests = []test{
	{"both sides", sessionsBothSides},
	{"newest first, up to limit", sessionsOrder},
	{"at or after", sessionsSince},
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

// at returns a message created at a unix second.
func at(created, from, to uint32) *im.Message {
	m := text(from, to, fmt.Sprintf("at %d", created))
	m.Created = created
	return m
}

func sessionsBothSides(f *fixture) {
	a, b := f.pair()
	last := at(1002, b, a)
	f.append(at(1001, a, b), last)
	for _, side := range [][2]uint32{{a, b}, {b, a}} {
		got, err := f.s.RecentSessions(f.ctx, side[0], 0, 100)
		f.check("RecentSessions", err)
		if len(got) != 1 {
			f.Fatalf("%d has %d sessions, want 1", side[0], len(got))
		}
		s := got[0]
		if s.Peer != side[1] || s.Type != pb.SessionType_SESSION_TYPE_SINGLE || s.Removed ||
			s.Updated != 1002 || !sameMessage(s.Latest, *last) {
			f.Errorf("session of %d with %d: %+v", side[0], side[1], s)
		}
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
	f.append(at(1000, u[0], u[1]), at(1001, u[0], u[2]), at(1002, u[3], u[0]), at(1003, u[0], u[4]),
		at(1004, u[1], u[0]))
	newest := []uint32{u[1], u[4], u[3], u[2]}
	for limit, want := range map[int][]uint32{100: newest, 4: newest, 2: newest[:2], 1: newest[:1],
		0: nil, -1: nil} {
		if got := f.peers(u[0], 0, limit); !slices.Equal(got, want) {
			f.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
}

func sessionsSince(f *fixture) {
	u := f.users(4)
	f.append(at(1000, u[0], u[1]), at(1001, u[0], u[2]), at(1002, u[0], u[3]))
	for since, want := range map[uint32][]uint32{
		0: {u[3], u[2], u[1]}, 1000: {u[3], u[2], u[1]}, 1001: {u[3],
			u[2]}, 1002: {u[3]}, 1003: nil,
	} {
		if got := f.peers(u[0], since, 100); !slices.Equal(got, want) {
			f.Errorf("since %d: got %v, want %v", since, got, want)
		}
	}
}

func sessionsOneSecond(f *fixture) {
	u := f.users(61)
	var batch []*im.Message
	for _, peer := range u[1:] {
		batch = append(batch, at(1000, u[0], peer))
	}
	f.append(batch[:30]...)
	// A client that asked now got time 1000. Later sessions of the same second must not
	// be skipped.
	f.append(batch[30:]...)
	got := f.peers(u[0], 1000, 100)
	slices.Sort(got)
	want := slices.Clone(u[1:])
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.Errorf("got %v, want %v", got, want)
	}
}

func sessionsUpdated(f *fixture) {
	u := f.users(3)
	for _, created := range []uint32{1000, 1000, 1001, 1001, 1005} {
		m := at(created, u[0], u[1])
		f.append(m)
		f.append(at(created, u[2], u[0]))
		for _, side := range [][2]uint32{{u[0], u[1]}, {u[1], u[0]}, {u[0], u[2]}, {u[2], u[0]}} {
			if s, ok := f.session(side[0], side[1]); !ok || s.Updated != created ||
				s.Latest.ID == 0 {
				f.Errorf("after a message at %d: session of %d with %d is %+v", created,
					side[0], side[1], s)
			}
		}
		if s, _ := f.session(u[1], u[0]); !sameMessage(s.Latest, *m) {
			f.Errorf("latest %+v, want %+v", s.Latest, *m)
		}
	}
	mixed := []*im.Message{at(1010, u[0], u[1]), at(1012, u[1], u[0]), at(1012, u[0], u[1])}
	f.append(mixed...)
	if s, _ := f.session(u[1], u[0]); s.Updated != 1012 || !sameMessage(s.Latest, *mixed[2]) {
		f.Errorf("after a batch over two seconds: %+v", s)
	}
}
