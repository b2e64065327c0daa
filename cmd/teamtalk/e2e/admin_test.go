//go:build linux

package e2e

import (
	"strings"
	"testing"

	"teamtalk/proto/pb"
)

// TestShellBesideServers changes groups, departments and users with the commands while
// servers and clients run. The servers apply changes of members to the next message, and
// other changes within a second.
func TestShellBesideServers(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		s := &shell{t: t, sys: sys}
		s.a, s.alice = loggedIn(t, sys.msgAddr[0], "u00001", android)
		s.b, s.bob = loggedIn(t, sys.msgAddr[1], "u00002", android)
		s.c, s.carol = loggedIn(t, sys.msgAddr[1], "u00003", android)
		s.members()
		s.rename()
		s.department()
		s.nick()
		s.dissolve()
	})
}

// shell has the clients of TestShellBesideServers: a is that of alice, b of bob, c of
// carol.
type shell struct {
	t                 *testing.T
	sys               *deployment
	a, b, c           *wire
	alice, bob, carol uint32
}

// run runs a command on the store of the servers.
func (s *shell) run(args ...string) {
	s.t.Helper()
	mustRun(s.t, append(args, s.sys.store...)...)
}

// members creates the group 1, and adds and removes members between messages.
func (s *shell) members() {
	s.run("group", "create", "G", "u00001", "u00002")
	s.a.send(2, groupText(1, "one"))
	s.a.groupAck(2, 1, 1)
	s.b.hearGroup(s.alice, 1, 1, "one")
	s.run("group", "add", "G", "u00003")
	s.b.send(2, groupText(1, "two"))
	s.b.groupAck(2, 1, 2)
	s.a.hearGroup(s.bob, 1, 2, "two")
	s.c.hearGroup(s.bob, 1, 2, "two")
	s.run("group", "remove", "G", "u00002")
	s.c.send(2, groupText(1, "three"))
	s.c.groupAck(2, 1, 3)
	s.a.hearGroup(s.carol, 1, 3, "three")
	s.b.send(3, groupText(1, "not a member"))
	s.b.alive()
	s.c.send(3, groupText(1, "four"))
	s.c.groupAck(3, 1, 4) // the server did not store the message of bob
	s.a.hearGroup(s.carol, 1, 4, "four")
	s.b.alive() // neither an ack nor the message
}

// rename renames the group. alice receives the new name with the next request.
func (s *shell) rename() {
	s.run("group", "rename", "G", "H")
	known := pb.GroupVersionInfo_builder{GroupId: new(uint32(1)), Version: new(uint32(3))}.Build()
	s.a.send(3, pb.IMGroupInfoListReq_builder{
		UserId: new(s.alice), GroupVersionList: []*pb.GroupVersionInfo{known},
	}.Build())
	info := &pb.IMGroupInfoListRsp{}
	s.a.expectSeq(3, info)
	list := info.GetGroupInfoList()
	if len(list) != 1 || list[0].GetGroupName() != "H" || list[0].GetVersion() != 4 {
		s.t.Errorf("groups newer than version 3: %v", list)
	}
}

// department adds a department with bob. It cannot be deleted while it has a user.
func (s *shell) department() {
	s.run("depart", "add", "Sales")
	s.run("user", "set", "u00002", "--department", "Sales", "--sign", "selling")
	until(s.t, "the department in an answer", func() bool {
		s.a.send(4, pb.IMDepartmentReq_builder{
			UserId: new(s.alice), LatestUpdateTime: new(uint32(0)),
		}.Build())
		departs := &pb.IMDepartmentRsp{}
		s.a.expectSeq(4, departs)
		list := departs.GetDeptList()
		return len(list) == 1 && list[0].GetDeptName() == "Sales"
	})
	until(s.t, "the department of bob in an answer", func() bool {
		s.a.send(5, pb.IMAllUserReq_builder{
			UserId: new(s.alice), LatestUpdateTime: new(uint32(0)),
		}.Build())
		all := &pb.IMAllUserRsp{}
		s.a.expectSeq(5, all)
		for _, u := range all.GetUserList() {
			if u.GetUserId() == s.bob {
				return u.GetDepartmentId() == 1 && u.GetSignInfo() == "selling"
			}
		}
		return false
	})
	code, _, errOut := command(s.t, append([]string{"depart", "delete", "Sales"},
		s.sys.store...)...)
	if code != 1 || !strings.Contains(errOut, "has users in it: 1") {
		s.t.Errorf("deleted a department with a user: exit code %d, %s", code, errOut)
	}
}

// nick gives bob another nick, which alice sees with the next synchronisation.
func (s *shell) nick() {
	s.run("user", "set", "u00002", "--nick", "Robert", "--phone", "110")
	until(s.t, "the nick of bob in an answer", func() bool {
		s.a.send(6, pb.IMAllUserReq_builder{
			UserId: new(s.alice), LatestUpdateTime: new(uint32(0)),
		}.Build())
		all := &pb.IMAllUserRsp{}
		s.a.expectSeq(6, all)
		for _, u := range all.GetUserList() {
			if u.GetUserId() == s.bob {
				return u.GetUserNickName() == "Robert" && u.GetUserTel() == "110"
			}
		}
		return false
	})
}

// dissolve removes all members of the group. The next message is refused.
func (s *shell) dissolve() {
	s.run("group", "dissolve", "H")
	s.c.send(7, groupText(1, "to nobody"))
	s.c.alive() // no ack
	s.a.alive() // no message
}

// groupText returns a message to a group. The server sets the sender.
func groupText(group uint32, body string) *pb.MsgData {
	return &pb.MsgData{ToSessionID: group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte(body)}
}

// groupAck reads the next frame, which must be the ack of a message to a group.
func (w *wire) groupAck(seq uint16, group, id uint32) {
	w.t.Helper()
	ack := &pb.IMMsgDataAck{}
	w.expectSeq(seq, ack)
	if ack.GetSessionId() != group || ack.GetMsgId() != id ||
		ack.GetSessionType() != pb.SessionType_SESSION_TYPE_GROUP {
		w.t.Fatalf("ack names session %d, id %d, type %v; want group %d, id %d", ack.GetSessionId(),
			ack.GetMsgId(), ack.GetSessionType(), group, id)
	}
}

// hearGroup reads the next frame, which must be a text to a group.
func (w *wire) hearGroup(from, group, id uint32, body string) {
	w.t.Helper()
	m := &pb.MsgData{}
	w.expectSeq(0, m)
	if m.FromUserID != from || m.ToSessionID != group || m.MsgID != id || string(m.Data) != body ||
		m.Type != pb.MsgType_MSG_TYPE_GROUP_TEXT {
		w.t.Fatalf("got message %d of %d to %d %q, want %d of %d to group %d %q", m.MsgID,
			m.FromUserID, m.ToSessionID, m.Data, id, from, group, body)
	}
}
