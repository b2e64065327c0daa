//go:build linux

package main_test

import (
	"fmt"
	"strings"
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestTexts: whatever a client sends is stored whole and acked, or neither, and then the operator sees it.
func TestTexts(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3, flags: unlimited}, func(t *testing.T, sys *deployment) {
		w, self := loggedIn(t, sys.msgAddr[0], "u00001", android)
		peer := self + 1
		group := w.createGroup(1, self, peer)
		bodies := []struct {
			name, body string
			stored     bool
		}{
			{"emoji", "\U0001f600 好 \u0000 \U0010ffff", true},
			{"4,096 characters of four bytes", strings.Repeat("\U0001f600", 1024), true},
			{"4,096 bytes", strings.Repeat("x", im.MaxContent), true},
			{"5,000 characters", strings.Repeat("x", 5000), false},
			{"5,000 characters of three bytes", strings.Repeat("好", 5000), false},
			{"no text", "\xff\xfe", false},
			{"half a character", "\xf0\x9f\x98", false},
		}
		var want []string // what is stored, in both conversations
		refused := 0.0
		for _, b := range bodies {
			seq := uint16(100 + 2*len(want))
			for i, m := range []*pb.MsgData{text(peer, b.body), groupText(group, b.body)} {
				w.send(seq+uint16(i), m)
				if b.stored {
					var ack pb.IMMsgDataAck
					w.expectSeq(seq+uint16(i), &ack)
					if int(ack.GetMsgId()) != len(want)+1 {
						t.Errorf("%s: id %d, want %d", b.name, ack.GetMsgId(), len(want)+1)
					}
				} else {
					refused++
				}
			}
			if b.stored {
				want = append(want, b.body)
			}
		}
		// Requests of a conversation keep their order: the answer to the last message comes after what became of all before.
		want = append(want, "last")
		for i, m := range []*pb.MsgData{text(peer, "last"), groupText(group, "last")} {
			w.send(uint16(9000+i), m)
			var ack pb.IMMsgDataAck
			if w.expectSeq(uint16(9000+i), &ack); ack.GetMsgId() < uint32(len(want)) {
				t.Errorf("id %d, want %d or, where one was drawn for what was refused, more", ack.GetMsgId(), len(want))
			}
		}
		for _, p := range []client.Peer{{ID: self}, {ID: group, Group: true}} {
			c := conn(t, sys.msgAddr[1], "u00002", android)
			got, err := client.History(bounded(t), c, p, 0, 100)
			if err != nil || len(got) != len(want) {
				t.Fatalf("history: %d messages, want %d, %v", len(got), len(want), err)
			}
			for i, m := range got {
				if string(m.Data) != want[len(want)-1-i] {
					t.Errorf("message %d is not what was sent", m.ID)
				}
			}
			c.Close()
		}
		if n := sys.msg[0].metric("teamtalk_msg_not_stored_total", "") + sys.msg[0].metric("teamtalk_msg_dropped_total", "{"); n < refused {
			t.Errorf("%v messages counted as refused, want %v", n, refused)
		}
	})
}

// TestPipelined: what one client says without waiting is stored and heard in the order it was said, and acked, in that order too where acks do not wait for
// anybody.
func TestPipelined(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2, flags: unlimited}, func(t *testing.T, sys *deployment) {
		w, self := loggedIn(t, sys.msgAddr[0], "u00001", android)
		listener, peer := loggedIn(t, sys.msgAddr[1], "u00002", android)
		for round := range 20 {
			var segment []byte
			for n := range 20 {
				segment = append(segment, encode(t, uint16(100+n), text(peer, fmt.Sprint(round, " ", n)))...)
			}
			w.write(segment)
			for n := range 20 {
				id := uint32(20*round + n + 1)
				if got := w.acked(uint16(100+n), peer); got != id {
					t.Fatalf("message %d of round %d has the id %d, want %d", n, round, got, id)
				}
				listener.heard(listener.hear(self, peer, id, fmt.Sprint(round, " ", n)))
			}
		}
	})
}

// TestSyncSince: who asks for what has changed since the time it was told is told again what has that very time, and never misses a change made in
// the same second.
func TestSyncSince(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 20, flags: unlimited}, func(t *testing.T, sys *deployment) {
		mustRun(t, append([]string{"depart", "add", "Sales"}, sys.store...)...)
		c := conn(t, sys.msgAddr[0], "u00001", android)
		departs, newest, err := client.Departs(bounded(t), c, 0)
		if err != nil || len(departs) != 1 || newest == 0 {
			t.Fatalf("departments %v, %d, %v", departs, newest, err)
		}
		if again, same, err := client.Departs(bounded(t), c, newest); err != nil || len(again) != 1 || same != newest {
			t.Errorf("departments since the time told: %v, %d, %v", again, same, err)
		}
		if none, _, err := client.Departs(bounded(t), c, newest+1); err != nil || len(none) != 0 {
			t.Errorf("departments since later: %v, %v", none, err)
		}
		w, _ := loggedIn(t, sys.msgAddr[0], "u00002", android)
		for i := range uint32(5) { // mostly in one second
			w.say(uint16(10+i), 10+i, "hello")
		}
		recent := func(since uint32) []*pb.ContactSessionInfo {
			w.send(3, pb.IMRecentContactSessionReq_builder{UserId: new(uint32(0)), LatestUpdateTime: new(since)}.Build())
			var rsp pb.IMRecentContactSessionRsp
			w.expectSeq(3, &rsp)
			return rsp.GetContactSessionList()
		}
		all := recent(0)
		if len(all) != 5 {
			t.Fatalf("%d conversations", len(all))
		}
		w.say(20, 15, "one more")
		found := false
		for _, s := range recent(all[0].GetUpdatedTime()) {
			found = found || s.GetSessionId() == 15
		}
		if !found {
			t.Error("a conversation of the same second is skipped")
		}
	})
}

// TestNormalGroup: in a normal group only its creator changes anything.
func TestNormalGroup(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 4, flags: unlimited}, func(t *testing.T, sys *deployment) {
		mustRun(t, append([]string{"group", "create", "All staff", "u00001", "u00002", "u00003", "--creator", "u00001"}, sys.store...)...)
		creator, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
		member, _ := loggedIn(t, sys.msgAddr[1], "u00002", android)
		w := dial(t, sys.msgAddr[0])
		outsider := w.login("u00004", android)
		creator.send(2, pb.IMNormalGroupListReq_builder{UserId: new(uint32(0))}.Build())
		var list pb.IMNormalGroupListRsp
		if creator.expectSeq(2, &list); len(list.GetGroupVersionList()) != 1 {
			t.Fatalf("groups of the creator: %v", &list)
		}
		group := list.GetGroupVersionList()[0].GetGroupId()
		change := func(w *wire, seq uint16, how pb.GroupModifyType, user uint32) *pb.IMGroupChangeMemberRsp {
			w.send(seq, pb.IMGroupChangeMemberReq_builder{UserId: new(uint32(0)), ChangeType: how.Enum(), GroupId: new(group), MemberIdList: []uint32{user}}.Build())
			rsp := &pb.IMGroupChangeMemberRsp{}
			w.expectSeq(seq, rsp)
			return rsp
		}
		const add, del = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD, pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
		for _, rsp := range []*pb.IMGroupChangeMemberRsp{
			change(member, 3, add, outsider), change(member, 4, del, outsider-1), change(w, 3, add, outsider), change(w, 4, del, outsider-1),
		} { // as recorded: refused, with the group and no lists
			if rsp.GetResultCode() != 1 || rsp.GetGroupId() != group || len(rsp.GetCurUserIdList())+len(rsp.GetChgUserIdList()) != 0 {
				t.Errorf("somebody else than the creator: %v", rsp)
			}
		}
		if rsp := change(creator, 5, add, outsider); rsp.GetResultCode() != 0 || len(rsp.GetCurUserIdList()) != 4 {
			t.Errorf("the creator: %v", rsp)
		}
		for _, w := range []*wire{member, w} {
			var n pb.IMGroupChangeMemberNotify
			if w.expect(&n); n.GetGroupId() != group || n.HasVersion() {
				t.Errorf("told: %v", &n)
			}
			w.alive()
		}
	})
}
