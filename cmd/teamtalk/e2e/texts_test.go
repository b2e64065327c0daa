//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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

// untilSettled asks, a few times a second, until what has changed is told no more.
func untilSettled(t *testing.T, asked func() (nothing bool)) {
	t.Helper()
	next := time.Now()
	until(t, "what has changed is told no more", func() bool {
		if time.Now().Before(next) {
			return false
		}
		next = time.Now().Add(200 * time.Millisecond)
		return asked()
	})
}

// TestSyncSince: a client that asks for what has changed since the time it was told misses no
// change made in the same second, and once a few seconds have passed is told nothing again. A time
// ahead of the server's clock counts as 0 and is not echoed.
func TestSyncSince(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 20, flags: unlimited}, func(t *testing.T, sys *deployment) {
		mustRun(t, append([]string{"depart", "add", "Sales"}, sys.store...)...)
		c := conn(t, sys.msgAddr[0], "u00001", android)
		support := false
		departs := func(since uint32) (n int, told uint32) {
			t.Helper()
			list, told, err := client.Departs(bounded(t), c, since)
			if now := uint32(time.Now().Unix()); err != nil || told == 0 || told > now {
				t.Fatalf("departments since %d: %v, told %d at %d, %v", since, list, told, now, err)
			}
			support = support || slices.ContainsFunc(list,
				func(d im.Depart) bool { return d.Name == "Support" })
			return len(list), told
		}
		n, told := departs(0)
		if n != 1 {
			t.Errorf("%d departments", n)
		}
		if n, _ := departs(uint32(time.Now().Unix()) + 3600); n != 1 {
			t.Errorf("%d departments since a time ahead", n)
		}
		mustRun(t, append([]string{"depart", "add", "Support"}, sys.store...)...)
		w, _ := loggedIn(t, sys.msgAddr[0], "u00002", android)
		for i := range uint32(5) { // mostly in one second
			w.say(uint16(10+i), 10+i, "hello")
		}
		since := uint32(0)
		recent := func() map[uint32]bool {
			w.send(3, pb.IMRecentContactSessionReq_builder{UserId: new(uint32(0)), LatestUpdateTime: new(since)}.Build())
			var rsp pb.IMRecentContactSessionRsp
			w.expectSeq(3, &rsp)
			peers := map[uint32]bool{}
			for _, s := range rsp.GetContactSessionList() {
				peers[s.GetSessionId()], since = true, max(since, s.GetUpdatedTime())
			}
			return peers
		}
		if all := recent(); len(all) != 5 {
			t.Fatalf("%d conversations", len(all))
		}
		w.say(20, 15, "one more")
		if !recent()[15] {
			t.Error("a conversation of the same second is skipped")
		}
		untilSettled(t, func() bool {
			n, told = departs(told)
			return n == 0 && len(recent()) == 0
		})
		if !support {
			t.Error("a department of the same second is skipped")
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
