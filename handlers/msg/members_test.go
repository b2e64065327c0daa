package msg

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

const (
	addMember = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	delMember = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
)

// TestGroupMembersFollow: after a change of a group, made on any server and told or not,
// a message is delivered to the members after the change. Members are asked for no more
// often than needed.
func TestGroupMembersFollow(t *testing.T) {
	inCluster(t, 2, Options{Rate: -1}, func(c *cluster) {
		here, there := c.servers[0], c.servers[1]
		c.db.addGroup(50, 1, 2, 3)
		alice, bob, dave := here.user(0, 1, win), here.user(1, 2, win), here.user(0, 4, win)
		carol := there.user(0, 3, win)
		seq := uint16(1)
		say := func(id uint32, gets ...*device) {
			t.Helper()
			seq++
			alice.send(seq, groupText(50, fmt.Sprint(seq)))
			alice.want(pb.CmdMsgDataAck)
			for _, d := range []*device{bob, carol, dave} {
				if slices.Contains(gets, d) {
					d.wantTexts(id)
				} else {
					d.wantTexts()
				}
			}
		}
		say(1, bob, carol)
		say(2, bob, carol)
		if n := c.db.loads(50); n != 2 { // once on each server
			t.Fatalf("members asked for %d times", n)
		}
		// Behind everybody's back, and the notify never comes.
		c.db.change(50, func(g *dbGroup) { g.version, g.members = 2, []uint32{1, 4, 3} })
		say(3, carol, dave)
		if n := c.db.loads(50); n != 2 {
			t.Fatalf("members asked for %d times", n)
		}
		// By a client elsewhere: everybody is told, nobody asks.
		req := &pb.IMGroupChangeMemberReq{}
		req.SetUserId(3)
		req.SetChangeType(addMember)
		req.SetGroupId(50)
		req.SetMemberIdList([]uint32{2})
		carol.send(9, req)
		for _, d := range []*device{alice, bob, dave} {
			d.want(pb.CmdGroupChangeMemberNotify)
		}
		carol.want(pb.CmdGroupChangeMemberRsp)
		say(4, bob, carol, dave)
		if n := c.db.loads(50); n != 0 {
			t.Fatalf("members asked for %d times", n)
		}
		// While a route server is away.
		here.h.RouteLink().Close(here.route.s, nil)
		if err := here.h.RouteLink().Open(here.route.s); err != nil {
			t.Fatal(err)
		}
		seq++
		alice.send(seq, groupText(50, "x"))
		time.Sleep(settleWait)
		bob.wantTexts(5)
		if n := c.db.loads(50); n != 1 {
			t.Fatalf("members asked for %d times", n)
		}
	})
}

// TestGroupTextFoundInHistory: the answers to a change of members and to a text after it are
// lost, and the text is found in the history when its sender repeats it. The message servers
// that it is forwarded to ask for the members, too: those that they know are older.
func TestGroupTextFoundInHistory(t *testing.T) {
	inCluster(t, 2, Options{Rate: -1, Hold: -1}, func(c *cluster) {
		c.db.addGroup(50, 1, 2, 3)
		alice := c.servers[0].user(0, 1, win)
		bob, carol := c.servers[1].user(0, 2, win), c.servers[1].user(0, 3, win)
		alice.send(2, groupText(50, "to all"))
		time.Sleep(settleWait)
		bob.wantTexts(1)
		carol.wantTexts(1)

		c.db.change(50, func(g *dbGroup) { g.version, g.members = 2, []uint32{1, 2} })
		c.db.lose = true
		alice.send(3, groupText(50, "without Carol"))
		c.db.lose = false
		time.Sleep(5 * time.Second)
		alice.send(3, groupText(50, "without Carol"))
		time.Sleep(gapWait)
		bob.wantTexts(2)
		carol.wantTexts()
	})
}

// TestGroupWithoutVersions: with a db_proxy that gives no versions, what is known is
// asked for again after a while; changes told of count at once.
func TestGroupWithoutVersions(t *testing.T) {
	inWorld(t, Options{Rate: -1, PCTimeout: time.Hour}, func(w *world) {
		w.db.addGroup(50, 1, 2).old = true
		alice, bob, carol := w.user(0, 1, win), w.user(1, 2, win), w.user(0, 3, win)
		alice.send(2, groupText(50, "one"))
		bob.wantTexts(1)
		w.db.change(50, func(g *dbGroup) { g.version, g.members = 2, []uint32{1, 2, 3} })
		time.Sleep(memberAge - time.Second)
		alice.send(3, groupText(50, "two"))
		carol.wantTexts()
		if n := w.db.loads(50); n != 1 {
			t.Fatalf("members asked for %d times", n)
		}
		time.Sleep(2 * time.Second)
		alice.send(4, groupText(50, "three"))
		carol.wantTexts(3)
		if n := w.db.loads(50); n != 1 {
			t.Fatalf("members asked for %d times", n)
		}
		w.db.change(50, func(g *dbGroup) { g.members = []uint32{1, 2} })
		n := notify(50, 0, []uint32{1, 2}, 3)
		w.h.RouteLink().Message(w.route.s, 0, n)
		carol.want(pb.CmdGroupChangeMemberNotify)
		alice.send(5, groupText(50, "four"))
		carol.want()
		if n := w.db.loads(50); n != 0 {
			t.Fatalf("members asked for %d times", n)
		}
	})
}

func notify(group, version uint32, cur []uint32, chg ...uint32) *pb.IMGroupChangeMemberNotify {
	n := &pb.IMGroupChangeMemberNotify{}
	n.SetUserId(1)
	n.SetChangeType(delMember)
	n.SetGroupId(group)
	n.SetCurUserIdList(cur)
	n.SetChgUserIdList(chg)
	if version != 0 {
		n.SetVersion(version)
	}
	return n
}

// TestGroupNotifies: an old notify that comes late changes nothing; one without a version
// counts until a version is heard of.
func TestGroupNotifies(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		w.db.addGroup(50, 1, 2).version = 5
		alice, bob, carol := w.user(0, 1, win), w.user(1, 2, win), w.user(0, 3, win)
		link := w.h.RouteLink()
		tell := func(n *pb.IMGroupChangeMemberNotify) {
			link.Message(w.route.s, 0, n)
			for _, d := range []*device{alice, bob, carol} {
				d.got()
			}
		}
		tell(notify(50, 5, []uint32{1, 2}, 3)) // whole, though nothing was known
		alice.send(2, groupText(50, "one"))
		bob.wantTexts(1)
		if n := w.db.loads(50); n != 0 {
			t.Fatalf("members asked for %d times", n)
		}
		tell(notify(50, 4, []uint32{1, 2, 3}, 3)) // overtaken
		alice.send(3, groupText(50, "two"))
		bob.wantTexts(2)
		carol.wantTexts()
		// wrong, or older than what is known: it has no version
		tell(notify(50, 0, []uint32{1, 2, 3}, 3))
		alice.send(4, groupText(50, "three"))
		bob.wantTexts(3)
		carol.wantTexts()
		if n := w.db.loads(50); n != 1 {
			t.Fatalf("members asked for %d times", n)
		}
		w.db.change(50, func(g *dbGroup) { g.version, g.members = 7, []uint32{1, 2, 3} })
		// the one of version 6 was lost: the list is whole
		tell(notify(50, 7, []uint32{1, 2, 3}, 3))
		alice.send(5, groupText(50, "four"))
		bob.wantTexts(4)
		carol.wantTexts(4)
		if n := w.db.loads(50); n != 0 {
			t.Fatalf("members asked for %d times", n)
		}
	})
}

// TestGroupNotifiesOvertaken: of two changes made at the same time on two servers the
// clients may be told in the wrong order. They are shown the members as they are, and no
// user as added that was removed again.
func TestGroupNotifiesOvertaken(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.db.addGroup(50, 1, 2)
		link, bob, carol := w.h.RouteLink(), w.user(1, 2, win), w.user(0, 3, win)
		tell := func(version uint32, typ pb.GroupModifyType, cur []uint32, chg ...uint32) {
			n := notify(50, version, cur, chg...)
			n.SetChangeType(typ)
			link.Message(w.route.s, 0, n)
		}
		shown := func(cur []uint32, chg ...uint32) {
			t.Helper()
			n := bob.want(pb.CmdGroupChangeMemberNotify)[0].m.(*pb.IMGroupChangeMemberNotify)
			if !slices.Equal(n.GetCurUserIdList(), cur) ||
				!slices.Equal(n.GetChgUserIdList(), chg) {
				t.Fatalf("told %v", n)
			}
		}
		tell(4, delMember, []uint32{1, 2, 6}, 3)
		shown([]uint32{1, 2, 6}, 3)
		tell(3, addMember, []uint32{1, 2, 3, 6}, 3, 6)
		shown([]uint32{1, 2, 6}, 6)
		tell(2, addMember, []uint32{1, 2, 3}, 3)
		bob.want()
		carol.want(pb.CmdGroupChangeMemberNotify) // of version 4: out
		// known already, perhaps from db_proxy: the clients have to be told all the same
		tell(4, delMember, []uint32{1, 2, 6}, 3)
		shown([]uint32{1, 2, 6}, 3)
	})
}

// TestGroupNotifyWhileLoading: what is asked for may be older than a change that comes
// meanwhile.
func TestGroupNotifyWhileLoading(t *testing.T) {
	for _, version := range []uint32{0, 2} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			inWorld(t, Options{Rate: -1}, func(w *world) {
				w.db.addGroup(50, 1, 2)
				bob, carol := w.user(1, 2, win), w.user(0, 3, win)
				link := w.h.RouteLink()
				from := func(id uint32) {
					// without a version: nothing says that what is known is old
					m := groupText(50, "x")
					m.FromUserID, m.MsgID = 1, id
					link.Message(w.route.s, 0, m)
				}
				w.db.mu.Lock()
				w.db.hold = true
				w.db.mu.Unlock()
				from(1) // asks, and gets the present members
				w.db.change(50, func(g *dbGroup) { g.version, g.members = 2, []uint32{1, 3} })
				link.Message(w.route.s, 0, notify(50, version, []uint32{1, 3}, 2))
				w.db.letGo()
				from(2)
				bob.want(pb.CmdGroupChangeMemberNotify)
				carol.want(pb.CmdMsgData, pb.CmdGroupChangeMemberNotify, pb.CmdMsgData)
			})
		})
	}
}

// TestGroupWaits: while members are asked for, messages wait, so many at most, and leave
// in order; the senders' acks do not wait.
func TestGroupWaits(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		g := w.db.addGroup(50, 1, 2)
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		g.silent = true
		for i := range maxWaiting + 10 {
			alice.send(uint16(i+2), groupText(50, "x"))
		}
		if n := len(alice.got()); n != maxWaiting+10 {
			t.Fatalf("%d acks", n)
		}
		bob.wantTexts()
		late := w.user(0, 2, ios)
		w.db.change(50, func(g *dbGroup) { g.silent = false })
		time.Sleep(loadPause)
		ids := make([]uint32, maxWaiting)
		for i := range ids {
			ids[i] = uint32(i + 1)
		}
		bob.wantTexts(ids...)
		late.wantTexts() // finds them in the history
		if n := w.counted("group_dropped_total", "queue"); n != 10 {
			t.Errorf("%v counted as dropped", n)
		}
		if n, size := w.h.groups.Waiting(), kept(t, w.h.groups, "waitingBytes"); n != 0 ||
			size != 0 {
			t.Errorf("%d messages, %d bytes still waiting", n, size)
		}
	})
}

// TestGroupWaitingBytes: what waits is bounded in bytes over all groups.
func TestGroupWaitingBytes(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		sound := make([]byte, im.MaxAudio)
		for i := range uint32(80) {
			g := w.db.addGroup(50+i, 1, 2)
			g.silent = true
			w.h.groups.Deliver(&pb.MsgData{FromUserID: 1, ToSessionID: 50 + i, MsgID: 1,
				Type: pb.MsgType_MSG_TYPE_GROUP_AUDIO, Data: sound}, nil, false)
		}
		if n, size := w.h.groups.Waiting(), kept(t, w.h.groups, "waitingBytes"); n != 63 ||
			size > maxWaitingBytes {
			t.Errorf("%d messages with %d bytes wait", n, size)
		}
		time.Sleep(2 * loadFor)
		if n, size := w.h.groups.Waiting(), kept(t, w.h.groups, "waitingBytes"); n != 0 ||
			size != 0 {
			t.Errorf("%d messages, %d bytes still waiting", n, size)
		}
	})
}

// TestGroupMembersLate: messages wait while no db_proxy knows the members, as when the only
// one is started again.
func TestGroupMembersLate(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		g := w.db.addGroup(50, 1, 2)
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		g.silent = true
		alice.send(2, groupText(50, "one"))
		time.Sleep(loadFor - 2*time.Second)
		w.db.change(50, func(g *dbGroup) { g.silent = false })
		time.Sleep(maxLoadPause)
		bob.wantTexts(1)
	})
}

// TestGroupMembersUnanswered: a request for members that is not answered is repeated. An
// answer to the first one that arrives later changes nothing.
func TestGroupMembersUnanswered(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		g := w.db.addGroup(50, 1, 2)
		alice, bob, carol := w.user(0, 1, win), w.user(1, 2, win), w.user(0, 3, win)
		first := true
		w.db.also = func(req pb.Message) (pb.Message, error) {
			if _, ok := req.(*pb.IMGroupInfoListReq); ok {
				w.db.hold, first = first, false
			}
			return nil, nil
		}
		alice.send(2, groupText(50, "one"))
		time.Sleep(loadWait)
		bob.wantTexts(1)
		if n := w.db.loads(50); n != 2 {
			t.Errorf("members asked for %d times", n)
		}
		w.db.change(50, func(*dbGroup) { g.version, g.members = 2, []uint32{1, 2, 3} })
		alice.send(3, groupText(50, "two"))
		carol.wantTexts(2)
		w.db.letGo()
		alice.send(4, groupText(50, "three"))
		bob.wantTexts(2, 3)
		carol.wantTexts(3)
		if n := w.db.loads(50); n != 1 {
			t.Errorf("members asked for %d times", n)
		}
	})
}

// TestGroupMembersNotToBeHad: after some time the messages are given up, counted; the next
// one tries again.
func TestGroupMembersNotToBeHad(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		g := w.db.addGroup(50, 1, 2)
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		g.silent = true
		alice.send(2, groupText(50, "one"))
		time.Sleep(2 * loadFor)
		// 200, 400, 800 ms and then every second
		if n := w.db.loads(50); n != 18 {
			t.Fatalf("members asked for %d times", n)
		}
		if n := w.counted("group_dropped_total", "members"); n != 1 {
			t.Errorf("%v counted as dropped", n)
		}
		w.db.change(50, func(g *dbGroup) { g.silent = false })
		alice.send(3, groupText(50, "two"))
		time.Sleep(settleWait)
		bob.wantTexts(2)
	})
}
