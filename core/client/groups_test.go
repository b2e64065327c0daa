package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

const (
	carol uint32 = 3
	dave  uint32 = 4

	add = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	del = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
)

func newGroupServer(t testing.TB) *clienttest.Server {
	s := newServer(t)
	s.AddUser(carol, "carol")
	s.AddUser(dave, "dave")
	return s
}

// group is the peer of a group.
func group(id uint32) Peer { return Peer{ID: id, Group: true} }

func (p *person) sendGroup(id uint32, text string) uint64 {
	p.t.Helper()
	n, err := p.Send(group(id), text)
	if err != nil {
		p.t.Fatalf("send: %v", err)
	}
	return n
}

// order returns the kinds of the events about a group, in order.
func (p *person) order(id uint32) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.events {
		switch e := e.(type) {
		case GroupChanged:
			if e.Group.ID == id {
				out = append(out, fmt.Sprintf("%s by %d +%v -%v =%v", e.Group.Name, e.By, e.Added, e.Removed, e.Group.Members))
			}
		case Received:
			if e.Peer == group(id) {
				out = append(out, fmt.Sprint(e.Message.ID))
			}
		}
	}
	return out
}

// A group's life, seen by who makes it, who finds itself in it, and who is added and leaves.
func TestClientGroup(t *testing.T) {
	s := newGroupServer(t)
	a, b, c := open(t, s, "alice", nil), open(t, s, "bob", nil), open(t, s, "carol", nil)
	g, err := a.CreateGroup(t.Context(), "the dev team", "", []uint32{bob, bob})
	if err != nil || g.Name != "the dev team" || g.Creator != alice || g.Type != pb.GroupType_GROUP_TYPE_TMP || !slices.Equal(g.Members, []uint32{alice, bob}) {
		t.Fatalf("created %+v, %v", g, err)
	}
	a.sendGroup(g.ID, "one")
	a.sendGroup(g.ID, "two")
	waitFor[Received](b, 2)
	change, err := b.ChangeMembers(t.Context(), g.ID, add, []uint32{carol, alice})
	if err != nil || !slices.Equal(change.Changed, []uint32{carol}) || !slices.Equal(change.Current, []uint32{alice, bob, carol}) {
		t.Errorf("change %+v, %v", change, err)
	}
	waitFor[GroupChanged](a, 2)
	waitFor[GroupChanged](c, 1)
	if _, err := c.ChangeMembers(t.Context(), g.ID, del, []uint32{bob}); im.KindOf(err) != im.Denied {
		t.Errorf("carol takes bob out: %v", err)
	}
	a.sendGroup(g.ID, "three")
	waitFor[Received](b, 3)
	waitFor[Received](c, 1)
	if _, err := c.ChangeMembers(t.Context(), g.ID, del, []uint32{carol}); err != nil {
		t.Errorf("carol leaves: %v", err)
	}
	waitFor[GroupChanged](a, 3)
	waitFor[GroupChanged](b, 3)
	waitFor[GroupChanged](c, 2)
	equal(t, "alice", a.order(g.ID), []string{
		"the dev team by 1 +[1 2] -[] =[1 2]", "the dev team by 2 +[3] -[] =[1 2 3]", "the dev team by 3 +[] -[3] =[1 2]",
	})
	equal(t, "bob", b.order(g.ID), []string{
		"the dev team by 0 +[] -[] =[1 2]", "1", "2", "the dev team by 2 +[3] -[] =[1 2 3]", "3", "the dev team by 3 +[] -[3] =[1 2]",
	})
	equal(t, "carol", c.order(g.ID), []string{"the dev team by 2 +[3] -[] =[1 2 3]", "3", "the dev team by 3 +[] -[3] =[1 2]"})
	if got, ok := c.Group(g.ID); !ok || got.Has(carol) || !got.Has(bob) {
		t.Errorf("carol's group %+v", got)
	}
	for _, f := range s.Frames(pb.CmdMsgDataAck) {
		var ack pb.IMMsgDataAck
		if err := ack.ParseBody(f.Body); err != nil || ack.GetSessionType() != pb.SessionType_SESSION_TYPE_GROUP || ack.GetSessionId() != g.ID {
			t.Errorf("ack of user %d: %v, %v", f.User, &ack, err)
		}
	}
}

func TestClientGroupRefuses(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", nil)
	for _, name := range []string{"", string(bytes.Repeat([]byte("x"), im.MaxGroupName+1))} {
		if _, err := a.CreateGroup(t.Context(), name, "", nil); im.KindOf(err) != im.Invalid {
			t.Errorf("name of %d: %v", len(name), err)
		}
	}
	if _, err := a.ChangeMembers(t.Context(), 77, add, []uint32{bob}); im.KindOf(err) != im.Denied {
		t.Errorf("no such group: %v", err)
	}
	if _, err := a.ChangeMembers(t.Context(), 77, add, make([]uint32, im.MaxGroupMembers+1)); im.KindOf(err) != im.Invalid {
		t.Errorf("too many: %v", err)
	}
	equal(t, "groups", len(a.Groups()), 0)
}

// What groups there are is known when Ready comes: normal ones from their list, temporary ones from the conversations.
func TestClientGroupsAtLogin(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(5, "company", pb.GroupType_GROUP_TYPE_NORMAL, alice, bob, carol)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	s.AddGroup(7, "others", pb.GroupType_GROUP_TYPE_NORMAL, bob, carol)
	s.StoreGroup(bob, 6, body(t, "pizza?"))
	a := open(t, s, "alice", nil)
	ready := waitFor[Ready](a, 1)[0]
	var names []string
	for _, g := range ready.Groups {
		names = append(names, g.Name)
	}
	equal(t, "groups", names, []string{"company", "lunch"})
	if len(ready.Unread) != 1 || ready.Unread[0].Type != pb.SessionType_SESSION_TYPE_GROUP || ready.Unread[0].Peer != 6 || ready.Unread[0].Count != 1 {
		t.Errorf("unread %+v", ready.Unread)
	}
	history, err := History(t.Context(), a, group(6), 0, 10)
	if err != nil || len(history) != 1 || history[0].To != 6 || history[0].From != bob {
		t.Errorf("history %+v, %v", history, err)
	}
	normal, err := NormalGroups(t.Context(), a)
	if err != nil || len(normal) != 1 || normal[0] != (im.GroupVersion{ID: 5, Version: 1}) {
		t.Errorf("normal groups %v, %v", normal, err)
	}
	infos, err := GroupInfos(t.Context(), a, []im.GroupVersion{{ID: 5, Version: 1}, {ID: 6}})
	if err != nil || len(infos) != 1 || infos[0].Name != "lunch" {
		t.Errorf("infos %+v, %v", infos, err)
	}
	if err := a.ShieldGroup(t.Context(), 6, true); err != nil {
		t.Error(err)
	}
	if infos, err = GroupInfos(t.Context(), a, []im.GroupVersion{{ID: 6}}); err != nil || !infos[0].Shield {
		t.Errorf("infos %+v, %v", infos, err)
	}
	if g, _ := a.Group(6); !g.Shield {
		t.Error("the Client does not know the shield")
	}
}

// A group that an administrator made is found when asked for; what has not changed is not told again.
func TestClientRefreshGroups(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(5, "company", pb.GroupType_GROUP_TYPE_NORMAL, alice, bob)
	a := open(t, s, "alice", nil)
	s.AddGroup(6, "staff", pb.GroupType_GROUP_TYPE_NORMAL, bob, alice)
	for range 2 {
		if err := a.RefreshGroups(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	waitFor[GroupChanged](a, 1)
	equal(t, "changes", fmt.Sprint(a.order(5), a.order(6)), "[] [staff by 0 +[] -[] =[1 2]]")
}

// While the connection is lost: messages, changes of members, a new group. All is told afterwards, each message once, nothing but what changed.
func TestClientGroupReconnect(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(5, "company", pb.GroupType_GROUP_TYPE_NORMAL, alice, bob, carol)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	s.StoreGroup(bob, 6, body(t, "1"))
	a := open(t, s, "alice", nil)
	s.Crash()
	waitFor[Disconnected](a, 1)
	id := a.sendGroup(6, "mine")
	s.StoreGroup(bob, 6, body(t, "2"))
	s.StoreGroup(bob, 6, body(t, "3"))
	s.ChangeGroup(bob, 6, add, carol)
	s.AddGroup(8, "new", pb.GroupType_GROUP_TYPE_NORMAL, bob, alice)
	s.StoreGroup(bob, 8, body(t, "welcome"))
	s.Listen()
	got := waitFor[Received](a, 3)
	if ack := waitFor[Acked](a, 1)[0]; ack != (Acked{ID: id, Peer: group(6), MsgID: 4}) {
		t.Errorf("ack %+v", ack)
	}
	slices.SortStableFunc(got, func(x, y Received) int { return int(x.Peer.ID) - int(y.Peer.ID) })
	equal(t, "texts", a.texts(got), []string{"2", "3", "welcome"})
	equal(t, "changes", fmt.Sprint(a.order(5), a.order(6), a.order(8)),
		"[] [lunch by 0 +[] -[] =[1 2 3] 2 3] [new by 0 +[] -[] =[1 2] 1]")
}

// Who joins sees what comes from then on; who joins again is not kept waiting for what was said in between.
func TestClientGroupJoin(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, carol)
	for range 3 {
		s.StoreGroup(bob, 6, body(t, "before"))
	}
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	s.ChangeGroup(bob, 6, add, alice)
	b.sendGroup(6, "hello alice")
	equal(t, "received", ids(waitFor[Received](a, 1)), []uint32{4})
	s.ChangeGroup(bob, 6, del, alice)
	waitFor[GroupChanged](a, 2)
	for range 3 {
		b.sendGroup(6, "without her")
	}
	waitFor[Acked](b, 4)
	s.ChangeGroup(bob, 6, add, alice)
	b.sendGroup(6, "back again")
	equal(t, "received", ids(waitFor[Received](a, 2)), []uint32{4, 8})
	if _, err := a.Send(group(6), "thanks"); err != nil {
		t.Error(err)
	}
	equal(t, "ack", waitFor[Acked](a, 1)[0].MsgID, 9)
}

// The ack is lost with the connection: the message is known again by its client_msg_id.
func TestClientGroupResend(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(1, "ids like those of users", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	s.MuteAcks(true)
	id := a.sendGroup(1, "once")
	waitFor[Received](b, 1)
	s.MuteAcks(false)
	s.Drop(alice)
	if ack := waitFor[Acked](a, 1)[0]; ack.ID != id || ack.MsgID != 1 {
		t.Errorf("ack %+v", ack)
	}
	equal(t, "stored", len(s.StoredGroup(1)), 1)
	equal(t, "own copy", len(all[Received](a)), 0)
}

// A group that the server says nothing of: its messages come all the same.
func TestClientGroupUnknown(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", func(o *Options) { o.SyncTimeout = 20 * time.Millisecond })
	m := im.Message{ID: 1, From: bob, To: 99, Created: 1, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: body(t, "x")}
	s.Push(alice, m) // answered: there is none
	waitFor[Received](a, 1)
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdGroupInfoListReq })
	m.To = 98
	s.Push(alice, m) // not answered
	waitFor[Received](a, 2)
	s.AddGroup(97, "late", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	s.ChangeGroup(bob, 97, add, carol)
	s.WaitFrames(pb.CmdGroupInfoListReq, 3)
	s.Filter(nil)
	s.Drop(alice) // asked for again with the next connection
	waitFor[GroupChanged](a, 2)
	if g, ok := a.Group(97); !ok || g.Name != "late" || !slices.Equal(g.Members, []uint32{alice, bob, carol}) {
		t.Errorf("group %+v, %t", g, ok)
	}
	equal(t, "asked", len(waitFor[GroupChanged](a, 1)[0].Group.Members), 3)
}

// Who has left does not send; who gets a message is in, whatever was heard before.
func TestClientGroupLeft(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	a := open(t, s, "alice", nil)
	s.Push(alice, s.StoreGroup(bob, 6, body(t, "one")))
	waitFor[Received](a, 1)
	s.PushFrame(alice, pb.IMGroupChangeMemberNotify_builder{
		UserId: new(bob), ChangeType: del.Enum(), GroupId: new(uint32(6)), CurUserIdList: []uint32{bob}, ChgUserIdList: []uint32{alice},
	}.Build())
	waitFor[GroupChanged](a, 2)
	if _, err := a.Send(group(6), "x"); im.KindOf(err) != im.Denied {
		t.Errorf("send after leaving: %v", err)
	}
	s.Push(alice, s.StoreGroup(bob, 6, body(t, "two")))
	if got := waitFor[GroupChanged](a, 3)[2]; !got.Group.Has(alice) || got.By != 0 {
		t.Errorf("in again: %+v", got)
	}
	a.sendGroup(6, "here I am")
	waitFor[Acked](a, 1)
}

// More messages of a group without a name than are held.
func TestClientGroupManyHeld(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", nil)
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdGroupInfoListReq })
	const n = 2*maxHeldEvents + 3
	for i := range uint32(n) {
		s.Push(alice, im.Message{ID: i + 1, From: bob, To: 99, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: body(t, "x")})
	}
	got := ids(waitFor[Received](a, n))
	if !slices.IsSorted(got) || len(got) != n {
		t.Errorf("received %v", got)
	}
	if _, err := ServerTime(t.Context(), a); err != nil { // the server has seen all that was asked before
		t.Error(err)
	}
	equal(t, "questions", len(s.Frames(pb.CmdGroupInfoListReq)), 1)
}

// A notify that comes while the group is asked for is newer than the answer may be.
func TestClientGroupNotifyMeanwhile(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	a := open(t, s, "alice", nil)
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdGroupInfoListReq })
	s.ChangeGroup(bob, 6, add, dave)
	asked := s.WaitFrames(pb.CmdGroupInfoListReq, 1)[0]
	s.ChangeGroup(bob, 6, add, carol)
	s.Filter(nil)
	old, err := pdu.Append(nil, asked.Seq, pb.IMGroupInfoListRsp_builder{UserId: new(alice), GroupInfoList: []*pb.GroupInfo{pb.GroupInfo_builder{
		GroupId: new(uint32(6)), Version: new(uint32(2)), GroupName: new("lunch"), GroupAvatar: new(""), GroupCreatorId: new(bob),
		GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), ShieldStatus: new(uint32(0)), GroupMemberList: []uint32{alice, bob, dave},
	}.Build()}}.Build())
	if err != nil {
		t.Fatal(err)
	}
	s.PushRaw(alice, old)
	waitFor[GroupChanged](a, 2)
	equal(t, "changes", a.order(6), []string{"lunch by 2 +[4] -[] =[1 2 4]", "lunch by 2 +[3] -[] =[1 2 3 4]"})
	g, _ := a.Group(6)
	equal(t, "members", g.Members, []uint32{alice, bob, carol, dave})
}

func TestClientSettings(t *testing.T) {
	s := newGroupServer(t)
	s.AddDepart(im.Depart{ID: 1, Name: "company", Updated: 10})
	s.AddDepart(im.Depart{ID: 2, Name: "kitchen", Parent: 1, Priority: 3, Updated: 20})
	s.Store(bob, alice, body(t, "x"))
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	phone := open(t, s, "alice", func(o *Options) { o.ClientType = pb.ClientType_CLIENT_TYPE_ANDROID })
	ctx := t.Context()
	departs, since, err := Departs(ctx, a, 0)
	if err != nil || since != 20 || len(departs) != 2 || departs[1] != (im.Depart{ID: 2, Name: "kitchen", Parent: 1, Priority: 3}) {
		t.Errorf("departments %+v, %d, %v", departs, since, err)
	}
	if departs, since, err = Departs(ctx, a, 20); err != nil || since != 20 || len(departs) != 1 {
		t.Errorf("departments since %+v, %d, %v", departs, since, err)
	}
	if err := SetSignInfo(ctx, a, "out to lunch"); err != nil {
		t.Error(err)
	}
	equal(t, "sign info", waitFor[SignChanged](b, 1)[0], SignChanged{alice, "out to lunch"})
	waitFor[SignChanged](a, 1)
	equal(t, "own sign info", a.User().SignInfo, "out to lunch")
	if err := SetAvatar(ctx, a, "http://x/y.png"); err != nil {
		t.Error(err)
	}
	equal(t, "avatar", waitFor[AvatarChanged](b, 1)[0], AvatarChanged{alice, "http://x/y.png"})
	users, err := UserInfos(ctx, b, []uint32{alice, 77})
	if err != nil || len(users) != 1 || users[0].SignInfo != "out to lunch" || users[0].Avatar != "http://x/y.png" {
		t.Errorf("users %+v, %v", users, err)
	}
	if err := RemoveSession(ctx, a, Peer{ID: bob}); err != nil {
		t.Error(err)
	}
	equal(t, "removed", waitFor[SessionRemoved](phone, 1)[0], SessionRemoved{Peer{ID: bob}})
	if err := RemoveSession(ctx, a, Peer{ID: bob}); im.KindOf(err) != im.Denied {
		t.Errorf("removed twice: %v", err)
	}
	for _, on := range []bool{true, false} {
		if err := SetPushShield(ctx, a, on); err != nil {
			t.Error(err)
		}
		if got, err := PushShield(ctx, a); err != nil || got != on {
			t.Errorf("push shield %t, %v", got, err)
		}
	}
	if err := SetDeviceToken(ctx, phone, pb.ClientType_CLIENT_TYPE_ANDROID, "token"); err != nil {
		t.Error(err)
	}
	s.PushFrame(alice, pb.IMPCLoginStatusNotify_builder{UserId: new(alice), LoginStat: pb.UserStatType_USER_STATUS_OFFLINE.Enum()}.Build())
	equal(t, "pc login", waitFor[PCLogin](phone, 1)[0], PCLogin{Online: false})
	if err := KickPC(ctx, phone); err != nil {
		t.Error(err)
	}
	equal(t, "kicked", waitFor[Kicked](a, 1)[0].Reason, pb.KickReasonType_KICK_REASON_MOBILE_KICK)
}

func TestClientAudio(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	for _, p := range []Peer{{ID: bob}, group(6)} {
		if _, err := a.SendAudio(p, 3, []byte("sound")); err != nil {
			t.Fatal(err)
		}
	}
	got := waitFor[Received](b, 2)
	for i, want := range []pb.MsgType{pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO} {
		m := got[i].Message
		if seconds, sound, ok := Sound(m); !ok || seconds != 3 || string(sound) != "sound" || m.Type != want {
			t.Errorf("message %+v: %d, %q, %t", m, seconds, sound, ok)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, im.MaxAudio+1)} {
		if _, err := a.SendAudio(Peer{ID: bob}, 1, bad); im.KindOf(err) != im.Invalid {
			t.Errorf("sound of %d bytes: %v", len(bad), err)
		}
	}
	for _, m := range []im.Message{{Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: []byte{0, 0, 0}}, {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("12345")}} {
		if _, _, ok := Sound(m); ok {
			t.Errorf("%+v is a sound", m)
		}
	}
}

// The queue is bounded by bytes, too: sounds are long.
func TestClientAudioBound(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", nil)
	s.Crash()
	waitFor[Disconnected](a, 1)
	sound := make([]byte, im.MaxAudio)
	n := 0
	for ; n < 100; n++ {
		if _, err := a.SendAudio(Peer{ID: bob}, 1, sound); err != nil {
			equal(t, "kind", im.KindOf(err), im.Busy)
			break
		}
	}
	equal(t, "queued", n, 63) // and four bytes each
}

func TestClientTyping(t *testing.T) {
	s := newGroupServer(t)
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	phone := open(t, s, "alice", func(o *Options) { o.ClientType = pb.ClientType_CLIENT_TYPE_ANDROID })
	for _, on := range []bool{true, false} {
		if err := a.SendTyping(bob, on); err != nil {
			t.Error(err)
		}
	}
	equal(t, "typing", waitFor[Typing](b, 2), []Typing{{alice, true}, {alice, false}})
	if err := a.SendCommand(bob, "nudge"); err != nil {
		t.Error(err)
	}
	equal(t, "command", waitFor[Command](b, 1)[0], Command{alice, bob, "nudge"})
	waitFor[Command](phone, 1)
	equal(t, "typing on one's own phone", len(all[Typing](phone)), 0)
	if err := a.SendCommand(bob, string(make([]byte, maxCommand+1))); im.KindOf(err) != im.Invalid {
		t.Errorf("long command: %v", err)
	}
	s.Crash()
	waitFor[Disconnected](a, 1)
	if err := a.SendTyping(bob, true); im.KindOf(err) != im.Unavailable {
		t.Errorf("without a connection: %v", err)
	}
}

func TestTyping(t *testing.T) {
	for data, want := range map[string][2]bool{
		`typing`: {true, true},
		`{"service_id":1,"cmd_id":131073,"content":"writing"}`: {true, true},
		`{"content":"x","cmd_id":131074,"service_id":1}`:       {false, true},
		`{"service_id":1,"cmd_id":65537,"content":"judge 1"}`:  {false, false},
		`{"service_id":2,"cmd_id":131073,"content":"writing"}`: {false, false},
		`{"service_id":"1","cmd_id":131073}`:                   {false, false}, ``: {false, false}, `[]`: {false, false},
	} {
		if on, ok := typing(data); on != want[0] || ok != want[1] {
			t.Errorf("typing(%s) = %t, %t", data, on, ok)
		}
	}
}

func FuzzTyping(f *testing.F) {
	f.Add("typing")
	f.Add(`{"service_id":1,"cmd_id":131073,"content":"writing"}`)
	f.Fuzz(func(t *testing.T, data string) {
		if on, ok := typing(data); on && !ok || ok && data != "typing" && !json.Valid([]byte(data)) {
			t.Errorf("typing(%q) = %t, %t", data, on, ok)
		}
	})
}
