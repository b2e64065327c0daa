package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// groupFixture has the helpers for groups and their members.
type groupFixture struct{ *base }

var groupTests = []test{
	{"every field comes back", everyGroupField},
	{"members once each, in order, without users that do not exist", groupMembersTaken},
	{"invalid ones", groupsInvalid},
	{"the longest fields", groupLongestFields},
	{"the most members", groupMostMembers},
	{"name", setGroupName},
	{"by ids, and their versions", groupsByID},
	{"list in pages", groupPages},
	{"groups of a user", groupsOf},
	{"groups of a user: many in one second", groupsOfOneSecond},
	{"groups of a user, as time passes", groupsOfLater},
	{"survive reopen", groupsSurvive},
	{"cancelled before", groupsCancelled},
}

// group creates a temporary group of these members. The first one is its creator.
func (f groupFixture) group(members ...uint32) im.Group {
	f.Helper()
	return f.createGroup(im.Group{Name: "group", Creator: members[0],
		Type: pb.GroupType_GROUP_TYPE_TMP, Members: members})
}

func (f groupFixture) createGroup(g im.Group) im.Group {
	f.Helper()
	got, err := f.s.CreateGroup(f.ctx, g, 0)
	f.check("CreateGroup", err)
	return got
}

// readGroup reads a group that must exist.
func (f groupFixture) readGroup(id uint32) im.Group {
	f.Helper()
	got, err := f.s.Groups(f.ctx, []uint32{id})
	f.check("Groups", err)
	if len(got) != 1 {
		f.Fatalf("Groups of %d returned %d groups", id, len(got))
	}
	return got[0]
}

// sameGroup compares two groups field by field.
func sameGroup(a, b im.Group) bool {
	members := slices.Equal(a.Members, b.Members)
	return members && a.ID == b.ID && a.Name == b.Name && a.Avatar == b.Avatar &&
		a.Creator == b.Creator && a.Type == b.Type &&
		a.Version == b.Version && a.Created == b.Created && a.Updated == b.Updated &&
		a.LastChat == b.LastChat
}

// wantGroup checks a group with every method that reads groups.
func (f groupFixture) wantGroup(want im.Group) {
	f.Helper()
	if got := f.readGroup(want.ID); !sameGroup(got, want) {
		f.Errorf("Groups:\n got %+v\nwant %+v", got, want)
	}
	listed, err := f.s.ListGroups(f.ctx, want.ID-1, 1)
	f.check("ListGroups", err)
	if len(listed) != 1 || !sameGroup(listed[0], want) {
		f.Errorf("ListGroups:\n got %+v\nwant %+v", listed, want)
	}
	versions, err := f.s.GroupVersions(f.ctx, []uint32{want.ID})
	f.check("GroupVersions", err)
	if len(versions) != 1 || versions[0] != (im.GroupVersion{ID: want.ID, Version: want.Version}) {
		f.Errorf("GroupVersions: %+v, want version %d of %d", versions, want.Version, want.ID)
	}
}

// departed creates a user that has departed.
func (f groupFixture) departed(i int) uint32 {
	f.Helper()
	a := account(i)
	a.Status = im.StatusDeparted
	ids, err := f.s.CreateUsers(f.ctx, []im.Account{a})
	f.check("CreateUsers", err)
	return ids[0]
}

func everyGroupField(f *fixture) {
	u := f.users(3)
	before := f.now()
	for _, want := range []im.Group{
		{Name: "小组 🙂 'x\"", Avatar: "http://127.0.0.1:8700/g0/1.jpg", Creator: u[1],
			Type: pb.GroupType_GROUP_TYPE_TMP, Members: u},
		{Name: "made elsewhere", Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: u[:1]},
		{Name: "creator is not a member", Creator: u[2], Type: pb.GroupType_GROUP_TYPE_NORMAL,
			Members: u[:2]},
		{Name: "creator does not exist", Creator: u[2] + 1000, Type: pb.GroupType_GROUP_TYPE_TMP,
			Members: u[1:]},
	} {
		asked := want
		// must be ignored
		asked.ID, asked.Version, asked.Created, asked.Updated, asked.LastChat = 77, 78, 79, 80, 81
		got := f.createGroup(asked)
		if after := f.now(); got.Created < before || got.Created > after {
			f.Errorf("created %d, between %d and %d", got.Created, before, after)
		}
		if got.ID == 0 {
			f.Fatal("id 0")
		}
		want.ID, want.Version, want.Created, want.Updated = got.ID, 1, got.Created, got.Created
		want.Members = slices.Sorted(slices.Values(want.Members))
		if !sameGroup(got, want) {
			f.Errorf("CreateGroup:\n got %+v\nwant %+v", got, want)
		}
		f.wantGroup(want)
	}
}

func groupMembersTaken(f *fixture) {
	u := f.users(4)
	gone := f.departed(4)
	unknown := slices.Max(append(u, gone)) + 1000
	g := f.createGroup(im.Group{Name: "g", Creator: u[0], Type: pb.GroupType_GROUP_TYPE_NORMAL,
		Members: []uint32{u[3], u[0], unknown, u[3], gone, 0, u[1], math.MaxUint32, u[0]}})
	want := slices.Sorted(slices.Values([]uint32{u[0], u[1], u[3]}))
	if !slices.Equal(g.Members, want) {
		f.Errorf("members %v, want %v", g.Members, want)
	}
	f.wantGroup(g)
}

func groupsInvalid(f *fixture) {
	u := f.users(2)
	gone := f.departed(2)
	ok := im.Group{Name: "g", Creator: u[0], Type: pb.GroupType_GROUP_TYPE_TMP, Members: u}
	for name, spoil := range map[string]func(*im.Group){
		"no members":            func(g *im.Group) { g.Members = nil },
		"unknown members only":  func(g *im.Group) { g.Members = []uint32{0, u[1] + 1000} },
		"departed members only": func(g *im.Group) { g.Members = []uint32{gone} },
		"no name":               func(g *im.Group) { g.Name = "" },
		"name too long": func(g *im.Group) {
			g.Name = strings.Repeat("漢", im.MaxGroupName+1)
		},
		"name not UTF-8": func(g *im.Group) { g.Name = "a\xff" },
		"avatar too long": func(g *im.Group) {
			g.Avatar = strings.Repeat("x", im.MaxGroupName+1)
		},
		"avatar not UTF-8":        func(g *im.Group) { g.Avatar = "a\xff" },
		"neither normal nor temp": func(g *im.Group) { g.Type = 3 },
		"no type":                 func(g *im.Group) { g.Type = 0 },
	} {
		g := ok
		spoil(&g)
		_, err := f.s.CreateGroup(f.ctx, g, 0)
		f.wantKind(name, err, im.Invalid)
	}
	if got := f.listGroups(0, 100); len(got) != 0 {
		f.Errorf("%d groups are left of those refused", len(got))
	}
}

func groupLongestFields(f *fixture) {
	u := f.users(1)
	g := f.createGroup(im.Group{Name: strings.Repeat("🙂", im.MaxGroupName),
		Avatar: strings.Repeat("é", im.MaxGroupName), Creator: math.MaxUint32,
		Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: u})
	if g.Name != strings.Repeat("🙂", im.MaxGroupName) ||
		g.Avatar != strings.Repeat("é", im.MaxGroupName) || g.Creator != math.MaxUint32 {
		f.Errorf("got %+v", g)
	}
	f.wantGroup(g)
}

func groupMostMembers(f *fixture) {
	f.large()
	u := f.users(im.MaxGroupMembers + 1)
	all := im.Group{Name: "everybody", Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: u}
	_, err := f.s.CreateGroup(f.ctx, all, 0)
	f.wantKind("one too many", err, im.Invalid)
	// The largest number of members, without duplicates and users that do not exist.
	all.Members = append(slices.Clone(u[1:]), u[1], u[2], math.MaxUint32)
	g := f.createGroup(all)
	if len(g.Members) != im.MaxGroupMembers {
		f.Fatalf("%d members, want %d", len(g.Members), im.MaxGroupMembers)
	}
	f.wantGroup(g)
	_, err = f.s.ChangeMembers(f.ctx, im.MemberEdit{Group: g.ID, Type: add, Users: u[:1]})
	f.wantKind("adding one too many", err, im.Invalid)
	f.wantGroup(g)
	if c := f.change(g.ID, add, u[1], u[2]); c.Version != 1 || len(c.Changed) != 0 {
		f.Errorf("adding a member to a full group: version %d, changed %v", c.Version, c.Changed)
	}
	f.change(g.ID, del, u[1:5001]...)
	if c := f.change(g.ID, add, u[:5000]...); len(c.Current) != im.MaxGroupMembers ||
		len(c.Changed) != 5000 || c.Version != 3 {
		f.Errorf("5,000 out, 5,000 in: %d members, %d changed, version %d", len(c.Current),
			len(c.Changed), c.Version)
	}
}

func setGroupName(f *fixture) {
	u := f.users(2)
	g, other := f.group(u...), f.group(u...)
	f.advance(10 * time.Second)
	before := f.now()
	f.check("SetGroupName", f.s.SetGroupName(f.ctx, g.ID, "新名字"))
	got := f.readGroup(g.ID)
	if got.Updated < before || got.Updated > f.now() {
		f.Errorf("updated %d, changed at or after %d", got.Updated, before)
	}
	g.Name, g.Version, g.Updated = "新名字", 2, got.Updated
	f.wantGroup(g)
	for name, bad := range map[string]string{"empty": "", "invisible": "\u200b\u3000",
		"too long": strings.Repeat("x", im.MaxGroupName+1), "not UTF-8": "\xff"} {
		f.wantKind(name, f.s.SetGroupName(f.ctx, g.ID, bad), im.Invalid)
	}
	f.wantKind("no such group", f.s.SetGroupName(f.ctx, other.ID+1000, "x"), im.NotFound)
	f.wantGroup(g)
	f.wantGroup(other)
}

func groupsByID(f *fixture) {
	u := f.users(3)
	a, b, c := f.group(u[0]), f.group(u[1:]...), f.group(u...)
	f.check("SetGroupName", f.s.SetGroupName(f.ctx, b.ID, "b"))
	b = f.readGroup(b.ID)
	for _, tc := range []struct {
		ask  []uint32
		want []im.Group
	}{
		{nil, nil},
		{[]uint32{0, c.ID + 1000, math.MaxUint32}, nil},
		{[]uint32{c.ID, a.ID}, []im.Group{a, c}},
		{[]uint32{b.ID, c.ID + 1000, b.ID, a.ID, c.ID}, []im.Group{a, b, c}},
	} {
		got, err := f.s.Groups(f.ctx, tc.ask)
		f.check("Groups", err)
		slices.SortFunc(got, func(x, y im.Group) int { return int(x.ID) - int(y.ID) })
		if !slices.EqualFunc(got, tc.want, sameGroup) {
			f.Errorf("Groups of %v:\n got %+v\nwant %+v", tc.ask, got, tc.want)
		}
		versions, err := f.s.GroupVersions(f.ctx, tc.ask)
		f.check("GroupVersions", err)
		slices.SortFunc(versions, func(x, y im.GroupVersion) int { return int(x.ID) - int(y.ID) })
		if !slices.Equal(versions, versionsOf(tc.want...)) {
			f.Errorf("GroupVersions of %v: got %v, want %v", tc.ask, versions,
				versionsOf(tc.want...))
		}
	}
}

// versionsOf returns the versions of groups, in their order.
func versionsOf(groups ...im.Group) (versions []im.GroupVersion) {
	for _, g := range groups {
		versions = append(versions, im.GroupVersion{ID: g.ID, Version: g.Version})
	}
	return versions
}

// listGroups returns a page of all groups.
func (f groupFixture) listGroups(after uint32, limit int) []im.Group {
	f.Helper()
	got, err := f.s.ListGroups(f.ctx, after, limit)
	f.check("ListGroups", err)
	return got
}

func groupPages(f *fixture) {
	u := f.users(2)
	var all []im.Group
	for i := range 7 {
		all = append(all, f.group(u[i%2], u[0]))
	}
	slices.SortFunc(all, func(x, y im.Group) int { return int(x.ID) - int(y.ID) })
	var got []im.Group
	after := uint32(0)
	for range 3 {
		page := f.listGroups(after, 3)
		got = append(got, page...)
		after = page[len(page)-1].ID
	}
	if !slices.EqualFunc(got, all, sameGroup) {
		f.Errorf("in pages of 3:\n got %+v\nwant %+v", got, all)
	}
	if page := f.listGroups(after, 3); len(page) != 0 {
		f.Errorf("after the last: %+v", page)
	}
	for limit, want := range map[int]int{100: 7, 7: 7, 1: 1, 0: 0, -1: 0} {
		if page := f.listGroups(0, limit); len(page) != want {
			f.Errorf("limit %d: %d groups, want %d", limit, len(page), want)
		}
	}
}

// wantGroupsOf checks the groups of a type that user is in, changed at or after since.
func (f groupFixture) wantGroupsOf(what string, user uint32, t pb.GroupType, since uint32,
	want ...im.Group) {
	f.Helper()
	got, err := f.s.GroupsOf(f.ctx, user, t, since)
	f.check("GroupsOf", err)
	if !slices.Equal(got, versionsOf(want...)) {
		f.Errorf("%s: groups of %d: got %v, want %v", what, user, got, versionsOf(want...))
	}
}

func groupsOf(f *fixture) {
	const normal, temporary = pb.GroupType_GROUP_TYPE_NORMAL, pb.GroupType_GROUP_TYPE_TMP
	u := f.users(3)
	make := func(t pb.GroupType, members ...uint32) im.Group {
		return f.createGroup(im.Group{Name: "g", Creator: u[0], Type: t, Members: members})
	}
	a, b := make(normal, u[0], u[1]), make(temporary, u[0], u[1])
	c, d := make(normal, u[1]), make(normal, u[0], u[2])
	f.wantGroupsOf("normal", u[0], normal, 0, a, d)
	f.wantGroupsOf("temporary", u[0], temporary, 0, b)
	f.wantGroupsOf("of every type", u[0], 0, 0, a, b, d)
	f.wantGroupsOf("normal", u[1], normal, 0, a, c)
	f.wantGroupsOf("no temporary", u[2], temporary, 0)
	f.wantGroupsOf("unknown", u[2]+1000, normal, 0)
	f.wantGroupsOf("nothing so late", u[0], normal, f.now()+1000)
	f.change(a.ID, del, u[0])
	c = f.changeGroup(c.ID, add, u[0])
	f.wantGroupsOf("one left, one joined", u[0], normal, 0, c, d)
}

func groupsOfOneSecond(f *fixture) {
	u := f.users(1)
	var all []im.Group
	for range 40 {
		all = append(all, f.group(u[0]))
	}
	// A client that asked after the first group got its time. Groups created at that time
	// or later must be returned again.
	since := all[0].Updated
	f.wantGroupsOf("at or after the first", u[0], pb.GroupType_GROUP_TYPE_TMP, since, all...)
}

func groupsOfLater(f *fixture) {
	const temporary = pb.GroupType_GROUP_TYPE_TMP
	u := f.users(3)
	a, b := f.group(u[0], u[1]), f.group(u[0], u[1])
	f.advance(10 * time.Second)
	since := f.now()
	f.wantGroupsOf("nothing yet", u[0], temporary, since)
	f.post(u[0], a.ID, "a message is no change")
	f.wantGroupsOf("a message", u[0], temporary, since)
	a = f.changeGroup(a.ID, add, u[2])
	f.wantGroupsOf("a member before", u[0], temporary, since, a)
	f.wantGroupsOf("a new member", u[2], temporary, since, a)
	f.wantGroupsOf("everything", u[0], temporary, 0, a, b)
	f.advance(10 * time.Second)
	f.wantGroupsOf("later", u[0], temporary, f.now())
	f.wantGroupsOf("at the time of the change", u[0], temporary, a.Updated, a)
	f.wantGroupsOf("a second after it", u[0], temporary, a.Updated+1)
	f.check("SetGroupName", f.s.SetGroupName(f.ctx, b.ID, "renamed"))
	f.wantGroupsOf("renamed", u[1], temporary, f.now()-5, f.readGroup(b.ID))
}

func groupsSurvive(f *fixture) {
	u := f.users(4)
	a, b := f.group(u...), f.group(u[0], u[1])
	f.change(a.ID, del, u[3])
	f.change(b.ID, add, u[2])
	f.check("SetGroupName", f.s.SetGroupName(f.ctx, b.ID, "renamed"))
	stored := []*im.Message{f.post(u[0], a.ID, "1"), f.post(u[1], a.ID, "2")}
	f.check("ClearGroupUnread", f.s.ClearGroupUnread(f.ctx, u[1], a.ID))
	stored = append(stored, f.post(u[0], a.ID, "3"))
	a, b = f.readGroup(a.ID), f.readGroup(b.ID)
	f.wantTime("before", a.LastChat, stored[2])
	if b.Version != 3 {
		f.Errorf("before: %+v", b)
	}
	f.reopen()
	f.wantGroup(a)
	f.wantGroup(b)
	f.wantGroupHistory(u[2], a.ID, stored...)
	f.wantGroupHistory(u[3], a.ID)
	for i, want := range []uint32{0, 1, 3, 0} {
		if got := f.groupUnread(u[i], a.ID); got != want {
			f.Errorf("after reopen user %d has %d unread, want %d", i, got, want)
		}
	}
	if m := f.post(u[2], a.ID, "4"); m.ID != 4 || m.GroupVersion != a.Version {
		f.Errorf("after reopen: id %d, version %d; want 4, %d", m.ID, m.GroupVersion, a.Version)
	}
	denied := groupText(u[3], a.ID, "x")
	f.s.AppendMessages(f.ctx, []*im.Message{denied})
	f.wantKind("a former member", denied.Err, im.Denied)
}

func groupsCancelled(f *fixture) {
	u := f.users(3)
	g := f.group(u[0], u[1])
	f.append(text(u[0], u[1], "x"))
	f.post(u[0], g.ID, "x")
	_, err := f.s.SyncSessions(f.ctx)
	f.check("SyncSessions", err)
	g = f.readGroup(g.ID)
	ctx := cancelled()
	for name, call := range groupCalls(ctx, f, g, u) {
		err := call()
		if err == nil {
			f.Errorf("%s with a cancelled context: no error", name)
			continue
		}
		aboutRequest := []im.Kind{im.NotFound, im.Exists, im.Invalid, im.Denied}
		if kind := im.KindOf(err); slices.Contains(aboutRequest, kind) {
			f.Errorf("%s with a cancelled context says %v, which is about the request: %v",
				name, kind, err)
		}
	}
	f.wantGroup(g)
	if got := f.groupUnread(u[1], g.ID); got != 1 {
		f.Errorf("%d unread, want 1", got)
	}
	if got := f.listGroups(0, 10); len(got) != 1 {
		f.Errorf("%d groups, want 1", len(got))
	}
	for _, t := range []struct {
		peer uint32
		t    pb.SessionType
	}{{u[0], singleSession}, {g.ID, groupSession}} {
		if _, ok := f.sessionOf(u[1], t.peer, t.t); !ok {
			f.Errorf("session with %d has gone", t.peer)
		}
	}
}

// groupCalls returns calls of the store, by name, that concern a group of the first two
// users.
func groupCalls(ctx context.Context, f *fixture, g im.Group,
	u []uint32) map[string]func() error {
	return map[string]func() error{
		"CreateGroup": func() error { _, err := f.s.CreateGroup(ctx, g, 0); return err },
		"ChangeMembers": func() error {
			_, err := f.s.ChangeMembers(ctx, im.MemberEdit{Group: g.ID, Type: add, Users: u[2:]})
			return err
		},
		"SetGroupName": func() error { return f.s.SetGroupName(ctx, g.ID, "x") },
		"Groups": func() error {
			_, err := f.s.Groups(ctx, []uint32{g.ID})
			return err
		},
		"GroupVersions": func() error {
			_, err := f.s.GroupVersions(ctx, []uint32{g.ID})
			return err
		},
		"GroupsOf": func() error {
			_, err := f.s.GroupsOf(ctx, u[0], g.Type, 0)
			return err
		},
		"ListGroups": func() error { _, err := f.s.ListGroups(ctx, 0, 10); return err },
		"GroupHistory": func() error {
			_, err := f.s.GroupHistory(ctx, u[0], g.ID, 0, 10)
			return err
		},
		"GroupMessagesByID": func() error {
			_, err := f.s.GroupMessagesByID(ctx, u[0], g.ID, []uint32{1})
			return err
		},
		"GroupLatestID": func() error {
			_, err := f.s.GroupLatestID(ctx, u[0], g.ID)
			return err
		},
		"ClearGroupUnread": func() error { return f.s.ClearGroupUnread(ctx, u[1], g.ID) },
		"UnreadTotals":     func() error { _, err := f.s.UnreadTotals(ctx, u); return err },
		"RemoveSession": func() error {
			return f.s.RemoveSession(ctx, u[1], g.ID, groupSession)
		},
		"RemoveSession of 1:1": func() error {
			return f.s.RemoveSession(ctx, u[1], u[0], singleSession)
		},
		"AppendMessages": func() error {
			m := groupText(u[0], g.ID, "y")
			f.s.AppendMessages(ctx, []*im.Message{m})
			return m.Err
		},
	}
}

// errNotAllowed is the error of the permission callbacks.
var errNotAllowed = fmt.Errorf("not in this test: %w", im.Errorf(im.Denied, "only the creator may"))

// wantNotAllowed checks that err is the error of the permission callback.
func (f groupFixture) wantNotAllowed(what string, err error) {
	f.Helper()
	f.wantKind(what, err, im.Denied)
	if !errors.Is(err, errNotAllowed) {
		f.Errorf("%s: the error has lost what allow said: %v", what, err)
	}
}
