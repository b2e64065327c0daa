//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// outsideTexts are texts at the limits of what servers store.
var outsideTexts = []struct {
	name, body string
	stored     bool
}{
	{"emoji", "\U0001f600 好 \u0000 \U0010ffff", true},
	{"4,096 bytes, of four for each character", strings.Repeat("\U0001f600", 1024), true},
	{"4,096 bytes", strings.Repeat("x", im.MaxContent), true},
	{"5,000 characters", strings.Repeat("x", 5000), false},
	{"5,000 characters of three bytes", strings.Repeat("好", 5000), false},
	{"bytes that are no UTF-8", "\xff\xfe", false},
	{"half a character", "\xf0\x9f\x98", false},
}

// TestTexts checks that each text is either stored whole and acked, or neither. The
// metrics count the refused ones.
func TestTexts(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3, flags: unlimited}, func(t *testing.T, sys *deployment) {
		w, self := loggedIn(t, sys.msgAddr[0], "u00001", android)
		peer := self + 1
		group := w.createGroup(1, self, peer)
		stored, refused := w.sendOutsideTexts(peer, group)
		for _, p := range []client.Peer{{ID: self}, {ID: group, Group: true}} {
			c := conn(t, sys.msgAddr[1], "u00002", android)
			list, err := client.History(bounded(t), c, p, 0, 100)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range list {
				got = append(got, string(m.Data))
			}
			slices.Reverse(got)
			equal(t, fmt.Sprintf("history of %+v", p), got, stored)
			c.Close()
		}
		n := sys.msg[0].metric("teamtalk_msg_not_stored_total", "") +
			sys.msg[0].metric("teamtalk_msg_dropped_total", "{")
		if n < refused {
			t.Errorf("%v messages counted as refused, want %v", n, refused)
		}
	})
}

// sendOutsideTexts sends outsideTexts, and then one more text, to a user and to a group.
// It returns the texts that each conversation must have, and the number of refused
// messages.
func (w *wire) sendOutsideTexts(peer, group uint32) (stored []string, refused float64) {
	w.t.Helper()
	for _, b := range outsideTexts {
		seq := uint16(100 + 2*len(stored))
		for i, m := range []*pb.MsgData{text(peer, b.body), groupText(group, b.body)} {
			w.send(seq+uint16(i), m)
			if !b.stored {
				refused++
				continue
			}
			var ack pb.IMMsgDataAck
			w.expectSeq(seq+uint16(i), &ack)
			if int(ack.GetMsgId()) != len(stored)+1 {
				w.t.Errorf("%s: id %d, want %d", b.name, ack.GetMsgId(), len(stored)+1)
			}
		}
		if b.stored {
			stored = append(stored, b.body)
		}
	}
	// Requests of a conversation keep their order: this ack follows the decision on all
	// messages before. A refused message may have used an id.
	stored = append(stored, "last")
	for i, m := range []*pb.MsgData{text(peer, "last"), groupText(group, "last")} {
		w.send(uint16(9000+i), m)
		var ack pb.IMMsgDataAck
		w.expectSeq(uint16(9000+i), &ack)
		if ack.GetMsgId() < uint32(len(stored)) {
			w.t.Errorf("the last message has id %d, want %d or more", ack.GetMsgId(), len(stored))
		}
	}
	return stored, refused
}

// TestPipelined checks the order of messages that one client sends without waiting: they
// are stored, delivered and, because acks wait for no receiver here, acked in the order
// of the sender.
func TestPipelined(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2, flags: unlimited}, func(t *testing.T, sys *deployment) {
		w, self := loggedIn(t, sys.msgAddr[0], "u00001", android)
		listener, peer := loggedIn(t, sys.msgAddr[1], "u00002", android)
		for round := range 20 {
			var segment []byte
			for n := range 20 {
				m := text(peer, fmt.Sprint(round, " ", n))
				segment = append(segment, encode(t, uint16(100+n), m)...)
			}
			w.write(segment)
			for n := range 20 {
				id := uint32(20*round + n + 1)
				if got := w.acked(uint16(100+n), peer); got != id {
					t.Fatalf("message %d of round %d has the id %d, want %d", n, round, got, id)
				}
				listener.sendAck(listener.receiveText(self, peer, id, fmt.Sprint(round, " ", n)))
			}
		}
	})
}

// untilSettled calls asked once a second until it reports that the answers have no changes:
// they depend on whole seconds.
func untilSettled(t *testing.T, asked func() (nothing bool)) {
	t.Helper()
	next := time.Now()
	until(t, "answers without changes", func() bool {
		if time.Now().Before(next) {
			return false
		}
		next = time.Now().Add(time.Second)
		return asked()
	})
}

// TestSyncSince checks requests for the changes since the time of the last answer. A
// client misses no change of the same second, and some seconds later an answer is empty.
// A time ahead of the server's clock counts as 0, and is not echoed.
func TestSyncSince(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 20, flags: unlimited}, func(t *testing.T, sys *deployment) {
		mustRun(t, append([]string{"depart", "add", "Sales"}, sys.store...)...)
		d := &departSync{t: t, c: conn(t, sys.msgAddr[0], "u00001", android)}
		n, told := d.since(0)
		equal(t, "departments", n, 1)
		n, _ = d.since(uint32(time.Now().Unix()) + 3600)
		equal(t, "departments since a time ahead", n, 1)
		mustRun(t, append([]string{"depart", "add", "Support"}, sys.store...)...)

		w, _ := loggedIn(t, sys.msgAddr[0], "u00002", android)
		for i := range uint32(5) { // mostly in one second
			w.sendText(uint16(10+i), 10+i, "hello")
		}
		all, since := w.sessionsSince(0)
		equal(t, "conversations", len(all), 5)
		w.sendText(20, 15, "one more")
		all, since = w.sessionsSince(since)
		if !slices.Contains(all, 15) {
			t.Error("a conversation of the same second is skipped")
		}
		untilSettled(t, func() bool {
			n, told = d.since(told)
			all, since = w.sessionsSince(since)
			return n == 0 && len(all) == 0
		})
		if !d.support {
			t.Error("a department of the same second is skipped")
		}
	})
}

// departSync requests changed departments.
type departSync struct {
	t       *testing.T
	c       *tcp.Conn
	support bool // an answer had the department Support
}

// since requests the departments that changed since a time. It returns their number and
// the time of the answer, which must not be ahead of the clock.
func (d *departSync) since(since uint32) (n int, told uint32) {
	d.t.Helper()
	list, told, err := client.Departs(bounded(d.t), d.c, since)
	if now := uint32(time.Now().Unix()); err != nil || told == 0 || told > now {
		d.t.Fatalf("departments since %d: %v, time %d at %d, %v", since, list, told, now, err)
	}
	d.support = d.support ||
		slices.ContainsFunc(list, func(d im.Depart) bool { return d.Name == "Support" })
	return len(list), told
}

// sessionsSince requests the recent sessions that changed since a time. It returns their
// peers, and the latest time of change.
func (w *wire) sessionsSince(since uint32) (peers []uint32, latest uint32) {
	w.t.Helper()
	w.send(3, pb.IMRecentContactSessionReq_builder{
		UserId: new(uint32(0)), LatestUpdateTime: new(since),
	}.Build())
	var rsp pb.IMRecentContactSessionRsp
	w.expectSeq(3, &rsp)
	latest = since
	for _, s := range rsp.GetContactSessionList() {
		peers, latest = append(peers, s.GetSessionId()), max(latest, s.GetUpdatedTime())
	}
	return peers, latest
}

// TestNormalGroup checks that only the creator of a normal group can change its members.
func TestNormalGroup(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 4, flags: unlimited}, func(t *testing.T, sys *deployment) {
		mustRun(t, append([]string{"group", "create", "All staff", "u00001", "u00002", "u00003",
			"--creator", "u00001"}, sys.store...)...)
		creator, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
		member, _ := loggedIn(t, sys.msgAddr[1], "u00002", android)
		outsider, outside := loggedIn(t, sys.msgAddr[0], "u00004", android)
		creator.send(2, pb.IMNormalGroupListReq_builder{UserId: new(uint32(0))}.Build())
		var list pb.IMNormalGroupListRsp
		if creator.expectSeq(2, &list); len(list.GetGroupVersionList()) != 1 {
			t.Fatalf("groups of the creator: %v", &list)
		}
		group := list.GetGroupVersionList()[0].GetGroupId()
		for _, w := range []*wire{member, outsider} {
			for _, rsp := range []*pb.IMGroupChangeMemberRsp{
				w.changeMember(3, group, addMember, outside),
				w.changeMember(4, group, removeMember, outside-1),
			} { // C++ servers refuse with the group and no lists too
				if rsp.GetResultCode() != 1 || rsp.GetGroupId() != group ||
					len(rsp.GetCurUserIdList())+len(rsp.GetChgUserIdList()) != 0 {
					t.Errorf("a user other than the creator: %v", rsp)
				}
			}
		}
		rsp := creator.changeMember(5, group, addMember, outside)
		if rsp.GetResultCode() != 0 || len(rsp.GetCurUserIdList()) != 4 {
			t.Errorf("the creator: %v", rsp)
		}
		for _, w := range []*wire{member, outsider} {
			var n pb.IMGroupChangeMemberNotify
			if w.expect(&n); n.GetGroupId() != group || n.HasVersion() {
				t.Errorf("notify: %v", &n)
			}
			w.alive()
		}
	})
}

// The changes of a group's members.
const (
	addMember    = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	removeMember = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
)

// changeMember requests the change of one member, and returns the answer.
func (w *wire) changeMember(seq uint16, group uint32, change pb.GroupModifyType,
	user uint32) *pb.IMGroupChangeMemberRsp {
	w.t.Helper()
	w.send(seq, pb.IMGroupChangeMemberReq_builder{
		UserId: new(uint32(0)), ChangeType: change.Enum(), GroupId: new(group),
		MemberIdList: []uint32{user},
	}.Build())
	rsp := &pb.IMGroupChangeMemberRsp{}
	w.expectSeq(seq, rsp)
	return rsp
}
