package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var groupSessionTests = []test{
	{"the sender's at once, the members' after syncing", groupSessions},
	{"both kinds, newest first, up to limit, at or after", groupSessionsOrder},
	{"many in one second", groupSessionsOneSecond},
	{"a former member has none", groupSessionsOfLeft},
	{"removed: between users", removeSingle},
	{"removed: of a group", removeGroup},
	{"removed: not found", removeNotFound},
	{"synced by several at once", syncTogether},
}

// sessionOf returns user's session of a type.
func (f *fixture) sessionOf(user, peer uint32, t pb.SessionType) (s im.RecentSession, ok bool) {
	f.Helper()
	sessions, err := f.s.RecentSessions(f.ctx, user, 0, 1<<20)
	f.check("RecentSessions", err)
	for _, r := range sessions {
		if r.Peer == peer && r.Type == t {
			if ok {
				f.Errorf("%d has two sessions with %v %d", user, t, peer)
			}
			s, ok = r, true
		}
	}
	return s, ok
}

// sync synchronises the sessions of groups.
func (f *fixture) sync() {
	f.Helper()
	n, err := f.s.SyncSessions(f.ctx)
	f.check("SyncSessions", err)
	if n < 0 {
		f.Errorf("SyncSessions wrote %d entries", n)
	}
}

// wantSession checks a session that must exist.
func (f *fixture) wantSession(what string, user uint32, t pb.SessionType, peer uint32,
	latest *im.Message) {
	f.Helper()
	s, ok := f.sessionOf(user, peer, t)
	if !ok || s.Removed || !sameMessage(s.Latest, *latest) {
		f.Errorf("%s: session of %d with %v %d: %v, %+v; want latest %+v", what, user, t, peer,
			ok, s, *latest)
	}
	f.wantTime(what, s.Updated, latest)
}

func groupSessions(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	for _, user := range u {
		if s, ok := f.sessionOf(user, g.ID, groupSession); ok {
			f.Errorf("a group without messages has the session %+v", s)
		}
	}
	post := func(from uint32, later time.Duration) *im.Message {
		f.advance(later)
		m := f.post(from, g.ID, "x")
		f.wantSession("the sender", from, groupSession, g.ID, m)
		return m
	}
	post(u[0], 0)
	post(u[0], 0)
	m := post(u[1], time.Second)
	for range 2 {
		f.sync()
		for _, user := range u {
			f.wantSession("synced", user, groupSession, g.ID, m)
		}
	}
	m = post(u[2], 0) // perhaps in a second that is already synchronised
	f.sync()
	for _, user := range u {
		f.wantSession("the same second", user, groupSession, g.ID, m)
	}
	m = post(u[0], 30*time.Second)
	f.reopen()
	f.sync()
	for _, user := range u {
		f.wantSession("after reopen", user, groupSession, g.ID, m)
	}
}

// typed identifies a session by peer and type.
type typed struct {
	peer uint32
	t    pb.SessionType
}

// sessionKeys returns user's sessions, in order.
func (f *fixture) sessionKeys(user, since uint32, limit int) (keys []typed) {
	f.Helper()
	sessions, err := f.s.RecentSessions(f.ctx, user, since, limit)
	f.check("RecentSessions", err)
	for i, s := range sessions {
		if i > 0 && s.Updated > sessions[i-1].Updated {
			f.Errorf("sessions are not newest first: %d before %d", sessions[i-1].Updated,
				s.Updated)
		}
		keys = append(keys, typed{s.Peer, s.Type})
	}
	return keys
}

func groupSessionsOrder(f *fixture) {
	u := f.users(4)
	a, b, c := f.group(u...), f.group(u[0], u[1]), f.group(u[1:]...)
	for _, m := range []*im.Message{groupText(u[1], a.ID, "x"), text(u[0], u[1], "x"),
		groupText(u[1], b.ID, "x"), text(u[2], u[0], "x"), groupText(u[1], c.ID, "not in it"),
		groupText(u[2], a.ID, "x")} {
		f.advance(2 * time.Second)
		f.append(m)
	}
	f.sync()
	newest := []typed{{a.ID, groupSession}, {u[2], singleSession}, {b.ID, groupSession},
		{u[1], singleSession}}
	for limit, want := range map[int][]typed{100: newest, 4: newest, 3: newest[:3], 1: newest[:1],
		0: nil, -1: nil} {
		if got := f.sessionKeys(u[0], 0, limit); !slices.Equal(got, want) {
			f.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
	for i, k := range newest {
		s, _ := f.sessionOf(u[0], k.peer, k.t)
		if got := f.sessionKeys(u[0], s.Updated, 100); !slices.Equal(got, newest[:i+1]) {
			f.Errorf("since session %d: got %v, want %v", i, got, newest[:i+1])
		}
		if got := f.sessionKeys(u[0], s.Updated+1, 100); !slices.Equal(got, newest[:i]) {
			f.Errorf("after session %d: got %v, want %v", i, got, newest[:i])
		}
	}
}

func groupSessionsOneSecond(f *fixture) {
	u := f.users(2)
	var batch []*im.Message
	var want []uint32
	for range 60 {
		g := f.group(u...).ID
		want = append(want, g)
		batch = append(batch, groupText(u[1], g, "x"))
	}
	since := f.now()
	f.append(batch[:30]...)
	f.sync()
	f.append(batch[30:]...) // perhaps in a second that is already synchronised
	f.sync()
	var got []uint32
	for _, k := range f.sessionKeys(u[0], since, 100) {
		got = append(got, k.peer)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.Errorf("got %v, want %v", got, want)
	}
}

func groupSessionsOfLeft(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	f.post(u[0], g.ID, "x")
	f.sync()
	f.change(g.ID, del, u[1])
	f.change(g.ID, del, u[0])
	check := func(when string) {
		f.Helper()
		for _, user := range u[:2] {
			if s, ok := f.sessionOf(user, g.ID, groupSession); ok {
				f.Errorf("%s: a former member has the session %+v", when, s)
			}
			f.wantKind(when, f.s.RemoveSession(f.ctx, user, g.ID, groupSession), im.NotFound)
		}
	}
	check("left")
	m := f.post(u[2], g.ID, "y")
	f.sync()
	check("and a message")
	f.wantSession("a member that stayed", u[2], groupSession, g.ID, m)
}

func removeSingle(f *fixture) {
	u := f.users(3)
	f.append(text(u[0], u[1], "1"), text(u[1], u[0], "2"), text(u[2], u[1], "elsewhere"))
	f.check("RemoveSession", f.s.RemoveSession(f.ctx, u[1], u[0], singleSession))
	gone := func(when string) {
		f.Helper()
		if s, ok := f.session(u[1], u[0]); ok {
			f.Errorf("%s: still there: %+v", when, s)
		}
		if n := f.unread(u[1], u[0]); n != 0 {
			f.Errorf("%s: %d unread", when, n)
		}
		if _, ok := f.session(u[1], u[2]); !ok {
			f.Errorf("%s: another session has gone", when)
		}
		if _, ok := f.session(u[0], u[1]); !ok || f.unread(u[0], u[1]) != 1 {
			f.Errorf("%s: the other side: session %v, %d unread", when, ok, f.unread(u[0], u[1]))
		}
		f.wantKind(when, f.s.RemoveSession(f.ctx, u[1], u[0], singleSession), im.NotFound)
	}
	gone("removed")
	f.reopen()
	gone("after reopen")
	// The message has the same second as the one before. In the second round this store
	// has stored the message before as well.
	for i := range 2 {
		m := text(u[i], u[1-i], "3")
		f.append(m)
		if s, ok := f.session(u[1], u[0]); !ok || s.Removed || !sameMessage(s.Latest, *m) {
			f.Errorf("after a message: %v, %+v", ok, s)
		}
		if n := f.unread(u[1], u[0]); n != uint32(1-i) {
			f.Errorf("after a message: %d unread, want %d", n, 1-i)
		}
		f.check("RemoveSession", f.s.RemoveSession(f.ctx, u[1], u[0], singleSession))
	}
	if got := len(f.history(u[1], u[0])); got != 4 {
		f.Errorf("%d messages, want all 4: only the entry goes", got)
	}
}

func removeGroup(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	f.post(u[0], g.ID, "1")
	f.post(u[1], g.ID, "2")
	f.sync()
	f.advance(10 * time.Second)
	for _, user := range u[:2] {
		f.check("RemoveSession", f.s.RemoveSession(f.ctx, user, g.ID, groupSession))
	}
	gone := func(when string) {
		f.Helper()
		for _, user := range u[:2] {
			if s, ok := f.sessionOf(user, g.ID, groupSession); ok {
				f.Errorf("%s: still there: %+v", when, s)
			}
			if n := f.groupUnread(user, g.ID); n != 0 {
				f.Errorf("%s: %d unread", when, n)
			}
			f.wantKind(when, f.s.RemoveSession(f.ctx, user, g.ID, groupSession), im.NotFound)
		}
		if _, ok := f.sessionOf(u[2], g.ID, groupSession); !ok || f.groupUnread(u[2], g.ID) != 2 {
			f.Errorf("%s: another member: session %v, %d unread", when, ok,
				f.groupUnread(u[2], g.ID))
		}
	}
	gone("removed")
	f.sync()
	gone("and synced")
	f.reopen()
	f.sync()
	gone("after reopen")
	f.advance(10 * time.Second)
	m := f.post(u[0], g.ID, "3")
	f.wantSession("the sender, at once", u[0], groupSession, g.ID, m)
	f.sync()
	for _, user := range u {
		f.wantSession("after a message", user, groupSession, g.ID, m)
	}
	for i, want := range []uint32{0, 1, 3} {
		if got := f.groupUnread(u[i], g.ID); got != want {
			f.Errorf("user %d has %d unread, want %d", i, got, want)
		}
	}
	// The sender removes its own session, perhaps in the second of its last message.
	f.check("RemoveSession", f.s.RemoveSession(f.ctx, u[0], g.ID, groupSession))
	again := f.post(u[0], g.ID, "4")
	f.wantSession("after the removal", u[0], groupSession, g.ID, again)
}

func removeNotFound(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	f.append(text(u[0], u[1], "x"))
	for _, tc := range []struct {
		what       string
		user, peer uint32
		t          pb.SessionType
	}{
		{"no conversation", u[0], u[2], singleSession},
		{"no such peer", u[0], u[2] + 1000, singleSession},
		{"no such user", u[2] + 1000, u[0], singleSession},
		{"a group without messages", u[0], g.ID, groupSession},
		{"no such group", u[0], g.ID + 1000, groupSession},
		{"no such type", u[0], u[1], 3},
	} {
		f.wantKind(tc.what, f.s.RemoveSession(f.ctx, tc.user, tc.peer, tc.t), im.NotFound)
	}
	if _, ok := f.session(u[0], u[1]); !ok {
		f.Error("the session has gone")
	}
}

func syncTogether(f *fixture) {
	u := f.users(4)
	stores := []im.Store{f.s, f.s}
	if f.factory.Second != nil {
		stores[1] = f.second()
	}
	var groups []im.Group
	for range 20 {
		groups = append(groups, f.group(u...))
	}
	last := map[uint32]*im.Message{}
	for round := range 5 {
		var batch []*im.Message
		for _, g := range groups {
			m := f.groupText(u[round%3], g.ID, fmt.Sprint(round))
			batch = append(batch, m)
			last[g.ID] = m
		}
		f.append(batch...)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if _, err := stores[i%2].SyncSessions(f.ctx); err != nil {
					f.Errorf("SyncSessions: %v", err)
				}
			})
		}
		wg.Wait()
		f.sync() // another process may hold the lock and have read before the last messages
		for _, g := range groups {
			f.wantSession("synced", u[3], groupSession, g.ID, last[g.ID])
		}
	}
}
