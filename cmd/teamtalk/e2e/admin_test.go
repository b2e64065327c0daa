//go:build linux

package e2e

import (
	"strings"
	"testing"

	"teamtalk/proto/pb"
)

// TestShellBesideServers changes groups, departments and users from the shell while the servers run and people are connected: the servers go by it,
// members with the next message, the directory within a second.
func TestShellBesideServers(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		shell := func(args ...string) string {
			t.Helper()
			return mustRun(t, append(args, sys.store...)...)
		}
		phone := pb.ClientType_CLIENT_TYPE_ANDROID
		a, alice := loggedIn(t, sys.msgAddr[0], "u00001", phone)
		b, bob := loggedIn(t, sys.msgAddr[1], "u00002", phone)
		c, carol := loggedIn(t, sys.msgAddr[1], "u00003", phone)

		shell("group", "create", "G", "u00001", "u00002")
		a.send(2, groupText(1, "one"))
		a.groupAck(2, 1, 1)
		b.hearGroup(alice, 1, 1, "one")
		shell("group", "add", "G", "u00003")
		b.send(2, groupText(1, "two"))
		b.groupAck(2, 1, 2)
		a.hearGroup(bob, 1, 2, "two")
		c.hearGroup(bob, 1, 2, "two")
		shell("group", "remove", "G", "u00002")
		c.send(2, groupText(1, "three"))
		c.groupAck(2, 1, 3)
		a.hearGroup(carol, 1, 3, "three")
		b.send(3, groupText(1, "not a member"))
		b.alive()
		c.send(3, groupText(1, "four"))
		c.groupAck(3, 1, 4) // what came before it was not stored
		a.hearGroup(carol, 1, 4, "four")
		b.alive() // no ack, no message
		shell("group", "rename", "G", "H")
		a.send(3, pb.IMGroupInfoListReq_builder{UserId: new(alice),
			GroupVersionList: []*pb.GroupVersionInfo{pb.GroupVersionInfo_builder{GroupId: new(uint32(1)), Version: new(uint32(3))}.Build()}}.Build())
		info := &pb.IMGroupInfoListRsp{}
		a.expectSeq(3, info)
		if list := info.GetGroupInfoList(); len(list) != 1 || list[0].GetGroupName() != "H" || list[0].GetVersion() != 4 {
			t.Errorf("groups newer than version 3: %v", list)
		}

		shell("depart", "add", "Sales")
		shell("user", "set", "u00002", "--department", "Sales", "--sign", "selling")
		until(t, "the department to be in the directory", func() bool {
			a.send(4, pb.IMDepartmentReq_builder{UserId: new(alice), LatestUpdateTime: new(uint32(0))}.Build())
			departs := &pb.IMDepartmentRsp{}
			a.expectSeq(4, departs)
			list := departs.GetDeptList()
			return len(list) == 1 && list[0].GetDeptName() == "Sales"
		})
		until(t, "the user to be in the department", func() bool {
			a.send(5, pb.IMAllUserReq_builder{UserId: new(alice), LatestUpdateTime: new(uint32(0))}.Build())
			all := &pb.IMAllUserRsp{}
			a.expectSeq(5, all)
			for _, u := range all.GetUserList() {
				if u.GetUserId() == bob {
					return u.GetDepartmentId() == 1 && u.GetSignInfo() == "selling"
				}
			}
			return false
		})
		if code, _, errOut := command(t, append([]string{"depart", "delete", "Sales"}, sys.store...)...); code != 1 || !strings.Contains(errOut, "has users in it: 1") {
			t.Errorf("a department with a user in it deleted: exit code %d, %s", code, errOut)
		}
	})
}

func groupText(group uint32, body string) *pb.MsgData {
	return &pb.MsgData{ToSessionID: group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte(body)}
}

// groupAck reads the ack of a message to a group, which has to be the next frame.
func (w *wire) groupAck(seq uint16, group, id uint32) {
	w.t.Helper()
	ack := &pb.IMMsgDataAck{}
	w.expectSeq(seq, ack)
	if ack.GetSessionId() != group || ack.GetMsgId() != id || ack.GetSessionType() != pb.SessionType_SESSION_TYPE_GROUP {
		w.t.Fatalf("ack names session %d, id %d, type %v; want group %d, id %d", ack.GetSessionId(), ack.GetMsgId(), ack.GetSessionType(), group, id)
	}
}

// hearGroup reads a text to a group, which has to be the next frame.
func (w *wire) hearGroup(from, group, id uint32, body string) {
	w.t.Helper()
	m := &pb.MsgData{}
	w.expectSeq(0, m)
	if m.FromUserID != from || m.ToSessionID != group || m.MsgID != id || string(m.Data) != body || m.Type != pb.MsgType_MSG_TYPE_GROUP_TEXT {
		w.t.Fatalf("got message %d of %d to %d %q, want %d of %d to group %d %q", m.MsgID, m.FromUserID, m.ToSessionID, m.Data, id, from, group, body)
	}
}
