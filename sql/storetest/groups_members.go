package storetest

import (
	"math"
	"slices"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var memberTests = []test{
	{"added and removed", membersChanged},
	{"nothing to change", membersUnchanged},
	{"permission", membersAllowed},
	{"invalid and not found", membersInvalid},
	{"everybody leaves", membersAllLeave},
	{"a member that departs", memberDeparts},
	{"joined again: everything begins anew", memberJoinsAgain},
	{"appends see a change at once", membersAtOnce},
	{"another process sees a change at once", membersAtOnceElsewhere},
	{"changes at once", membersTogether},
	{"changes by two processes at once", membersTogetherElsewhere},
	{"messages while members change", messagesWhileMembersChange},
}

const (
	add = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	del = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
)

// change changes a group's members.
func (f groupFixture) change(group uint32, t pb.GroupModifyType, users ...uint32) im.MemberChange {
	f.Helper()
	c, err := f.s.ChangeMembers(f.ctx, im.MemberEdit{Group: group, Type: t, Users: users})
	f.check("ChangeMembers", err)
	return c
}

// changeGroup changes a group's members and returns the group after the change.
func (f groupFixture) changeGroup(group uint32, t pb.GroupModifyType, users ...uint32) im.Group {
	f.Helper()
	f.change(group, t, users...)
	return f.readGroup(group)
}

// wantChange checks the result of a change of members.
func (f groupFixture) wantChange(what string, got im.MemberChange, version uint32,
	current, changed []uint32) {
	f.Helper()
	current, changed = slices.Sorted(slices.Values(current)), slices.Sorted(slices.Values(changed))
	if got.Version != version || !slices.Equal(got.Current, current) ||
		!slices.Equal(got.Changed, changed) {
		f.Errorf("%s: got %+v, want version %d, current %v, changed %v", what, got, version,
			current, changed)
	}
}

func membersChanged(f *fixture) {
	u := f.users(6)
	gone := f.departed(6)
	g, other := f.group(u[0], u[1]), f.group(u[0], u[5])
	f.advance(10 * time.Second)
	before := f.now()
	c := f.change(g.ID, add, u[4], u[1], gone, u[2], u[4], 0, math.MaxUint32)
	f.wantChange("added", c, 2, []uint32{u[0], u[1], u[2], u[4]}, []uint32{u[2], u[4]})
	got := f.readGroup(g.ID)
	if got.Updated < before || got.Updated > f.now() {
		f.Errorf("updated %d, changed at or after %d", got.Updated, before)
	}
	g.Version, g.Members, g.Updated = 2, c.Current, got.Updated
	f.wantGroup(g)
	f.advance(10 * time.Second)
	before = f.now()
	c = f.change(g.ID, del, u[2], u[3], u[0], u[2], math.MaxUint32)
	f.wantChange("taken out", c, 3, []uint32{u[1], u[4]}, []uint32{u[0], u[2]})
	got = f.readGroup(g.ID)
	if got.Updated < before {
		f.Errorf("updated %d, changed at or after %d", got.Updated, before)
	}
	g.Version, g.Members, g.Updated = 3, c.Current, got.Updated
	f.wantGroup(g)
	f.wantGroup(other)
}

func membersUnchanged(f *fixture) {
	u := f.users(3)
	gone := f.departed(3)
	g := f.group(u[0], u[1])
	f.advance(10 * time.Second)
	for what, tc := range map[string]struct {
		t     pb.GroupModifyType
		users []uint32
	}{
		"add members":          {add, u[:2]},
		"add departed":         {add, []uint32{gone}},
		"add missing users":    {add, []uint32{math.MaxUint32, 0}},
		"add nobody":           {add, nil},
		"remove strangers":     {del, u[2:]},
		"remove missing users": {del, []uint32{math.MaxUint32}},
		"take out nobody":      {del, nil},
	} {
		f.wantChange(what, f.change(g.ID, tc.t, tc.users...), 1, g.Members, nil)
	}
	f.wantGroup(g)
}

func membersAllowed(f *fixture) {
	u := f.users(4)
	g := f.group(u[2], u[0], u[1])
	m := f.post(u[0], g.ID, "x")
	g.LastChat = f.readGroup(g.ID).LastChat
	f.wantTime("last chat", g.LastChat, m)
	for _, t := range []pb.GroupModifyType{add, del} {
		var saw im.Group
		_, err := f.s.ChangeMembers(f.ctx, im.MemberEdit{Group: g.ID, Type: t, Users: u[1:],
			Allow: func(g *im.Group, _ []uint32) ([]uint32, error) {
				saw = *g
				return nil, errNotAllowed
			}})
		f.wantNotAllowed(t.String(), err)
		if !sameGroup(saw, g) {
			f.Errorf("%v: allow saw\n     %+v\nwant %+v", t, saw, g)
		}
		f.wantGroup(g)
	}
	// allow is called even when nothing would change. Otherwise the call would reveal the
	// members.
	_, err := f.s.ChangeMembers(f.ctx, im.MemberEdit{Group: g.ID, Type: add, Users: u[:1],
		Allow: func(*im.Group, []uint32) ([]uint32, error) { return nil, errNotAllowed }})
	f.wantNotAllowed("nothing to do", err)
	c, err := f.s.ChangeMembers(f.ctx, im.MemberEdit{Group: g.ID, Type: add, Users: u[3:],
		Allow: func(g *im.Group, _ []uint32) ([]uint32, error) {
			clear(g.Members) // the callback may change its copy of the group
			g.Name, g.Version = "spoilt", 99
			return u[3:], nil
		}})
	f.check("ChangeMembers", err)
	f.wantChange("allowed", c, 2, u, u[3:])
	if got := f.readGroup(g.ID); got.Name != g.Name || got.Version != 2 {
		f.Errorf("got %+v", got)
	}
}

func membersInvalid(f *fixture) {
	u := f.users(2)
	g := f.group(u[0])
	asked := false
	allow := func(*im.Group, []uint32) ([]uint32, error) { asked = true; return u, nil }
	for _, id := range []uint32{0, g.ID + 1000, math.MaxUint32} {
		_, err := f.s.ChangeMembers(f.ctx, im.MemberEdit{Group: id, Type: add, Users: u,
			Allow: allow})
		f.wantKind("no such group", err, im.NotFound)
	}
	for _, t := range []pb.GroupModifyType{0, 3} {
		_, err := f.s.ChangeMembers(f.ctx, im.MemberEdit{Group: g.ID, Type: t, Users: u,
			Allow: allow})
		f.wantKind("neither adding nor taking out", err, im.Invalid)
	}
	if asked {
		f.Error("permission was asked for")
	}
	f.wantGroup(g)
}

func membersAllLeave(f *fixture) {
	u := f.users(3)
	g := f.group(u[:2]...)
	f.post(u[0], g.ID, "x")
	f.wantChange("all out", f.change(g.ID, del, u...), 2, nil, u[:2])
	if got := f.readGroup(g.ID); len(got.Members) != 0 || got.Version != 2 {
		f.Errorf("got %+v", got)
	}
	for _, user := range u {
		f.wantGroupHistory(user, g.ID)
		m := groupText(user, g.ID, "x")
		f.s.AppendMessages(f.ctx, []*im.Message{m})
		f.wantKind("message into an empty group", m.Err, im.Denied)
	}
	f.wantChange("one in", f.change(g.ID, add, u[2]), 3, u[2:], u[2:])
	if m := f.post(u[2], g.ID, "y"); m.ID != 2 {
		f.Errorf("id %d, want 2: ids go on", m.ID)
	}
}

func memberDeparts(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, u[2], im.StatusDeparted))
	f.post(u[0], g.ID, "the others go on")
	if got := f.groupUnread(u[1], g.ID); got != 1 {
		f.Errorf("%d unread, want 1", got)
	}
	f.wantChange("taken out", f.change(g.ID, del, u[2]), 2, u[:2], u[2:])
	f.wantChange("not added again", f.change(g.ID, add, u[2]), 2, u[:2], nil)
}

func memberJoinsAgain(f *fixture) {
	u := f.users(3)
	g := f.group(u[0], u[1])
	var all []*im.Message
	say := func(body string) *im.Message {
		f.advance(10 * time.Second)
		m := f.post(u[0], g.ID, body)
		f.advance(10 * time.Second)
		all = append(all, m)
		return m
	}
	check := func(when string, unread uint32, want ...*im.Message) {
		f.Helper()
		f.sync()
		checkVisible(f, when, u[1], g.ID, unread, want)
	}
	one, two := say("1"), say("2")
	check("at first", 2, one, two)
	f.change(g.ID, del, u[1])
	check("out", 0)
	say("3")
	check("out, and a message", 0)
	f.change(g.ID, add, u[1])
	check("in again", 0)
	if totals, err := f.s.UnreadTotals(f.ctx, u[1:2]); err != nil || totals[u[1]] != 0 {
		f.Errorf("in again: total %v, %v", totals, err)
	}
	four := say("4")
	check("a message", 1, four)
	f.reopen()
	check("after reopen", 1, four)
	// Leaving and joining without a message between.
	f.change(g.ID, del, u[1])
	f.change(g.ID, add, u[1])
	check("out and in", 0)
	five := say("5")
	check("another message", 1, five)
	f.wantGroupHistory(u[0], g.ID, all...)
	f.change(g.ID, add, u[1]) // adding a member is not joining again
	check("added while in", 1, five)
	f.change(g.ID, add, u[2])
	f.wantGroupHistory(u[2], g.ID)
	six := say("6")
	f.wantGroupHistory(u[2], g.ID, six)
}

// checkVisible checks the messages of a group that a member may see, in all ways to read them.
func checkVisible(f *fixture, when string, member, group, unread uint32, want []*im.Message) {
	f.Helper()
	f.wantGroupHistory(member, group, want...)
	if got := f.groupUnread(member, group); got != unread {
		f.Errorf("%s: %d unread, want %d", when, got, unread)
	}
	latest := uint32(0)
	if len(want) > 0 {
		latest = want[len(want)-1].ID
	}
	if id, err := f.s.GroupLatestID(f.ctx, member, group); err != nil || id != latest {
		f.Errorf("%s: latest id %d, %v, want %d", when, id, err, latest)
	}
	if s, ok := f.sessionOf(member, group, groupSession); ok != (len(want) > 0) {
		f.Errorf("%s: session %+v, %v, with %d messages to see", when, s, ok, len(want))
	}
	got, err := f.s.GroupMessagesByID(f.ctx, member, group, []uint32{1, 2, 3, 4, 5, 6, 7})
	f.check("GroupMessagesByID", err)
	if len(got) != len(want) {
		f.Errorf("%s: %d messages by id, want %d", when, len(got), len(want))
	}
}

func membersAtOnce(f *fixture) { membersAtOnceIn(f, f.s) }

func membersAtOnceElsewhere(f *fixture) { membersAtOnceIn(f, f.second()) }

// membersAtOnceIn changes members in one store and reads them in the other, in both
// directions.
func membersAtOnceIn(f *fixture, other im.Store) {
	u := f.users(3)
	g := f.group(u[0], u[1])
	stores := []im.Store{f.s, other}
	version := uint32(1)
	for round := range 20 {
		here, there := stores[round%2], stores[1-round%2]
		t, member := del, false
		if round%2 == 1 {
			t, member = add, true
		}
		c, err := here.ChangeMembers(f.ctx, im.MemberEdit{Group: g.ID, Type: t, Users: u[1:2]})
		f.check("ChangeMembers", err)
		if version++; c.Version != version {
			f.Fatalf("round %d: version %d, want %d", round, c.Version, version)
		}
		for _, s := range []im.Store{there, here} {
			batch := []*im.Message{f.groupText(u[0], g.ID, "x"), f.groupText(u[1], g.ID, "y")}
			s.AppendMessages(f.ctx, batch)
			if batch[0].Err != nil || batch[0].GroupVersion != version {
				f.Fatalf("round %d: version %d of a message, %v; want %d", round,
					batch[0].GroupVersion, batch[0].Err, version)
			}
			if member && (batch[1].Err != nil || batch[1].GroupVersion != version) {
				f.Fatalf("round %d: message of an added user: version %d, %v", round,
					batch[1].GroupVersion,
					batch[1].Err)
			}
			if !member {
				f.wantKind("message of a removed user", batch[1].Err, im.Denied)
			}
			groups, err := s.Groups(f.ctx, []uint32{g.ID})
			f.check("Groups", err)
			versions, err := s.GroupVersions(f.ctx, []uint32{g.ID})
			f.check("GroupVersions", err)
			if len(groups) != 1 || len(versions) != 1 || groups[0].Version != version ||
				versions[0].Version != version ||
				slices.Contains(groups[0].Members, u[1]) != member {
				f.Fatalf("round %d: %+v, %+v; want version %d, member %v", round, groups, versions,
					version, member)
			}
			history, err := s.GroupHistory(f.ctx, u[1], g.ID, 0, 1)
			if err != nil || len(history) > 0 != member {
				f.Fatalf("round %d: history has %d messages, %v; member %v", round,
					len(history), err, member)
			}
		}
	}
}

func membersTogether(f *fixture) { membersTogetherIn(f, f.s) }

func membersTogetherElsewhere(f *fixture) { membersTogetherIn(f, f.second()) }

// membersTogetherIn changes the members of one group from both stores at once. Afterwards
// both must agree with each other and with the last change.
func membersTogetherIn(f *fixture, other im.Store) {
	const each = 100
	u := f.users(8)
	g := f.group(u[0])
	stores := []im.Store{f.s, other}
	var mu sync.Mutex
	byVersion := map[uint32][]uint32{1: u[:1]} // members by version
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for n := range each {
				t := add
				if n%3 == 2 {
					t = del
				}
				users := []uint32{u[1+(n*(i+1))%7], u[1+(n*5+i)%7]}
				c, err := s.ChangeMembers(f.ctx, im.MemberEdit{Group: g.ID, Type: t, Users: users})
				if err != nil {
					f.Errorf("store %d, change %d: %v", i, n, err)
					return
				}
				for _, user := range users {
					if slices.Contains(c.Current, user) != (t == add) {
						f.Errorf("store %d, change %d: %v of %d gave %v", i, n, t, user, c.Current)
					}
				}
				mu.Lock()
				if was, ok := byVersion[c.Version]; ok && !slices.Equal(was, c.Current) {
					f.Errorf("version %d is both %v and %v", c.Version, was, c.Current)
				} else if ok && len(c.Changed) > 0 {
					f.Errorf("version %d was given to two changes", c.Version)
				} else if len(c.Changed) > 0 {
					byVersion[c.Version] = c.Current
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	last := uint32(len(byVersion))
	for _, s := range stores {
		groups, err := s.Groups(f.ctx, []uint32{g.ID})
		f.check("Groups", err)
		if len(groups) != 1 || groups[0].Version != last ||
			!slices.Equal(groups[0].Members, byVersion[last]) {
			f.Errorf("got %+v, want version %d with %v", groups, last, byVersion[last])
		}
		for _, user := range u {
			m := f.groupText(user, g.ID, "x")
			s.AppendMessages(f.ctx, []*im.Message{m})
			if member := slices.Contains(byVersion[last], user); member != (m.Err == nil) {
				f.Errorf("message of %d: %v; member %v", user, m.Err, member)
			}
		}
	}
	f.reopen()
	if got := f.readGroup(g.ID); !slices.Equal(got.Members, byVersion[last]) {
		f.Errorf("after reopen: %v, want %v", got.Members, byVersion[last])
	}
}

// messagesWhileMembersChange requires that each message is checked against one version of
// the group, and that the message names that version.
func messagesWhileMembersChange(f *fixture) {
	u := f.users(3)
	g := f.group(u[0], u[1])
	member := map[uint32]bool{1: true} // whether u[1] was a member, by version
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 60 {
			t := del
			if n%2 == 1 {
				t = add
			}
			c, err := f.s.ChangeMembers(f.ctx, im.MemberEdit{Group: g.ID, Type: t,
				Users: u[1:2]})
			if err != nil {
				f.Errorf("change %d: %v", n, err)
				return
			}
			member[c.Version] = t == add
		}
	}()
	var sent, stored []*im.Message
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		batch := []*im.Message{f.groupText(u[1], g.ID, "x"), f.groupText(u[0], g.ID, "y"),
			f.groupText(u[1], g.ID, "z")}
		f.s.AppendMessages(f.ctx, batch)
		if (batch[0].Err == nil) != (batch[2].Err == nil) &&
			batch[0].GroupVersion == batch[2].GroupVersion {
			f.Errorf("one batch, one version, two judgements: %v, %v", batch[0].Err, batch[2].Err)
		}
		sent = append(sent, batch...)
	}
	for i, m := range sent {
		if m.From == u[0] && m.Err != nil {
			f.Fatalf("message %d: %v", i, m.Err)
		}
		if m.Err != nil {
			f.wantKind("message of a stranger", m.Err, im.Denied)
			continue
		}
		if m.From == u[1] && !member[m.GroupVersion] {
			f.Errorf("message %d was checked against version %d, where its sender is not in", i,
				m.GroupVersion)
		}
		stored = append(stored, m)
	}
	f.wantGroupHistory(u[0], g.ID, stored...)
}
