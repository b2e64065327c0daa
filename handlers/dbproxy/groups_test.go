package dbproxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
	"teamtalk/pool"
	"teamtalk/proto/pb"
)

const (
	normal    = pb.GroupType_GROUP_TYPE_NORMAL
	temporary = pb.GroupType_GROUP_TYPE_TMP
	add       = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	del       = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
)

func createReq(by uint32, t pb.GroupType, name string, members ...uint32) *pb.IMGroupCreateReq {
	return pb.IMGroupCreateReq_builder{UserId: &by, GroupType: t.Enum(), GroupName: &name,
		GroupAvatar: proto.String("a.png"), MemberIdList: members,
		AttachData: []byte("way back")}.Build()
}

// makeGroup creates a group and returns its id.
func makeGroup(p *peer, by uint32, t pb.GroupType, members ...uint32) uint32 {
	p.t.Helper()
	rsp := ask[*pb.IMGroupCreateRsp](p, 1, createReq(by, t, "group", members...))
	if rsp.GetResultCode() != 0 || rsp.GetGroupId() == 0 {
		p.t.Fatalf("group not made: %v", rsp)
	}
	return rsp.GetGroupId()
}

func changeReq(by, group uint32, t pb.GroupModifyType, users ...uint32) *pb.IMGroupChangeMemberReq {
	return pb.IMGroupChangeMemberReq_builder{UserId: &by, ChangeType: t.Enum(), GroupId: &group,
		MemberIdList: users, AttachData: []byte("way back")}.Build()
}

// TestCreateGroup: a created group has unique members in ascending order, and
// unknown users are left out.
func TestCreateGroup(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	for _, test := range []struct {
		name string
		req  *pb.IMGroupCreateReq
		code uint32
		want []uint32
	}{
		{"temporary", createReq(1, temporary, "x", 1, 2, 3), 0, []uint32{1, 2, 3}},
		{"members once each, ascending", createReq(1, temporary, "x", 3, 1, 3, 2, 1), 0,
			[]uint32{1, 2, 3}},
		{"normal", createReq(1, normal, "x", 1), 0, []uint32{1}},
		{"of another system", createReq(0, normal, "x", 2, 1), 0, []uint32{1, 2}},
		{"without its creator", createReq(1, temporary, "x", 2, 3), 0, []uint32{2, 3}},
		{"one member exists", createReq(1, temporary, "x", 1, 999), 0, []uint32{1}},
		{"no member exists", createReq(1, temporary, "x", 998, 999, 998), 1, []uint32{998, 999}},
		{"no name", createReq(1, temporary, "", 2, 1), 1, []uint32{1, 2}},
		{"invisible name", createReq(1, temporary, "\u200b\u3164", 1), 1, []uint32{1}},
		{"no members", createReq(1, temporary, "x"), 1, nil},
		{"name too long", createReq(1, temporary, strings.Repeat("x", im.MaxGroupName+1), 1), 1,
			[]uint32{1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			rsp := ask[*pb.IMGroupCreateRsp](p, 5, test.req)
			if rsp.GetResultCode() != test.code || rsp.HasGroupId() != (test.code == 0) ||
				rsp.GetGroupName() != test.req.GetGroupName() ||
				!slices.Equal(rsp.GetUserIdList(), test.want) ||
				string(rsp.GetAttachData()) != "way back" ||
				rsp.GetUserId() != test.req.GetUserId() {
				t.Errorf("answer %v", rsp)
			}
		})
	}
}

// memberChange is a change of a new group of 1 (the creator), 2 and 3.
type memberChange struct {
	name   string
	group  pb.GroupType
	by     uint32
	change pb.GroupModifyType
	users  []uint32
	cur    []uint32 // the members afterwards; nil: refused
	chg    []uint32
}

// TestChangeMembers checks which changes a creator, a member and a stranger may make,
// each in a new group of 1 (the creator), 2 and 3.
func TestChangeMembers(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	for _, test := range []memberChange{
		{"creator adds", temporary, 1, add, []uint32{5, 4, 5}, []uint32{1, 2, 3, 4, 5},
			[]uint32{4, 5}},
		{"creator removes", temporary, 1, del, []uint32{3, 2}, []uint32{1}, []uint32{2, 3}},
		{"creator leaves", temporary, 1, del, []uint32{1}, []uint32{2, 3}, []uint32{1}},
		{"member adds", temporary, 2, add, []uint32{4}, []uint32{1, 2, 3, 4}, []uint32{4}},
		{"member removes", temporary, 2, del, []uint32{3}, nil, nil},
		{"member leaves", temporary, 2, del, []uint32{2}, []uint32{1, 3}, []uint32{2}},
		{"member leaves and removes another", temporary, 2, del, []uint32{2, 3}, nil, nil},
		{"stranger adds", temporary, 4, add, []uint32{4}, nil, nil},
		{"stranger leaves", temporary, 4, del, []uint32{4}, nil, nil},
		{"another system adds", temporary, 0, add, []uint32{4}, []uint32{1, 2, 3, 4}, []uint32{4}},
		{"another system removes", temporary, 0, del, []uint32{1}, []uint32{2, 3}, []uint32{1}},
		{"one user is a member, one is not", temporary, 1, add, []uint32{2, 4},
			[]uint32{1, 2, 3, 4}, []uint32{4}},
		{"a member is added", temporary, 1, add, []uint32{2}, nil, nil},
		{"a stranger is removed", temporary, 1, del, []uint32{4}, nil, nil},
		{"an unknown user is added", temporary, 1, add, []uint32{999}, nil, nil},
		{"no users", temporary, 1, add, nil, nil, nil},
		{"creator adds to a normal group", normal, 1, add, []uint32{4}, []uint32{1, 2, 3, 4},
			[]uint32{4}},
		{"creator removes from a normal group", normal, 1, del, []uint32{2}, []uint32{1, 3},
			[]uint32{2}},
		{"member adds to a normal group", normal, 2, add, []uint32{4}, nil, nil},
		{"member leaves a normal group", normal, 2, del, []uint32{2}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			group := makeGroup(p, 1, test.group, 1, 2, 3)
			test.answered(t, group, ask[*pb.IMGroupChangeMemberRsp](p, 2,
				changeReq(test.by, group, test.change, test.users...)))
			test.stored(t, h, group)
		})
	}
}

// answered checks the answer to the change of a group.
func (c *memberChange) answered(t *testing.T, group uint32, rsp *pb.IMGroupChangeMemberRsp) {
	t.Helper()
	code, version := uint32(0), uint32(2)
	if c.cur == nil {
		code, version = 1, 0
	}
	if rsp.GetResultCode() != code || rsp.GetVersion() != version ||
		rsp.HasVersion() != (version != 0) || rsp.GetGroupId() != group ||
		rsp.GetUserId() != c.by ||
		rsp.GetChangeType() != c.change || string(rsp.GetAttachData()) != "way back" ||
		!slices.Equal(rsp.GetCurUserIdList(), c.cur) ||
		!slices.Equal(rsp.GetChgUserIdList(), c.chg) {
		t.Errorf("answer %v", rsp)
	}
}

// stored checks the members of the group in the store.
func (c *memberChange) stored(t *testing.T, h *house, group uint32) {
	t.Helper()
	want := c.cur
	if want == nil {
		want = []uint32{1, 2, 3}
	}
	if groups, err := h.store.Groups(t.Context(), []uint32{group}); err != nil ||
		len(groups) != 1 || !slices.Equal(groups[0].Members, want) {
		t.Errorf("group %v, %v", groups, err)
	}
}

// TestChangeMembersRefused: a creator outside its group, an unknown group and a full
// queue are answered with result 1.
func TestChangeMembersRefused(t *testing.T) {
	p := open(t, options{}).dial()
	t.Run("creator that left", func(t *testing.T) {
		group := makeGroup(p, 1, temporary, 1, 2, 3)
		ask[*pb.IMGroupChangeMemberRsp](p, 2, changeReq(1, group, del, 1))
		if rsp := ask[*pb.IMGroupChangeMemberRsp](p, 3,
			changeReq(1, group, del, 2)); rsp.GetResultCode() != 1 {
			t.Errorf("answer %v", rsp)
		}
	})
	t.Run("no such group", func(t *testing.T) {
		if rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2,
			changeReq(1, 99999, add, 2)); rsp.GetResultCode() != 1 || rsp.GetGroupId() != 99999 {
			t.Errorf("answer %v", rsp)
		}
	})
	t.Run("busy", func(t *testing.T) {
		h := open(t, options{pool: pool.Options{Workers: 1, Queue: 1, StrandQueue: 1}})
		g, p := h.gate(), h.dial()
		p.send(1, unreadOf(1))
		<-g.reached
		if rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2,
			changeReq(1, 1, add, 2)); rsp.GetResultCode() != 1 {
			t.Errorf("answer %v", rsp)
		}
		if rsp := ask[*pb.IMGroupCreateRsp](p, 3,
			createReq(1, temporary, "x", 2, 1)); rsp.GetResultCode() != 1 ||
			len(rsp.GetUserIdList()) != 2 {
			t.Errorf("answer %v", rsp)
		}
		h.store.set(nil)
		close(g.open)
		answer[*pb.IMUnreadMsgCntRsp](p, 1)
	})
}

// TestGroupInfo: a request for groups is answered with those that are newer than the
// requester's version, once each.
func TestGroupInfo(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	var groups []uint32
	for range 3 {
		groups = append(groups, makeGroup(p, 1, temporary, 1, 2))
	}
	ask[*pb.IMGroupChangeMemberRsp](p, 2, changeReq(1, groups[1], add, 3)) // version 2
	for _, test := range []struct{ ask, want string }{
		{"", ""}, {"3/0 1/0", "1/1 3/1"}, {"1/1 2/1 3/1", "2/2"}, {"1/0 2/2", "1/1"},
		{"2/0 2/2 2/0", "2/2"}, {"2/2 2/0", ""}, {"1/7", ""}, {"99/0 98/1", ""},
	} {
		var list []*pb.GroupVersionInfo
		for _, s := range strings.Fields(test.ask) {
			var n, version uint32
			if _, err := fmt.Sscanf(s, "%d/%d", &n, &version); err != nil {
				t.Fatal(err)
			}
			id := 99999 + n
			if n <= 3 {
				id = groups[n-1]
			}
			list = append(list, pb.GroupVersionInfo_builder{GroupId: &id,
				Version: &version}.Build())
		}
		rsp := ask[*pb.IMGroupInfoListRsp](p, 3,
			pb.IMGroupInfoListReq_builder{UserId: proto.Uint32(0), GroupVersionList: list,
				AttachData: []byte("x")}.Build())
		var got []string
		for _, g := range rsp.GetGroupInfoList() {
			got = append(got, fmt.Sprintf("%d/%d", slices.Index(groups, g.GetGroupId())+1,
				g.GetVersion()))
			if g.GetGroupName() != "group" || g.GetGroupAvatar() != "a.png" ||
				g.GetGroupCreatorId() != 1 || g.GetGroupType() != temporary ||
				g.GetShieldStatus() != 0 || len(g.GetGroupMemberList()) != int(1+g.GetVersion()) {
				t.Errorf("group %v", g)
			}
		}
		if strings.Join(got, " ") != test.want || string(rsp.GetAttachData()) != "x" {
			t.Errorf("%s: %s, want %s", test.ask, got, test.want)
		}
	}
}

// TestGroupInfosAreForMembers: group ids are easily guessed, so names and members are for
// those in the group only. One that leaves learns nothing further.
func TestGroupInfosAreForMembers(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	own, other := makeGroup(p, 1, temporary, 1, 2), makeGroup(p, 3, temporary, 3)
	infos := func(user, version uint32) (ids []uint32) {
		t.Helper()
		var list []*pb.GroupVersionInfo
		for _, id := range []uint32{own, other} {
			list = append(list, pb.GroupVersionInfo_builder{GroupId: new(id),
				Version: new(version)}.Build())
		}
		for _, g := range ask[*pb.IMGroupInfoListRsp](p, 3, pb.IMGroupInfoListReq_builder{
			UserId: &user, GroupVersionList: list}.Build()).GetGroupInfoList() {
			ids = append(ids, g.GetGroupId())
		}
		return ids
	}
	check := func(user, version uint32, want ...uint32) {
		t.Helper()
		if got := infos(user, version); !slices.Equal(got, want) {
			t.Errorf("groups of user %d above version %d: %d, want %d", user, version, got, want)
		}
	}
	check(2, 0, own)
	check(3, 0, other)
	check(4, 0)
	// A message server that asks for itself.
	check(0, 0, own, other)
	ask[*pb.IMGroupChangeMemberRsp](p, 2, changeReq(2, own, del, 2)) // version 2
	check(2, 0)
	check(2, 1)
	check(1, 1, own)
}

// TestNormalGroups: with field 100 the answer contains the groups that changed, or that
// the user joined, at or after that time.
func TestNormalGroups(t *testing.T) {
	h := open(t, options{recorded: true})
	p := h.dial()
	start := h.recorded.Now()
	first := makeGroup(p, 1, normal, 1, 2)
	makeGroup(p, 1, temporary, 1, 2)
	h.recorded.Add(time.Minute)
	second := makeGroup(p, 1, normal, 1)
	list := func(user uint32, since int64) string {
		t.Helper()
		req := pb.IMNormalGroupListReq_builder{UserId: &user}.Build()
		if since != 0 {
			req.SetLatestUpdateTime(uint32(since))
		}
		s := ""
		rsp := ask[*pb.IMNormalGroupListRsp](p, 4, req)
		if told := int64(rsp.GetLatestUpdateTime()); rsp.HasLatestUpdateTime() != (since != 0) ||
			since != 0 && told != h.clock.Now().Unix()-8 {
			t.Errorf("asked since %d: told %d", since, told)
		}
		for _, g := range rsp.GetGroupVersionList() {
			// a is the first, b the second
			s += fmt.Sprintf("%c%d", 'a'+g.GetGroupId()/second, g.GetVersion())
		}
		return s
	}
	if first >= second {
		t.Fatalf("groups %d and %d", first, second)
	}
	for _, test := range []struct {
		user  uint32
		since int64
		want  string
	}{
		{1, 0, "a1b1"}, {2, 0, "a1"}, {3, 0, ""},
		{1, start.Unix() - 1, "a1b1"}, {1, start.Unix(), "b1"},
		{1, start.Unix() + 60, ""}, {1, h.clock.Now().Unix() + 1, "a1b1"},
	} {
		if got := list(test.user, test.since); got != test.want {
			t.Errorf("groups of %d since %d: %q, want %q", test.user, test.since, got, test.want)
		}
	}
}

// TestGroupsOfEveryType: field 101 asks for all groups of a user, and the answer says so.
func TestGroupsOfEveryType(t *testing.T) {
	p := open(t, options{}).dial()
	first := makeGroup(p, 1, normal, 1, 2)
	second := makeGroup(p, 1, temporary, 1, 2)
	makeGroup(p, 3, temporary, 3)
	for _, every := range []bool{false, true} {
		req := pb.IMNormalGroupListReq_builder{UserId: new(uint32(2))}.Build()
		want := []uint32{first}
		if every {
			req.SetEveryType(true)
			want = []uint32{first, second}
		}
		rsp := ask[*pb.IMNormalGroupListRsp](p, 4, req)
		var got []uint32
		for _, g := range rsp.GetGroupVersionList() {
			got = append(got, g.GetGroupId())
		}
		if !slices.Equal(got, want) || rsp.GetEveryType() != every {
			t.Errorf("every type %v: groups %v, want %v, and the answer says %v", every, got, want,
				rsp.GetEveryType())
		}
	}
}

func groupText(from, to uint32, body string) *pb.MsgData {
	m := text(from, to, body)
	m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	m.CreateTime = uint32(time.Now().Unix() + 60) // after all members joined
	return m
}

// TestGroupMessage: members write in a group, others may not, and unread counts follow.
func TestGroupMessage(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	g := makeGroup(p, 1, temporary, 1, 2)
	with := func(m *pb.MsgData, change func(m *pb.MsgData)) *pb.MsgData { change(m); return m }
	version := func(v uint32) func(m *pb.MsgData) {
		return func(m *pb.MsgData) { m.GroupVersion, m.HasGroupVersion = v, true }
	}
	check := func(name string, m *pb.MsgData, id uint32, has bool, v uint32) {
		t.Helper()
		rsp := ask[*pb.MsgData](p, 7, m)
		if rsp.MsgID != id || rsp.HasGroupVersion != has || rsp.GroupVersion != v ||
			string(rsp.Data) != string(m.Data) {
			t.Errorf("%s: %+v", name, rsp)
		}
	}
	check("first", groupText(1, g, "a"), 1, false, 0)
	check("with a version", with(groupText(2, g, "b"), version(0)), 2, true, 1)
	check("with the version", with(groupText(2, g, "c"), version(1)), 3, true, 1)
	check("not a member", with(groupText(3, g, "d"), version(1)), 0, true, 0)
	check("no such group", groupText(1, 99999, "e"), 0, false, 0)
	check("empty", groupText(1, g, ""), 0, false, 0)
	// This is another conversation than the group's.
	check("to the user with the group's id", text(g, 2, "f"), 1, false, 0)
	if g == 1 {
		check("user and group of one number", groupText(1, 1, "g"), 4, false, 0)
	} else {
		t.Errorf("group %d, want 1, the number of a member", g)
	}
	if rsp := ask[*pb.IMGroupChangeMemberRsp](p, 8,
		changeReq(1, g, add, 3)); rsp.GetVersion() != 2 {
		t.Errorf("member not added: %v", rsp)
	}
	check("from the added member", with(groupText(3, g, "h"), version(1)), 5, true, 2)

	unread := func(user uint32) string {
		t.Helper()
		rsp := ask[*pb.IMUnreadMsgCntRsp](p, 9, unreadOf(user))
		s := fmt.Sprint(rsp.GetTotalCnt(), ":")
		for _, u := range rsp.GetUnreadinfoList() {
			s += fmt.Sprint(" ", u.GetSessionType().Number(), "/", u.GetSessionId(), " ",
				u.GetUnreadCnt(), " ", u.GetLatestMsgId(), " ", u.GetLatestMsgFromUserId())
		}
		return s
	}
	if got := unread(2); got != "3: 1/1 1 1 1 2/1 2 5 3" { // the user's before the group's
		t.Errorf("unread of 2: %s", got)
	}
	p.send(10, pb.IMMsgDataReadAck_builder{UserId: proto.Uint32(2), SessionId: &g,
		MsgId: proto.Uint32(5), SessionType: group.Enum()}.Build())
	if got := unread(2); got != "1: 1/1 1 1 1" {
		t.Errorf("unread of 2 after reading the group: %s", got)
	}
	if id := ask[*pb.IMGetLatestMsgIdRsp](p, 11,
		pb.IMGetLatestMsgIdReq_builder{UserId: proto.Uint32(4), SessionType: group.Enum(),
			SessionId: &g}.Build()).GetLatestMsgId(); id != 0 {
		t.Errorf("latest id %d for a user outside the group", id)
	}
}

// TestGroupOrder: members write at the same time through several servers. Each receives
// its answers in order, and every id is assigned once, without a gap.
func TestGroupOrder(t *testing.T) {
	h := open(t, options{batches: pool.BatchOptions[*dbproxy.Pending]{MaxItems: 16}})
	g := makeGroup(h.dial(), 1, temporary, 1, 2, 3, 4)
	const each = 100
	done := make(chan []uint32)
	for n := range uint32(4) {
		p := h.dial()
		go func() {
			var ids []uint32
			defer func() { done <- ids }()
			for i := range each {
				p.send(uint16(i), groupText(n+1, g, fmt.Sprint(i)))
			}
			for i := range each {
				ids = append(ids, answer[*pb.MsgData](p, uint16(i)).MsgID)
			}
		}()
	}
	var all []uint32
	for range 4 {
		ids := <-done
		if !slices.IsSorted(ids) {
			t.Errorf("ids out of order: %v", ids)
		}
		all = append(all, ids...)
	}
	slices.Sort(all)
	for i, id := range all {
		if id != uint32(i+1) {
			t.Fatalf("id %d at position %d", id, i)
		}
	}
}
