package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var groupUnreadTests = []test{
	{"counted for every member but the sender", groupUnreadCounted},
	{"cleared for one member and one group", groupUnreadCleared},
	{"totals", unreadTotals},
	{"many groups", groupUnreadMany},
	{"latest conversations up to a limit, total of all", unreadLimited},
	{"counters lost", groupCountersLost},
	{"crash between commit and count", groupCrashBeforeCount},
	{"64 senders in one group", groupSenders64},
	{"two processes in one group", groupTwoProcesses},
}

const (
	singleSession = pb.SessionType_SESSION_TYPE_SINGLE
	groupSession  = pb.SessionType_SESSION_TYPE_GROUP
)

// groupUnread returns the number of unread messages that user has in a group.
func (f *fixture) groupUnread(user, group uint32) uint32 {
	f.Helper()
	counts, _, err := f.s.UnreadCounts(f.ctx, user, 1<<20)
	f.check("UnreadCounts", err)
	n := uint32(0)
	for _, c := range counts {
		if c.Count == 0 {
			f.Errorf("UnreadCounts of %d has %v %d with none", user, c.Type, c.Peer)
		}
		if c.Peer == group && c.Type == groupSession {
			n += c.Count
		}
	}
	return n
}

func groupUnreadCounted(f *fixture) {
	u := f.users(4)
	g := f.group(u[:3]...)
	for range 3 {
		f.post(u[0], g.ID, "x")
	}
	last := f.post(u[1], g.ID, "y")
	counts, _, err := f.s.UnreadCounts(f.ctx, u[2], 1<<20)
	f.check("UnreadCounts", err)
	if len(counts) != 1 || counts[0].Peer != g.ID || counts[0].Type != groupSession ||
		counts[0].Count != 4 || !sameMessage(counts[0].Latest, *last) {
		f.Errorf("got %+v, want 4 of group %d, latest %+v", counts, g.ID, *last)
	}
	for i, want := range []uint32{1, 0, 4, 0} { // senders have read their own messages
		if got := f.groupUnread(u[i], g.ID); got != want {
			f.Errorf("user %d has %d unread, want %d", i, got, want)
		}
	}
}

func groupUnreadCleared(f *fixture) {
	u := f.users(3)
	a, b := f.group(u...), f.group(u...)
	f.post(u[0], a.ID, "x")
	f.post(u[0], b.ID, "x")
	check := func(when string, oneA, oneB, twoA uint32) {
		f.Helper()
		for _, tc := range []struct{ user, group, want uint32 }{{u[1], a.ID, oneA},
			{u[1], b.ID, oneB}, {u[2], a.ID, twoA}} {
			if got := f.groupUnread(tc.user, tc.group); got != tc.want {
				f.Errorf("%s: %d has %d unread in %d, want %d", when, tc.user, got,
					tc.group, tc.want)
			}
		}
	}
	check("at first", 1, 1, 1)
	for range 2 {
		f.check("ClearGroupUnread", f.s.ClearGroupUnread(f.ctx, u[1], a.ID))
		check("cleared", 0, 1, 1)
	}
	f.post(u[0], a.ID, "y")
	check("a new message", 1, 1, 2)
	f.reopen()
	check("after reopen", 1, 1, 2)
	var wg sync.WaitGroup
	for _, user := range u {
		for _, g := range []im.Group{a, b} {
			wg.Go(func() {
				if err := f.s.ClearGroupUnread(f.ctx, user, g.ID); err != nil {
					f.Errorf("ClearGroupUnread: %v", err)
				}
			})
		}
	}
	wg.Wait()
	check("all at once", 0, 0, 0)
}

func unreadTotals(f *fixture) {
	u := f.users(5)
	a, b := f.group(u[:3]...), f.group(u[1], u[2])
	f.append(text(u[0], u[1], "1"), text(u[3], u[1], "2"), text(u[1], u[0], "3"))
	f.post(u[0], a.ID, "1")
	f.post(u[0], a.ID, "2")
	f.post(u[1], b.ID, "1")
	check := func(when string, want ...uint32) {
		f.Helper()
		ask := append(slices.Clone(u), u[1], u[4]+1000)
		got, err := f.s.UnreadTotals(f.ctx, ask)
		f.check("UnreadTotals", err)
		for i, user := range u {
			if got[user] != want[i] {
				f.Errorf("%s: user %d has %d unread, want %d", when, i, got[user], want[i])
			}
		}
		if got[u[4]+1000] != 0 {
			f.Errorf("%s: a missing user has %d unread", when, got[u[4]+1000])
		}
	}
	check("at first", 1, 4, 3, 0, 0)
	f.check("ClearGroupUnread", f.s.ClearGroupUnread(f.ctx, u[1], a.ID))
	f.check("ClearUnread", f.s.ClearUnread(f.ctx, u[1], u[0]))
	check("some read", 1, 1, 3, 0, 0)
	f.change(b.ID, del, u[2])
	check("left a group", 1, 1, 2, 0, 0)
	one, err := f.s.UnreadTotals(f.ctx, u[2:3])
	f.check("UnreadTotals", err)
	if len(one) != 1 || one[u[2]] != 2 {
		f.Errorf("of one user: %v", one)
	}
	none, err := f.s.UnreadTotals(f.ctx, nil)
	f.check("UnreadTotals of nobody", err)
	if len(none) != 0 {
		f.Errorf("of nobody: %v", none)
	}
}

func groupUnreadMany(f *fixture) {
	u := f.users(4)
	var batch []*im.Message
	want := map[uint32]uint32{}
	total := uint32(0)
	for i := range 150 {
		g := f.group(u...)
		for range i%3 + 1 {
			batch = append(batch, f.groupText(u[1+i%3], g.ID, "x"))
		}
		want[g.ID] = uint32(i%3 + 1)
		total += want[g.ID]
	}
	f.append(batch...)
	counts, _, err := f.s.UnreadCounts(f.ctx, u[0], 1<<20)
	f.check("UnreadCounts", err)
	for _, c := range counts {
		if c.Count != want[c.Peer] || c.Latest.ID != c.Count || c.Latest.To != c.Peer {
			f.Errorf("group %d: %d unread, latest %+v; want %d", c.Peer, c.Count,
				c.Latest, want[c.Peer])
		}
	}
	totals, err := f.s.UnreadTotals(f.ctx, u)
	f.check("UnreadTotals", err)
	if len(counts) != len(want) || totals[u[0]] != total {
		f.Errorf("unread in %d groups, %d in all; want %d, %d", len(counts), totals[u[0]],
			len(want), total)
	}
}

func unreadLimited(f *fixture) {
	u := f.users(4)
	a, b := f.group(u[:3]...), f.group(u[:3]...)
	latest := []im.Unread{ // in the order of their latest messages
		{Peer: b.ID, Type: groupSession, Count: 4}, {Peer: u[2], Type: singleSession, Count: 2},
		{Peer: a.ID, Type: groupSession, Count: 3}, {Peer: u[1], Type: singleSession, Count: 1},
		{Peer: u[3], Type: singleSession, Count: 5},
	}
	f.post(u[1], b.ID, "long before the others")
	total := uint32(1)
	for _, of := range slices.Backward(latest) {
		f.advance(2 * time.Second)
		for range of.Count {
			if of.Type == groupSession {
				f.post(u[1], of.Peer, "x")
			} else {
				f.append(text(of.Peer, u[0], "x"))
			}
		}
		total += of.Count
	}
	latest[0].Count++
	f.wantUnread(u[0], total, latest...)
	f.check("ClearGroupUnread", f.s.ClearGroupUnread(f.ctx, u[0], b.ID))
	f.check("ClearUnread", f.s.ClearUnread(f.ctx, u[0], u[2]))
	// A client reads what is listed, and learns of the rest.
	f.wantUnread(u[0], total-7, latest[2:]...)
}

// wantUnread checks the unread conversations of user, newest first, with every limit.
func (f *fixture) wantUnread(user, total uint32, latest ...im.Unread) {
	f.Helper()
	for limit := -1; limit <= len(latest)+1; limit++ {
		list, sum, err := f.s.UnreadCounts(f.ctx, user, limit)
		f.check("UnreadCounts", err)
		want := latest[:min(max(limit, 1), len(latest))]
		if sum != total || len(list) != len(want) {
			f.Errorf("limit %d: %d unread in %d conversations, want %d in %d", limit, sum,
				len(list), total, len(want))
		}
		for _, w := range want {
			if !slices.ContainsFunc(list, func(r im.Unread) bool {
				return r.Peer == w.Peer && r.Type == w.Type && r.Count == w.Count &&
					r.Latest.ID == w.Count
			}) {
				f.Errorf("limit %d: no %d of %v %d", limit, w.Count, w.Type, w.Peer)
			}
		}
	}
}

func groupCountersLost(f *fixture) {
	if f.factory.LoseCounters == nil {
		f.Skip("the factory has no LoseCounters")
	}
	u := f.users(3)
	g := f.group(u...)
	var all []*im.Message
	for round := range 3 {
		for i := range 5 {
			all = append(all, f.post(u[i%2], g.ID, fmt.Sprint(round, i)))
		}
		f.wantGroupHistory(u[2], g.ID, all...) // the ids continue
		f.factory.LoseCounters(f.T, f.s)
		if round == 1 {
			f.reopen()
		}
		for _, user := range u {
			if n := f.groupUnread(user, g.ID); int(n) > len(all) {
				f.Errorf("round %d: %d unread of %d messages", round, n, len(all))
			}
		}
	}
	before := f.groupUnread(u[2], g.ID)
	last := []*im.Message{f.groupText(u[1], g.ID, "a"), f.groupText(u[0], g.ID, "b")}
	f.append(last...)
	f.wantGroupHistory(u[2], g.ID, append(all, last...)...)
	if n := f.groupUnread(u[2], g.ID); n < before || int(n) > len(all)+2 {
		f.Errorf("%d unread, %d before two more messages", n, before)
	}
	f.check("ClearGroupUnread", f.s.ClearGroupUnread(f.ctx, u[2], g.ID))
	f.post(u[0], g.ID, "c")
	if n := f.groupUnread(u[2], g.ID); n != 1 {
		f.Errorf("%d unread of one message after reading all", n)
	}
}

func groupCrashBeforeCount(f *fixture) {
	if f.factory.CrashBeforeCount == nil {
		f.Skip("there is no moment between commit and count")
	}
	u := f.users(4)
	a, b := f.group(u[:3]...), f.group(u[0], u[3])
	f.post(u[0], a.ID, "1")
	f.check("ClearGroupUnread", f.s.ClearGroupUnread(f.ctx, u[1], a.ID))
	f.s = f.factory.CrashBeforeCount(f.T, f.s, []*im.Message{
		f.groupText(u[0], a.ID, "2"), f.groupText(u[1], a.ID, "3"),
		text(u[0], u[3], "1"), f.groupText(u[0], a.ID, "4"), f.groupText(u[3], b.ID, "1"),
	})
	check := func(when string, inA [3]uint32, inB [2]uint32) {
		f.Helper()
		for i, want := range inA {
			if got := f.groupUnread(u[i], a.ID); got != want {
				f.Errorf("%s: user %d has %d unread, want %d", when, i, got, want)
			}
		}
		if zero, three := f.groupUnread(u[0], b.ID), f.groupUnread(u[3], b.ID); zero != inB[0] ||
			three != inB[1] {
			f.Errorf("%s: %d and %d unread, want %v", when, zero, three, inB)
		}
	}
	check("after the crash", [3]uint32{0, 1, 4}, [2]uint32{1, 0})
	f.post(u[2], a.ID, "5")
	check("and a message", [3]uint32{1, 2, 0}, [2]uint32{1, 0})
	f.reopen()
	check("and another start", [3]uint32{1, 2, 0}, [2]uint32{1, 0})
	if n := f.unread(u[3], u[0]); n != 1 {
		f.Errorf("%d unread between users, want 1", n)
	}
}

func groupSenders64(f *fixture) {
	const senders, each, window = 64, 25, 4
	u := f.users(senders + 1) // the last user only reads
	g, other := f.group(u...), f.group(u[:2]...)
	p := newStrands(f.s, 3)
	sent := make([][]*im.Message, senders)
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			credit := make(chan struct{}, window)
			for n := range each {
				m := f.groupText(u[i], g.ID, fmt.Sprintf("sender %d #%d", i, n))
				sent[i] = append(sent[i], m)
				credit <- struct{}{}
				p.post(m, func() { <-credit })
				if i < 2 { // so that batches have messages to two groups and to users
					p.post(f.groupText(u[i], other.ID, "elsewhere"), func() {})
					p.post(text(u[i], u[i+1], "elsewhere"), func() {})
				}
			}
		})
	}
	wg.Wait()
	p.wg.Wait()
	f.wantAllInGroup(g.ID, u, sent, false)
}

// wantAllInGroup checks that every message is stored once, with ids 1 … n and each
// sender's in order, and that the unread count of each user of u is the number of
// messages after its own last one. With apart, for senders in several processes, it
// checks only the counts of users that sent nothing. sent[i] are the messages of u[i].
func (f *fixture) wantAllInGroup(group uint32, u []uint32, sent [][]*im.Message, apart bool) {
	f.Helper()
	byID := map[uint32]*im.Message{}
	last := map[uint32]uint32{}
	for i, messages := range sent {
		before := uint32(0)
		for _, m := range messages {
			if m.Err != nil || m.Duplicate || m.ID <= before || byID[m.ID] != nil {
				f.Fatalf("sender %d: id %d after %d, duplicate %v, %v", i, m.ID, before,
					m.Duplicate, m.Err)
			}
			before = m.ID
			byID[m.ID] = m
			last[m.From] = max(last[m.From], m.ID)
		}
	}
	all := make([]*im.Message, len(byID))
	for id, m := range byID {
		if int(id) > len(all) {
			f.Fatalf("id %d, with %d messages: there is a gap", id, len(all))
		}
		all[id-1] = m
	}
	f.sync()
	totals, err := f.s.UnreadTotals(f.ctx, u)
	f.check("UnreadTotals", err)
	f.wantGroupHistory(u[len(u)-1], group, all...)
	for _, user := range u {
		want := uint32(len(all)) - last[user]
		if got := f.groupUnread(user, group); (got != want || totals[user] < want) &&
			(!apart || last[user] == 0) {
			f.Errorf("user %d has %d unread, %d in all; want %d", user, got, totals[user], want)
		}
		if s, ok := f.sessionOf(user, group, groupSession); !ok || !sameMessage(s.Latest,
			*all[len(all)-1]) {
			f.Errorf("session of %d: %+v, latest should be %+v", user, s, *all[len(all)-1])
		}
	}
}

func groupTwoProcesses(f *fixture) {
	const each = 25
	other := f.second()
	u := f.users(5) // the last user only reads
	g, h := f.group(u...), f.group(u[:2]...)
	sent := make([][]*im.Message, 4)
	var wg sync.WaitGroup
	for i, s := range []im.Store{f.s, other} {
		wg.Go(func() {
			for range each {
				a, b := f.groupText(u[2*i], g.ID, "a"), f.groupText(u[2*i+1], g.ID, "b")
				batch := []*im.Message{a, f.groupText(u[i], h.ID, "elsewhere"),
					text(u[0], u[3], "elsewhere"), b}
				if i == 1 {
					slices.Reverse(batch)
				}
				s.AppendMessages(f.ctx, batch)
				for _, m := range batch {
					if m.Err != nil {
						f.Errorf("store %d: %v", i, m.Err)
					}
				}
				sent[2*i], sent[2*i+1] = append(sent[2*i], a), append(sent[2*i+1], b)
			}
		})
	}
	wg.Wait()
	// Messages that two processes store at the same time may be counted in another order
	// than that of their ids. A sender has then read a few messages more or fewer than
	// those before its own last message. After the next messages every count is exact.
	f.wantAllInGroup(g.ID, u, sent, true)
	before := make([]uint32, 4)
	for i := range before {
		before[i] = f.groupUnread(u[i], g.ID)
	}
	f.post(u[4], g.ID, "one more")
	for i := range before {
		if got := f.groupUnread(u[i], g.ID); got != before[i]+1 {
			f.Errorf("user %d: %d unread, and %d after one more message", u[i], before[i], got)
		}
	}
	own := f.groupText(u[0], g.ID, "all read")
	if other.AppendMessages(f.ctx, []*im.Message{own}); own.Err != nil {
		f.Fatal(own.Err)
	}
	if got := f.groupUnread(u[0], g.ID); got != 0 {
		f.Errorf("%d unread after a message of one's own", got)
	}
}
