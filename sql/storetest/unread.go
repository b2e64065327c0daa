package storetest

import (
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var unreadTests = []test{
	{"counted for the recipient, with the latest message", unreadCounted},
	{"cleared for one side and one peer", unreadCleared},
	{"latest message of the conversation, by either sender", unreadLatest},
	{"many conversations", unreadMany},
}

// unread returns the number of unread messages that user has from peer.
func (f *fixture) unread(user, peer uint32) uint32 {
	f.Helper()
	counts, _, err := f.s.UnreadCounts(f.ctx, user, 1<<20)
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

func unreadCounted(f *fixture) {
	u := f.users(3)
	f.append(texts(u[0], u[1], 2)...)
	fromA := texts(u[0], u[1], 3)
	fromC := texts(u[2], u[1], 1)
	f.append(append(fromA, fromC...)...)

	counts, _, err := f.s.UnreadCounts(f.ctx, u[1], 1<<20)
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
		counts, _, err := f.s.UnreadCounts(f.ctx, sender, 1<<20)
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
		for _, tc := range []struct{ user, peer, want uint32 }{{u[1], u[0], bFromA},
			{u[0], u[1], aFromB}, {u[1], u[2], bFromC}} {
			if got := f.unread(tc.user, tc.peer); got != tc.want {
				f.Errorf("%s: %d has %d unread from %d, want %d", when, tc.user, got,
					tc.peer, tc.want)
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
	counts, _, err := f.s.UnreadCounts(f.ctx, b, 1<<20)
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
	counts, _, err := f.s.UnreadCounts(f.ctx, u[0], 1<<20)
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
