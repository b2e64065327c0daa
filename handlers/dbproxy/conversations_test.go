package dbproxy_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

var single, group = pb.SessionType_SESSION_TYPE_SINGLE, pb.SessionType_SESSION_TYPE_GROUP

func listReq(typ pb.SessionType, begin, count uint32) pb.Message {
	return pb.IMGetMsgListReq_builder{UserId: proto.Uint32(2), SessionType: typ.Enum(),
		SessionId:  proto.Uint32(1),
		MsgIdBegin: proto.Uint32(begin), MsgCnt: proto.Uint32(count)}.Build()
}

func byIDReq(typ pb.SessionType, ids ...uint32) pb.Message {
	return pb.IMGetMsgByIdReq_builder{UserId: proto.Uint32(2), SessionType: typ.Enum(),
		SessionId: proto.Uint32(1), MsgIdList: ids}.Build()
}

func ids(list []*pb.MsgInfo) (ids []uint32) {
	for _, m := range list {
		ids = append(ids, m.GetMsgId())
	}
	return ids
}

// TestReading checks histories, lists of messages by id, unread counts and read acks.
func TestReading(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{HistoryLimit: 5}})
	p := h.dial()
	for i := range 8 {
		ask[*pb.MsgData](p, uint16(i), text(1, 2, fmt.Sprint(i+1)))
	}
	for _, test := range []struct {
		name string
		req  pb.Message
		want string
	}{
		{"newest", listReq(single, 0, 2), "[8 7]"},
		{"limit", listReq(single, 0, 100), "[8 7 6 5 4]"},
		{"four billion", listReq(single, 0, 1<<32-1), "[8 7 6 5 4]"},
		{"from", listReq(single, 3, 100), "[3 2 1]"},
		{"none asked", listReq(single, 0, 0), "[]"},
		{"group", listReq(group, 0, 100), "[]"},
		{"by id", byIDReq(single, 3, 99, 7), "[7 3]"},
		{"by id, limit", byIDReq(single, 1, 2, 3, 4, 5, 6, 7), "[5 4 3 2 1]"},
		{"by id, none", byIDReq(single), "[]"},
		{"by id, group", byIDReq(group, 1), "[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.send(50, test.req)
			var list []*pb.MsgInfo
			switch _, m, _ := p.read(); m := m.(type) {
			case *pb.IMGetMsgListRsp:
				list = m.GetMsgList()
			case *pb.IMGetMsgByIdRsp:
				list = m.GetMsgList()
			}
			if got := fmt.Sprint(ids(list)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}

	t.Run("read acks", func(t *testing.T) { readAcks(t, p) })
	t.Run("latest id", func(t *testing.T) { latestIDs(t, p) })
}

// readAcks sends a read ack for the group with the peer's id, which changes nothing, and
// then one for the peer. The request after each shows the effect.
func readAcks(t *testing.T, p *peer) {
	ack := func(typ pb.SessionType) pb.Message {
		return pb.IMMsgDataReadAck_builder{UserId: proto.Uint32(2), SessionId: proto.Uint32(1),
			MsgId: proto.Uint32(8), SessionType: typ.Enum()}.Build()
	}
	p.send(1, ack(group))
	if rsp := ask[*pb.IMUnreadMsgCntRsp](p, 2, unreadOf(2)); rsp.GetTotalCnt() != 8 ||
		rsp.GetUnreadinfoList()[0].GetUnreadCnt() != 8 {
		t.Errorf("unread: %v", rsp)
	}
	p.send(3, ack(single))
	if rsp := ask[*pb.IMUnreadMsgCntRsp](p, 4, unreadOf(2)); rsp.GetTotalCnt() != 0 ||
		len(rsp.GetUnreadinfoList()) != 0 {
		t.Errorf("unread after reading: %v", rsp)
	}
}

// latestIDs requests the latest id of a user, and of the group with the same id.
func latestIDs(t *testing.T, p *peer) {
	latest := func(typ pb.SessionType) uint32 {
		return ask[*pb.IMGetLatestMsgIdRsp](p, 5,
			pb.IMGetLatestMsgIdReq_builder{UserId: proto.Uint32(1), SessionType: typ.Enum(),
				SessionId: proto.Uint32(2)}.Build()).GetLatestMsgId()
	}
	if s, g := latest(single), latest(group); s != 8 || g != 0 {
		t.Errorf("latest id %d, of a group %d", s, g)
	}
}

// TestDirectory: the list of users contains changes of other servers after a second.
func TestDirectory(t *testing.T) {
	h := open(t, options{users: 4})
	p := h.dial()
	all := func(since uint32) *pb.IMAllUserRsp {
		return ask[*pb.IMAllUserRsp](p, 1, pb.IMAllUserReq_builder{UserId: proto.Uint32(1),
			LatestUpdateTime: proto.Uint32(since)}.Build())
	}
	names := func(list []*pb.UserInfo) (names []string) {
		for _, u := range list {
			names = append(names, fmt.Sprint(u.GetUserId(), u.GetUserRealName(), u.GetStatus()))
		}
		return names
	}
	rsp := all(0)
	if got := fmt.Sprint(names(rsp.GetUserList())); got != "[1u000010 2u000020 3u000030 "+
		"4u000040]" || rsp.GetLatestUpdateTime() == 0 {
		t.Errorf("all users: %v", rsp)
	}
	newest := rsp.GetLatestUpdateTime()
	if err := h.store.SetUserStatus(t.Context(), 3, im.StatusDeparted); err != nil {
		t.Fatal(err)
	}
	h.clock.Add(time.Second) // changes by others are visible after a second
	if got := fmt.Sprint(names(all(0).GetUserList())); got != "[1u000010 2u000020 4u000040]" {
		t.Errorf("all users without 3: %s", got)
	}
	found := false
	rsp = all(newest)
	for _, u := range rsp.GetUserList() {
		found = found || u.GetUserId() == 3 && u.GetStatus() == 3
	}
	if !found {
		t.Errorf("changed users without the departed one: %v", rsp)
	}
	info := ask[*pb.IMUsersInfoRsp](p, 2, pb.IMUsersInfoReq_builder{UserId: proto.Uint32(1),
		UserIdList: []uint32{4, 99, 2, 4}, AttachData: []byte("x")}.Build())
	if got := fmt.Sprint(names(info.GetUserInfoList())); got != "[2u000020 4u000040]" ||
		string(info.GetAttachData()) != "x" {
		t.Errorf("users: %v", info)
	}
}

// TestSessionsSince: a client that asks with the latest updated_time that it received
// misses no conversation. This holds also when the clock of the message's server is an hour
// off, and when the client asks an hour later. Each conversation is sent until it has
// settled.
func TestSessionsSince(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	now := uint32(h.clock.Now().Unix())
	say := func(peer, created uint32) {
		m := text(peer, 1, fmt.Sprint("from ", peer))
		m.CreateTime = created
		ask[*pb.MsgData](p, 1, m)
	}
	since := uint32(0)
	expect := func(what, want string) {
		t.Helper()
		req := pb.IMRecentContactSessionReq_builder{UserId: proto.Uint32(1),
			LatestUpdateTime: &since}.Build()
		got := ""
		for _, c := range ask[*pb.IMRecentContactSessionRsp](p, 2, req).GetContactSessionList() {
			got += fmt.Sprint(" ", c.GetSessionId())
			since = max(since, c.GetUpdatedTime())
			if c.GetUpdatedTime() > uint32(h.clock.Now().Unix()) {
				t.Errorf("%s: told a time ahead, %d", what, c.GetUpdatedTime())
			}
		}
		if got != want {
			t.Errorf("%s:%s, want%s", what, got, want)
		}
	}
	say(2, now+3600)
	h.clock.Add(time.Minute)
	say(3, now+5)
	expect("first", " 3 2")
	say(4, now-3600)
	h.clock.Add(time.Hour)
	expect("an hour later", " 3 4")
	expect("settled", "")
	since = now + 7200
	expect("with a time ahead", " 3 4 2")
	since = uint32(h.clock.Now().Unix()) // from a server whose answer contained unsettled times
	say(5, now-5)
	expect("young", " 5")
	expect("at once again", " 5")
	h.clock.Add(20 * time.Second)
	expect("a few seconds later", "")
}

// TestOwnClockIsWrong: the clock of the server differs from that of the store, and steps.
// Clients miss no change, and are told no change for ever.
func TestOwnClockIsWrong(t *testing.T) {
	own := &clock{}
	h := open(t, options{own: own.Now})
	p := h.dial()
	var since [3]uint32 // of conversations, groups, departments
	now := time.Now()   // on the monotonic clock, too
	pass := func(off time.Duration) {
		h.clock.Add(time.Minute)
		now = now.Add(time.Minute)
		own.set(mono.Step(now, off))
	}
	round := func(what string, want int) {
		t.Helper()
		sessions := ask[*pb.IMRecentContactSessionRsp](p, 1, pb.IMRecentContactSessionReq_builder{
			UserId: proto.Uint32(1), LatestUpdateTime: &since[0]}.Build()).GetContactSessionList()
		for _, c := range sessions {
			since[0] = max(since[0], c.GetUpdatedTime())
		}
		groups := ask[*pb.IMNormalGroupListRsp](p, 2, pb.IMNormalGroupListReq_builder{
			UserId: proto.Uint32(1), LatestUpdateTime: &since[1]}.Build())
		since[1] = groups.GetLatestUpdateTime()
		departs := ask[*pb.IMDepartmentRsp](p, 3, pb.IMDepartmentReq_builder{
			UserId: proto.Uint32(1), LatestUpdateTime: &since[2]}.Build())
		since[2] = departs.GetLatestUpdateTime()
		if s, g, d := len(sessions), len(groups.GetGroupVersionList()),
			len(departs.GetDeptList()); s != want || g != want || d != want {
			t.Errorf("%s: %d conversations, %d groups, %d departments; want %d of each", what, s,
				g, d, want)
		}
	}
	for i, off := range []time.Duration{0, -time.Hour, time.Hour, -5 * time.Second, 0} {
		pass(off)
		ask[*pb.MsgData](p, 4, text(uint32(2+i), 1, "x"))
		makeGroup(p, 1, normal, 1)
		if _, err := h.store.CreateDepart(t.Context(), im.Depart{Name: off.String() +
			fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		pass(off)
		round(fmt.Sprintf("off by %v", off), 1)
		pass(off)
		round(fmt.Sprintf("off by %v, again", off), 0)
	}
}

// TestRemoveSession: a removed conversation disappears from one user's list, with its
// unread count, and reappears with its next message.
func TestRemoveSession(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	g := makeGroup(p, 1, temporary, 1, 2)
	remove := func(user uint32, typ pb.SessionType, peer uint32) uint32 {
		t.Helper()
		rsp := ask[*pb.IMRemoveSessionRsp](p, 1,
			pb.IMRemoveSessionReq_builder{UserId: &user, SessionType: typ.Enum(), SessionId: &peer,
				AttachData: []byte("x")}.Build())
		if rsp.GetUserId() != user || rsp.GetSessionId() != peer || rsp.GetSessionType() != typ ||
			string(rsp.GetAttachData()) != "x" {
			t.Errorf("answer %v", rsp)
		}
		return rsp.GetResultCode()
	}
	state := func(user uint32) string { // sessions and unread counts
		t.Helper()
		s := ""
		req := pb.IMRecentContactSessionReq_builder{UserId: &user,
			LatestUpdateTime: proto.Uint32(0)}.Build()
		for _, c := range ask[*pb.IMRecentContactSessionRsp](p, 2, req).GetContactSessionList() {
			s += fmt.Sprintf("%d/%d ", c.GetSessionType().Number(), c.GetSessionId())
		}
		return fmt.Sprint(s, ask[*pb.IMUnreadMsgCntRsp](p, 3, unreadOf(user)).GetTotalCnt())
	}
	expect := func(user uint32, want string) {
		t.Helper()
		if got := state(user); got != want {
			t.Errorf("user %d: %s, want %s", user, got, want)
		}
	}
	ask[*pb.MsgData](p, 4, text(1, 2, "a"))
	h.clock.Add(time.Second)
	ask[*pb.MsgData](p, 5, groupText(1, g, "b"))
	expect(2, "2/1 1/1 2")
	if code := remove(2, single, 1); code != 0 {
		t.Errorf("result %d", code)
	}
	expect(2, "2/1 1")
	expect(1, "2/1 1/2 0")
	if code := remove(2, group, g); code != 0 {
		t.Errorf("result %d", code)
	}
	expect(2, "0")
	for _, code := range []uint32{remove(2, single, 3), remove(2, group, 99999),
		remove(3, group, g)} {
		if code != 1 {
			t.Errorf("result %d for an unknown conversation", code)
		}
	}
	ask[*pb.MsgData](p, 6, text(1, 2, "c"))
	expect(2, "1/1 1")
}

// TestUsersInfoLimit: of more ids than the limit, the first ones are answered.
func TestUsersInfoLimit(t *testing.T) {
	h := open(t, options{users: 1001})
	ids := make([]uint32, 1001)
	for i := range ids {
		ids[i] = uint32(1001 - i)
	}
	info := ask[*pb.IMUsersInfoRsp](h.dial(), 2,
		pb.IMUsersInfoReq_builder{UserId: proto.Uint32(1), UserIdList: ids}.Build())
	if n := len(info.GetUserInfoList()); n != 1000 || info.GetUserInfoList()[0].GetUserId() != 2 {
		t.Errorf("%d users", n)
	}
}
