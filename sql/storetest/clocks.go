package storetest

import (
	"slices"
	"time"

	"teamtalk/core/im"
)

// The clocks of message servers differ from the store's clock, and step. Such a clock
// gives the times of messages. It must decide neither which messages a member sees nor
// which conversations count as changed.

var clockTests = []test{
	{"a member sees the messages that were stored after it joined", clocksAndMembers},
	{"a conversation with a new message has changed", clocksAndSessions},
}

// clockOffsets are differences between the clock of a message server and the store's, in
// seconds.
var clockOffsets = []int64{-3600, -5, 5, 3600}

// postAt stores a text to a group that a message server with a clock offset has received.
func (f *fixture) postAt(offset int64, from, group uint32, body string) *im.Message {
	f.Helper()
	m := f.groupText(from, group, body)
	m.Created = uint32(int64(f.now()) + offset)
	f.append(m)
	return m
}

// wantOnly checks that a member sees these messages of a group, oldest first, and no
// others, and has count unread ones.
func (f *fixture) wantOnly(offset int64, user, group, count uint32, want ...*im.Message) {
	f.Helper()
	newest := want[len(want)-1]
	f.wantGroupHistory(user, group, want...)
	var all []uint32
	for id := range newest.ID + 1 {
		all = append(all, id)
	}
	got, err := f.s.GroupMessagesByID(f.ctx, user, group, all)
	f.check("GroupMessagesByID", err)
	if !slices.EqualFunc(got, want, func(m im.Message, w *im.Message) bool {
		return sameMessage(m, *w)
	}) {
		f.Errorf("%+d s: messages by id: %+v, want %d messages", offset, got, len(want))
	}
	if id, err := f.s.GroupLatestID(f.ctx, user, group); err != nil || id != newest.ID {
		f.Errorf("%+d s: latest id %d, %v; want %d", offset, id, err, newest.ID)
	}
	if n := f.groupUnread(user, group); n != count {
		f.Errorf("%+d s: %d unread, want %d", offset, n, count)
	}
	f.sync()
	if s, ok := f.sessionOf(user, group, groupSession); !ok || !sameMessage(s.Latest, *newest) {
		f.Errorf("%+d s: session %v, %+v; want latest %+v", offset, ok, s, *newest)
	}
}

func clocksAndMembers(f *fixture) {
	u := f.users(3)
	for _, offset := range clockOffsets {
		g := f.group(u[0], u[1])
		first := f.postAt(offset, u[0], g.ID, "1")
		f.wantOnly(offset, u[1], g.ID, 1, first)
		early := f.postAt(3600, u[0], g.ID, "2")
		f.change(g.ID, add, u[2])
		f.sync()
		f.wantGroupHistory(u[2], g.ID)
		if s, ok := f.sessionOf(u[2], g.ID, groupSession); ok {
			f.Errorf("%+d s: a new member has the session %+v", offset, s)
		}
		third, fourth := f.postAt(offset, u[0], g.ID, "3"), f.postAt(offset-1, u[1], g.ID, "4")
		f.wantOnly(offset, u[2], g.ID, 2, third, fourth)
		f.wantOnly(offset, u[0], g.ID, 1, first, early, third, fourth)
		f.change(g.ID, del, u[2])
		f.postAt(3600, u[0], g.ID, "5")
		f.change(g.ID, add, u[2])
		f.wantGroupHistory(u[2], g.ID)
		f.wantOnly(offset, u[2], g.ID, 1, f.postAt(offset, u[1], g.ID, "6"))
	}
}

func clocksAndSessions(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	f.append(text(u[0], u[1], "first"))
	f.post(u[0], g.ID, "first")
	f.sync()
	for _, offset := range clockOffsets {
		f.advance(10 * time.Second)
		since := f.now()
		single := text(u[0], u[1], "x")
		single.Created = uint32(int64(since) + offset)
		f.append(single)
		f.postAt(offset, u[0], g.ID, "y")
		f.sync()
		for i, want := range [][]typed{
			{{u[1], singleSession}, {g.ID, groupSession}},
			{{u[0], singleSession}, {g.ID, groupSession}}, {{g.ID, groupSession}}} {
			got := f.sessionKeys(u[i], since, 100)
			for _, k := range want {
				if !slices.Contains(got, k) {
					f.Errorf("%+d s: user %d misses %+v in %+v", offset, i, k, got)
				}
			}
		}
		list, err := f.s.RecentSessions(f.ctx, u[1], 0, 100)
		f.check("RecentSessions", err)
		for _, s := range list {
			if s.Updated > f.now() {
				f.Errorf("%+d s: the session with %d was updated %d s in the future", offset,
					s.Peer, s.Updated-f.now())
			}
		}
	}
}
