package client

import (
	"bytes"
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

// group returns the peer of a group.
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
				out = append(out, fmt.Sprintf("%s by %d +%v -%v =%v",
					e.Group.Name, e.By, e.Added, e.Removed, e.Group.Members))
			}
		case Received:
			if e.Peer == group(id) {
				out = append(out, fmt.Sprint(e.Message.ID))
			}
		}
	}
	return out
}

// TestGroupEventsOfEveryMember creates a group, changes its members and sends messages.
// It compares the events of the creator, of a first member, and of a member that is added
// and leaves.
func TestGroupEventsOfEveryMember(t *testing.T) {
	s := newGroupServer(t)
	a, b, c := open(t, s, "alice", nil), open(t, s, "bob", nil), open(t, s, "carol", nil)
	g := createTeam(t, a)
	a.sendGroup(g.ID, "one")
	a.sendGroup(g.ID, "two")
	waitFor[Received](b, 2)
	addCarol(t, b, g.ID)
	waitFor[GroupChanged](a, 2)
	waitFor[GroupChanged](c, 1)
	if _, err := c.Groups.ChangeMembers(t.Context(), g.ID, del,
		[]uint32{bob}); im.KindOf(err) != im.Denied {
		t.Errorf("carol removes bob: %v", err)
	}
	a.sendGroup(g.ID, "three")
	waitFor[Received](b, 3)
	waitFor[Received](c, 1)
	if _, err := c.Groups.ChangeMembers(t.Context(), g.ID, del, []uint32{carol}); err != nil {
		t.Errorf("carol leaves: %v", err)
	}
	waitFor[GroupChanged](a, 3)
	waitFor[GroupChanged](b, 3)
	waitFor[GroupChanged](c, 2)
	const (
		created = "the dev team by 1 +[1 2] -[] =[1 2]"
		found   = "the dev team by 0 +[] -[] =[1 2]"
		joined  = "the dev team by 2 +[3] -[] =[1 2 3]"
		left    = "the dev team by 3 +[] -[3] =[1 2]"
	)
	equal(t, "alice", a.order(g.ID), []string{created, joined, left})
	equal(t, "bob", b.order(g.ID), []string{found, "1", "2", joined, "3", left})
	equal(t, "carol", c.order(g.ID), []string{joined, "3", left})
	if got, ok := c.Groups.Get(g.ID); !ok || got.Has(carol) || !got.Has(bob) {
		t.Errorf("carol's group %+v", got)
	}
	wantGroupAcks(t, s, g.ID)
}

// createTeam creates a group of alice and bob.
func createTeam(t *testing.T, a *person) Group {
	t.Helper()
	g, err := a.Groups.Create(t.Context(), "the dev team", "", []uint32{bob, bob})
	if err != nil || g.Name != "the dev team" || g.Creator != alice ||
		g.Type != pb.GroupType_GROUP_TYPE_TMP || !slices.Equal(g.Members, []uint32{alice, bob}) {
		t.Fatalf("created %+v, %v", g, err)
	}
	return g
}

// addCarol adds carol to a group of alice and bob, and alice again.
func addCarol(t *testing.T, b *person, id uint32) {
	t.Helper()
	change, err := b.Groups.ChangeMembers(t.Context(), id, add, []uint32{carol, alice})
	if err != nil || !slices.Equal(change.Changed, []uint32{carol}) ||
		!slices.Equal(change.Current, []uint32{alice, bob, carol}) {
		t.Errorf("change %+v, %v", change, err)
	}
}

// wantGroupAcks checks that every recipient's ack names the group.
func wantGroupAcks(t *testing.T, s *clienttest.Server, id uint32) {
	t.Helper()
	for _, f := range s.Frames(pb.CmdMsgDataAck) {
		var ack pb.IMMsgDataAck
		err := ack.ParseBody(f.Body)
		if err != nil || ack.GetSessionType() != pb.SessionType_SESSION_TYPE_GROUP ||
			ack.GetSessionId() != id {
			t.Errorf("ack of user %d: %v, %v", f.User, &ack, err)
		}
	}
}

func TestGroupChangesAreChecked(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", nil)
	for _, name := range []string{"", string(bytes.Repeat([]byte("x"), im.MaxGroupName+1))} {
		if _, err := a.Groups.Create(t.Context(), name, "", nil); im.KindOf(err) != im.Invalid {
			t.Errorf("name of %d: %v", len(name), err)
		}
	}
	_, err := a.Groups.ChangeMembers(t.Context(), 77, add, []uint32{bob})
	if im.KindOf(err) != im.Denied {
		t.Errorf("no such group: %v", err)
	}
	many := make([]uint32, im.MaxGroupMembers+1)
	if _, err := a.Groups.ChangeMembers(t.Context(), 77, add, many); im.KindOf(err) != im.Invalid {
		t.Errorf("too many: %v", err)
	}
	equal(t, "groups", len(a.Groups.All()), 0)
}

// openInGroups returns alice's Client of a server with the normal group 5 and the
// temporary group 6, which has a message. She is not in group 7.
func openInGroups(t *testing.T) *person {
	s := newGroupServer(t)
	s.AddGroup(5, "company", pb.GroupType_GROUP_TYPE_NORMAL, alice, bob, carol)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	s.AddGroup(7, "others", pb.GroupType_GROUP_TYPE_NORMAL, bob, carol)
	s.StoreGroup(bob, 6, body(t, "pizza?"))
	return open(t, s, "alice", nil)
}

// TestReadyListsGroups finds normal groups in their list and temporary ones in the
// conversations.
func TestReadyListsGroups(t *testing.T) {
	ready := waitFor[Ready](openInGroups(t), 1)[0]
	var names []string
	for _, g := range ready.Groups {
		names = append(names, g.Name)
	}
	equal(t, "groups", names, []string{"company", "lunch"})
	if len(ready.Unread) != 1 || ready.Unread[0].Peer != 6 || ready.Unread[0].Count != 1 ||
		ready.Unread[0].Type != pb.SessionType_SESSION_TYPE_GROUP {
		t.Errorf("unread %+v", ready.Unread)
	}
}

func TestRequestsForGroups(t *testing.T) {
	a := openInGroups(t)
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
}

func TestShieldGroup(t *testing.T) {
	a := openInGroups(t)
	if err := a.Groups.Shield(t.Context(), 6, true); err != nil {
		t.Error(err)
	}
	infos, err := GroupInfos(t.Context(), a, []im.GroupVersion{{ID: 6}})
	if err != nil || !infos[0].Shield {
		t.Errorf("infos %+v, %v", infos, err)
	}
	if g, _ := a.Groups.Get(6); !g.Shield {
		t.Error("the Client does not know the shield")
	}
}

// TestRefreshGroupsFindsNewGroup finds a group that an administrator created. Unchanged
// groups are not reported again.
func TestRefreshGroupsFindsNewGroup(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(5, "company", pb.GroupType_GROUP_TYPE_NORMAL, alice, bob)
	a := open(t, s, "alice", nil)
	s.AddGroup(6, "staff", pb.GroupType_GROUP_TYPE_NORMAL, bob, alice)
	for range 2 {
		if err := a.Groups.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	waitFor[GroupChanged](a, 1)
	equal(t, "changes", fmt.Sprint(a.order(5), a.order(6)), "[] [staff by 0 +[] -[] =[1 2]]")
}

// TestReconnectReportsGroupChanges misses messages, changes of members and a new group.
// After the reconnect each is reported once, and nothing else.
func TestReconnectReportsGroupChanges(t *testing.T) {
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

// TestNewMemberSeesMessagesSinceJoining also checks a member that joins again: the Client
// does not wait for messages from between.
func TestNewMemberSeesMessagesSinceJoining(t *testing.T) {
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

// TestGroupMessageIsStoredOnceAfterLostAck loses the ack with the connection. The server
// deduplicates the message by its client_msg_id.
func TestGroupMessageIsStoredOnceAfterLostAck(t *testing.T) {
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

// TestMessagesOfUnknownGroupAreReported checks a group that the server does not describe,
// and one whose request it does not answer.
func TestMessagesOfUnknownGroupAreReported(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", func(o *Options) { o.SyncTimeout = 20 * time.Millisecond })
	m := im.Message{ID: 1, From: bob, To: 99, Created: 1, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT,
		Data: body(t, "x")}
	s.Push(alice, m) // answered: there is no such group
	waitFor[Received](a, 1)
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdGroupInfoListReq })
	m.To = 98
	s.Push(alice, m) // not answered
	waitFor[Received](a, 2)
	s.AddGroup(97, "late", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	s.ChangeGroup(bob, 97, add, carol)
	s.WaitFrames(pb.CmdGroupInfoListReq, 3)
	s.Filter(nil)
	s.Drop(alice) // requested again on the next connection
	waitFor[GroupChanged](a, 2)
	if g, ok := a.Groups.Get(97); !ok || g.Name != "late" ||
		!slices.Equal(g.Members, []uint32{alice, bob, carol}) {
		t.Errorf("group %+v, %t", g, ok)
	}
	equal(t, "asked", len(waitFor[GroupChanged](a, 1)[0].Group.Members), 3)
}

// TestFormerMemberCannotSend also checks that a message makes the user a member again for
// the Client.
func TestFormerMemberCannotSend(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	a := open(t, s, "alice", nil)
	s.Push(alice, s.StoreGroup(bob, 6, body(t, "one")))
	waitFor[Received](a, 1)
	s.PushFrame(alice, pb.IMGroupChangeMemberNotify_builder{
		UserId: new(bob), ChangeType: del.Enum(), GroupId: new(uint32(6)),
		CurUserIdList: []uint32{bob}, ChgUserIdList: []uint32{alice},
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

// TestHeldEventsStayInOrder lets a list of groups bring the name of a group while its first
// message waits for the answer to another request. The next message does not overtake it.
func TestHeldEventsStayInOrder(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", nil)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_NORMAL, bob, alice)
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdGroupInfoListReq })
	s.Push(alice, s.StoreGroup(bob, 6, body(t, "one")))
	s.WaitFrames(pb.CmdGroupInfoListReq, 1) // not answered
	s.Filter(nil)
	if err := a.Groups.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Push(alice, s.StoreGroup(bob, 6, body(t, "two")))
	if got := ids(waitFor[Received](a, 2)); !slices.IsSorted(got) {
		t.Errorf("received %v", got)
	}
}

// TestHeldEventsAreBounded receives more messages of a group without a name than are
// held.
func TestHeldEventsAreBounded(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", nil)
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdGroupInfoListReq })
	const n = 2*maxHeldEvents + 3
	for i := range uint32(n) {
		s.Push(alice, im.Message{ID: i + 1, From: bob, To: 99, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT,
			Data: body(t, "x")})
	}
	got := ids(waitFor[Received](a, n))
	if !slices.IsSorted(got) || len(got) != n {
		t.Errorf("received %v", got)
	}
	// The answer shows that the server has received all earlier requests.
	if _, err := ServerTime(t.Context(), a); err != nil {
		t.Error(err)
	}
	equal(t, "questions", len(s.Frames(pb.CmdGroupInfoListReq)), 1)
}

// TestNotifyIsNewerThanAnswer receives a notify while the group's description is
// requested.
func TestNotifyIsNewerThanAnswer(t *testing.T) {
	s := newGroupServer(t)
	s.AddGroup(6, "lunch", pb.GroupType_GROUP_TYPE_TMP, bob, alice)
	a := open(t, s, "alice", nil)
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdGroupInfoListReq })
	s.ChangeGroup(bob, 6, add, dave)
	asked := s.WaitFrames(pb.CmdGroupInfoListReq, 1)[0]
	s.ChangeGroup(bob, 6, add, carol)
	s.Filter(nil)
	old, err := pdu.Append(nil, asked.Seq,
		pb.IMGroupInfoListRsp_builder{UserId: new(alice),
			GroupInfoList: []*pb.GroupInfo{pb.GroupInfo_builder{
				GroupId: new(uint32(6)), Version: new(uint32(2)), GroupName: new("lunch"),
				GroupAvatar: new(""), GroupCreatorId: new(bob),
				GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), ShieldStatus: new(uint32(0)),
				GroupMemberList: []uint32{alice, bob, dave},
			}.Build()}}.Build())
	if err != nil {
		t.Fatal(err)
	}
	s.PushRaw(alice, old)
	waitFor[GroupChanged](a, 2)
	equal(t, "changes", a.order(6), []string{"lunch by 2 +[4] -[] =[1 2 4]",
		"lunch by 2 +[3] -[] =[1 2 3 4]"})
	g, _ := a.Groups.Get(6)
	equal(t, "members", g.Members, []uint32{alice, bob, carol, dave})
}
