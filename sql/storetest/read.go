package storetest

import (
	"fmt"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var readTests = []test{
	{"empty conversation", emptyConversation},
	{"history in pages", historyPages},
	{"history is of one conversation", historyOfOne},
	{"messages by id", messagesByID},
	{"latest id", latestID},
}

var unreadTests = []test{
	{"counted for the recipient, with the latest message", unreadCounted},
	{"cleared for one side and one peer", unreadCleared},
	{"latest message of the conversation, whoever sent it", unreadLatest},
	{"many conversations", unreadMany},
}

var sessionTests = []test{
	{"both sides", sessionsBothSides},
	{"newest first, up to limit", sessionsOrder},
	{"at or after", sessionsSince},
	{"many in one second", sessionsOneSecond},
	{"updated by every second with a message", sessionsUpdated},
}

// unread is how many unread messages user has from peer.
func (f *fixture) unread(user, peer uint32) uint32 {
	f.Helper()
	counts, err := f.s.UnreadCounts(f.ctx, user)
	f.check("UnreadCounts", err)
	n := uint32(0)
	for _, u := range counts {
		if u.Count == 0 {
			f.Errorf("UnreadCounts of %d has peer %d with none", user, u.Peer)
		}
		if u.Peer == peer {
			n += u.Count
		}
	}
	return n
}

// session is user's session with peer.
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

func emptyConversation(f *fixture) {
	u := f.users(3)
	f.append(text(u[0], u[1], "elsewhere"))
	f.wantNothing(u[1], u[2])
	f.wantNothing(u[2], u[2]+1000)
	for _, begin := range []uint32{0, 1, 99} {
		got, err := f.s.History(f.ctx, u[1], u[2], begin, 10)
		f.check("History", err)
		if len(got) != 0 {
			f.Errorf("History from %d: %v", begin, got)
		}
	}
	got, err := f.s.MessagesByID(f.ctx, u[1], u[2], []uint32{1})
	f.check("MessagesByID", err)
	if len(got) != 0 {
		f.Errorf("MessagesByID: %v", got)
	}
}

func historyPages(f *fixture) {
	a, b := f.pair()
	f.append(texts(a, b, 10)...)
	for _, tc := range []struct {
		begin        uint32
		count        int
		newest, last uint32 // ids; 0, 0: nothing
	}{
		{0, 3, 10, 8},
		{0, 10, 10, 1},
		{0, 100, 10, 1},
		{10, 1, 10, 10},
		{7, 3, 7, 5},
		{3, 5, 3, 1},
		{1, 5, 1, 1},
		{11, 2, 10, 9},
		{1 << 31, 2, 10, 9},
		{1<<32 - 1, 2, 10, 9},
		{0, 0, 0, 0},
		{5, 0, 0, 0},
		{5, -1, 0, 0},
	} {
		got, err := f.s.History(f.ctx, b, a, tc.begin, tc.count)
		f.check("History", err)
		var ids, want []uint32
		for _, m := range got {
			ids = append(ids, m.ID)
		}
		for id := tc.newest; id >= tc.last && id > 0; id-- {
			want = append(want, id)
		}
		if !slices.Equal(ids, want) {
			f.Errorf("History from %d, %d messages: got %v, want %v", tc.begin, tc.count, ids, want)
		}
	}
}

func historyOfOne(f *fixture) {
	u := f.users(3)
	ab, ac, bc := texts(u[0], u[1], 3), texts(u[0], u[2], 4), texts(u[2], u[1], 5)
	f.append(slices.Concat(ab, ac, bc)...)
	f.wantHistory(u[0], u[1], ab...)
	f.wantHistory(u[0], u[2], ac...)
	f.wantHistory(u[1], u[2], bc...)
}

func messagesByID(f *fixture) {
	a, b := f.pair()
	stored := texts(a, b, 10)
	f.append(stored...)
	many := make([]uint32, 5000)
	for i := range many {
		many[i] = uint32(len(many) - i)
	}
	for _, tc := range []struct {
		name      string
		ask, want []uint32
	}{
		{"none", nil, nil},
		{"in order of id, whatever is asked", []uint32{7, 2, 5}, []uint32{2, 5, 7}},
		{"without those that do not exist", []uint32{11, 3, 0, 10, 99, 1<<32 - 1}, []uint32{3, 10}},
		{"asked twice", []uint32{4, 4}, []uint32{4}},
		{"many", many, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
	} {
		got, err := f.s.MessagesByID(f.ctx, b, a, tc.ask)
		f.check("MessagesByID "+tc.name, err)
		var ids []uint32
		for _, m := range got {
			ids = append(ids, m.ID)
			if !sameMessage(m, *stored[m.ID-1]) {
				f.Errorf("%s: got %+v, want %+v", tc.name, m, *stored[m.ID-1])
			}
		}
		if !slices.Equal(ids, tc.want) {
			f.Errorf("%s: got %v, want %v", tc.name, ids, tc.want)
		}
	}
}

func latestID(f *fixture) {
	a, b := f.pair()
	for want := uint32(1); want <= 3; want++ {
		f.append(text(a, b, "x"))
		for _, side := range [][2]uint32{{a, b}, {b, a}} {
			got, err := f.s.LatestID(f.ctx, side[0], side[1])
			f.check("LatestID", err)
			if got != want {
				f.Errorf("LatestID is %d, want %d", got, want)
			}
		}
	}
}

func unreadCounted(f *fixture) {
	u := f.users(3)
	f.append(texts(u[0], u[1], 2)...)
	fromA := texts(u[0], u[1], 3)
	fromC := texts(u[2], u[1], 1)
	f.append(append(fromA, fromC...)...)

	counts, err := f.s.UnreadCounts(f.ctx, u[1])
	f.check("UnreadCounts", err)
	want := map[uint32]im.Unread{
		u[0]: {Peer: u[0], Type: pb.SessionType_SESSION_TYPE_SINGLE, Count: 5, Latest: *fromA[2]},
		u[2]: {Peer: u[2], Type: pb.SessionType_SESSION_TYPE_SINGLE, Count: 1, Latest: *fromC[0]},
	}
	if len(counts) != len(want) {
		f.Errorf("%d conversations, want %d", len(counts), len(want))
	}
	for _, got := range counts {
		w := want[got.Peer]
		if got.Type != w.Type || got.Count != w.Count || !sameMessage(got.Latest, w.Latest) {
			f.Errorf("peer %d:\n got %+v\nwant %+v", got.Peer, got, w)
		}
	}
	for _, sender := range []uint32{u[0], u[2]} {
		counts, err := f.s.UnreadCounts(f.ctx, sender)
		f.check("UnreadCounts", err)
		if len(counts) != 0 {
			f.Errorf("sender %d has unread %+v", sender, counts)
		}
	}
}

func unreadCleared(f *fixture) {
	u := f.users(3)
	f.append(slices.Concat(texts(u[0], u[1], 2), texts(u[1], u[0], 3), texts(u[2], u[1], 4))...)
	check := func(when string, bFromA, aFromB, bFromC uint32) {
		f.Helper()
		for _, tc := range []struct{ user, peer, want uint32 }{{u[1], u[0], bFromA}, {u[0], u[1], aFromB}, {u[1], u[2], bFromC}} {
			if got := f.unread(tc.user, tc.peer); got != tc.want {
				f.Errorf("%s: %d has %d unread from %d, want %d", when, tc.user, got, tc.peer, tc.want)
			}
		}
	}
	check("at first", 2, 3, 4)
	f.check("ClearUnread", f.s.ClearUnread(f.ctx, u[1], u[0]))
	check("after clearing", 0, 3, 4)
	f.check("ClearUnread again", f.s.ClearUnread(f.ctx, u[1], u[0]))
	f.check("ClearUnread of a stranger", f.s.ClearUnread(f.ctx, u[1], u[1]+1000))
	f.append(text(u[0], u[1], "new"))
	check("after a new message", 1, 3, 4)
	f.reopen()
	check("after reopen", 1, 3, 4)
}

func unreadLatest(f *fixture) {
	a, b := f.pair()
	answer := text(b, a, "answer")
	f.append(text(a, b, "1"), text(a, b, "2"), answer)
	counts, err := f.s.UnreadCounts(f.ctx, b)
	f.check("UnreadCounts", err)
	if len(counts) != 1 || counts[0].Count != 2 || !sameMessage(counts[0].Latest, *answer) {
		f.Errorf("got %+v, want 2 unread, latest %+v", counts, *answer)
	}
}

func unreadMany(f *fixture) {
	u := f.users(301)
	var batch []*im.Message
	for i, from := range u[1:] {
		batch = append(batch, texts(from, u[0], i%3+1)...)
	}
	f.append(batch...)
	counts, err := f.s.UnreadCounts(f.ctx, u[0])
	f.check("UnreadCounts", err)
	got := map[uint32]uint32{}
	for _, c := range counts {
		got[c.Peer] = c.Count
		if c.Latest.ID != c.Count || c.Latest.From != c.Peer {
			f.Errorf("peer %d: %d unread, latest %+v", c.Peer, c.Count, c.Latest)
		}
	}
	for i, from := range u[1:] {
		if got[from] != uint32(i%3+1) {
			f.Errorf("peer %d: %d unread, want %d", from, got[from], i%3+1)
		}
	}
}

// at is a message created at a time, in unix seconds.
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
		if s.Peer != side[1] || s.Type != pb.SessionType_SESSION_TYPE_SINGLE || s.Removed || s.Updated != 1002 || !sameMessage(s.Latest, *last) {
			f.Errorf("session of %d with %d: %+v", side[0], side[1], s)
		}
	}
}

// peers are the peers of user's recent sessions, in the order they come.
func (f *fixture) peers(user, since uint32, limit int) []uint32 {
	f.Helper()
	sessions, err := f.s.RecentSessions(f.ctx, user, since, limit)
	f.check("RecentSessions", err)
	var peers []uint32
	for i, s := range sessions {
		if i > 0 && s.Updated > sessions[i-1].Updated {
			f.Errorf("sessions are not newest first: %d before %d", sessions[i-1].Updated, s.Updated)
		}
		peers = append(peers, s.Peer)
	}
	return peers
}

func sessionsOrder(f *fixture) {
	u := f.users(5)
	f.append(at(1000, u[0], u[1]), at(1001, u[0], u[2]), at(1002, u[3], u[0]), at(1003, u[0], u[4]), at(1004, u[1], u[0]))
	newest := []uint32{u[1], u[4], u[3], u[2]}
	for limit, want := range map[int][]uint32{100: newest, 4: newest, 2: newest[:2], 1: newest[:1], 0: nil, -1: nil} {
		if got := f.peers(u[0], 0, limit); !slices.Equal(got, want) {
			f.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
}

func sessionsSince(f *fixture) {
	u := f.users(4)
	f.append(at(1000, u[0], u[1]), at(1001, u[0], u[2]), at(1002, u[0], u[3]))
	for since, want := range map[uint32][]uint32{
		0: {u[3], u[2], u[1]}, 1000: {u[3], u[2], u[1]}, 1001: {u[3], u[2]}, 1002: {u[3]}, 1003: nil,
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
	// A client that asked now has 1000 as its time. What comes later in the same second must not be skipped.
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
			if s, ok := f.session(side[0], side[1]); !ok || s.Updated != created || s.Latest.ID == 0 {
				f.Errorf("after a message at %d: session of %d with %d is %+v", created, side[0], side[1], s)
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
