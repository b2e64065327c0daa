package msg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestGroupMessage: the members get a group message, each in its form.
func TestGroupMessage(t *testing.T) {
	inCluster(t, 2, Options{}, func(c *cluster) {
		here, there := c.servers[0], c.servers[1]
		c.db.addGroup(50, 1, 2, 3, 4)
		alice, alicePhone := here.user(0, 1, win), here.user(1, 1, ios)
		bob, bobPhone, eve := here.user(0, 2, win), here.user(1, 2, android), here.user(0, 5, win)
		carol := there.user(0, 3, win)
		m := groupText(50, "hello")
		m.AttachData, m.ClientMsgID, m.GroupVersion, m.HasGroupVersion = []byte("mine"),
			[]byte("id"), 77, true
		alice.send(7, m)
		got := alice.want(pb.CmdMsgDataAck)
		ack := got[0].m.(*pb.IMMsgDataAck)
		if got[0].seq != 7 || ack.GetUserId() != 1 || ack.GetSessionId() != 50 ||
			ack.GetMsgId() != 1 || ack.GetSessionType() != pb.SessionType_SESSION_TYPE_GROUP {
			t.Fatalf("ack %d %v", got[0].seq, ack)
		}
		for _, d := range []*device{alicePhone, bob, bobPhone, carol} {
			r := d.want(pb.CmdMsgData)[0]
			m := r.m.(*pb.MsgData)
			if r.seq != 0 || m.FromUserID != 1 || m.ToSessionID != 50 || m.MsgID != 1 ||
				m.Type != pb.MsgType_MSG_TYPE_GROUP_TEXT || string(m.Data) != "hello" ||
				m.CreateTime == 0 || m.AttachData != nil || m.ClientMsgID != nil ||
				m.HasGroupVersion {
				t.Fatalf("delivered %d %+v", r.seq, m)
			}
		}
		eve.want()
		if c.routed[0] != 1 || c.routed[1] != 0 {
			t.Fatalf("sent to route_server %v", c.routed)
		}
		eve.send(3, groupText(50, "not a member"))
		eve.send(4, groupText(51, "no such group"))
		eve.want()
		bob.want()
		alice.send(7, m) // again: acked, not delivered
		alice.want(pb.CmdMsgDataAck)
		bob.want()
		if n := here.h.conversation.InFlight() + here.h.groups.Waiting(); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

// TestAudio: sounds go the way of texts, with a limit of their own.
func TestAudio(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		w.db.addGroup(50, 1, 2)
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		for i, typ := range []pb.MsgType{pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
			pb.MsgType_MSG_TYPE_GROUP_AUDIO} {
			time.Sleep(time.Second) // one of the longest is sent at once
			m := text(2, "")
			m.Type = typ
			if typ.IsGroup() {
				m.ToSessionID = 50
			}
			m.Data = append([]byte{0, 0, 0, 9}, make([]byte, im.MaxAudio)...)
			alice.send(uint16(10*i+2), m)
			alice.want(pb.CmdMsgDataAck)
			if got := bob.want(pb.CmdMsgData)[0].m.(*pb.MsgData); got.Type != typ ||
				!slices.Equal(got.Data, m.Data) {
				t.Fatalf("delivered %v, %d bytes", got.Type, len(got.Data))
			}
			for j, data := range [][]byte{nil, {0, 0, 0, 9}, append(m.Data, 0)} {
				m.Data = data
				alice.send(uint16(10*i+j+3), m)
			}
			alice.want()
		}
	})
}

// TestGroupOrder: messages sent on three servers at once reach every member in the order
// of their ids, however long they take between servers.
func TestGroupOrder(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inCluster(t, 3, Options{Rate: -1, RedeliverAfter: -1}, func(c *cluster) {
				rnd, lags := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
				c.lag = func() time.Duration {
					return time.Duration(lags.IntN(80)) * time.Millisecond
				}
				c.db.addGroup(50, 1, 2, 3, 4, 5, 6)
				if seed%2 == 1 {
					// a group with a past, that the servers know nothing of
					c.db.ids[im.GroupKey(50)] = 1000
				}
				var senders, readers []*device
				for i, w := range c.servers {
					senders = append(senders, w.user(0, uint32(i+1), win))
					readers = append(readers, w.user(1, uint32(i+4), ios))
				}
				const rounds = 50
				for i := range rounds {
					for j, d := range senders {
						d.loop.do <- func() {
							d.loop.Begin()
							_ = d.w.h.conversation.HandleMessage(d.s, uint16(i+2),
								groupText(50, fmt.Sprint(i, j)))
							d.loop.End()
						}
					}
					time.Sleep(time.Duration(rnd.IntN(5)) * time.Millisecond)
				}
				time.Sleep(2 * gapWait)
				synctest.Wait()
				for _, d := range readers {
					last := c.db.ids[im.GroupKey(50)] - rounds*3
					for _, r := range d.got() {
						m := r.m.(*pb.MsgData)
						if m.MsgID != last+1 {
							t.Fatalf("%d after %d", m.MsgID, last)
						}
						last = m.MsgID
					}
					if last != c.db.ids[im.GroupKey(50)] {
						t.Fatalf("last message %d of %d", last, c.db.ids[im.GroupKey(50)])
					}
				}
				for _, w := range c.servers {
					if n := w.counted("group_gaps_total") + w.counted("group_late_total"); n != 0 {
						t.Errorf("%v out of order", n)
					}
				}
			})
		})
	}
}

// TestGroupGap: a message that does not arrive is waited for, but not for long. When it
// arrives after the next one was delivered, it is not delivered.
func TestGroupGap(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.db.addGroup(50, 1, 2)
		bob := w.user(1, 2, win)
		from := func(id uint32) {
			m := groupText(50, "x")
			m.FromUserID, m.MsgID, m.GroupVersion, m.HasGroupVersion = 1, id, 1, true
			w.h.RouteLink().Message(w.route.s, 0, m)
		}
		from(1)
		from(2)
		bob.wantTexts(1, 2)
		from(5)
		from(4)
		bob.wantTexts()
		time.Sleep(gapWait)
		bob.wantTexts(4, 5)
		from(3)
		from(6)
		bob.wantTexts(6)
		if gaps, late := w.counted("group_gaps_total"),
			w.counted("group_late_total"); gaps != 1 || late != 1 {
			t.Errorf("%v gaps, %v late", gaps, late)
		}
	})
}

func TestGroupCreate(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		w.route.take()
		create := func(seq uint16, typ pb.GroupType, members ...uint32) {
			m := &pb.IMGroupCreateReq{}
			m.SetUserId(77)
			m.SetGroupType(typ)
			m.SetGroupName("g")
			m.SetGroupAvatar("")
			m.SetMemberIdList(members)
			m.SetAttachData([]byte("mine"))
			alice.send(seq, m)
		}
		create(2, pb.GroupType_GROUP_TYPE_NORMAL, 1, 2)
		create(3, 3, 1, 2)
		alice.want()
		create(4, pb.GroupType_GROUP_TYPE_TMP, 1, 2)
		got := alice.want(pb.CmdGroupCreateRsp)[0]
		rsp := got.m.(*pb.IMGroupCreateRsp)
		if got.seq != 4 || rsp.GetUserId() != 1 || rsp.GetResultCode() != 0 ||
			rsp.GetGroupId() != 100 || rsp.HasAttachData() {
			t.Fatalf("answer %d %v", got.seq, rsp)
		}
		create(5, pb.GroupType_GROUP_TYPE_TMP, make([]uint32, im.MaxGroupMembers+1)...)
		rsp = alice.want(pb.CmdGroupCreateRsp)[0].m.(*pb.IMGroupCreateRsp)
		if rsp.GetResultCode() == 0 {
			t.Fatalf("answer %v", rsp)
		}
		bob.want()
		if n := len(w.route.take()); n != 0 {
			t.Fatalf("%d messages to route_server", n)
		}
	})
}

// TestMeshHearsOfNewGroups: a mesh in the place of route servers is told of a group that a client
// makes, and of none that is not made.
func TestMeshHearsOfNewGroups(t *testing.T) {
	inWorld(t, Options{Announces: true}, func(w *world) {
		alice := w.user(0, 1, win)
		w.route.take()
		for _, name := range []string{"made", "not made"} {
			if name == "not made" {
				w.db.also = func(req pb.Message) (pb.Message, error) {
					m, ok := req.(*pb.IMGroupCreateReq)
					if !ok {
						return nil, nil
					}
					return pb.IMGroupCreateRsp_builder{UserId: proto.Uint32(m.GetUserId()),
						ResultCode: proto.Uint32(1), AttachData: m.GetAttachData(),
						GroupName: proto.String(name)}.Build(), nil
				}
			}
			alice.send(4, pb.IMGroupCreateReq_builder{UserId: proto.Uint32(1),
				GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), GroupName: &name,
				GroupAvatar: proto.String(""), MemberIdList: []uint32{1, 2}}.Build())
			alice.want(pb.CmdGroupCreateRsp)
		}
		got := w.route.take()
		if len(got) != 1 || !slices.Equal(got[0].m.(*pb.IMRoleSet).GetMadeGroups(), []uint32{100}) {
			t.Errorf("told %v", got)
		}
	})
}

// changeGroup asks for a change of the members of group 50, under a wrong user id.
func (d *device) changeGroup(seq uint16, typ pb.GroupModifyType, members ...uint32) {
	d.w.t.Helper()
	m := &pb.IMGroupChangeMemberReq{}
	m.SetUserId(77)
	m.SetChangeType(typ)
	m.SetGroupId(50)
	m.SetMemberIdList(members)
	d.send(seq, m)
}

// wantChanged checks the answer to changeGroup.
func (d *device) wantChanged(seq uint16, result uint32) {
	d.w.t.Helper()
	r := d.want(pb.CmdGroupChangeMemberRsp)[0]
	if rsp := r.m.(*pb.IMGroupChangeMemberRsp); r.seq != seq ||
		rsp.GetUserId() != d.s.User || rsp.GetResultCode() != result ||
		rsp.HasVersion() || rsp.HasAttachData() {
		d.w.t.Fatalf("answer %d %v", r.seq, rsp)
	}
}

// TestGroupChange: the members, and those added or removed, are told of a change.
func TestGroupChange(t *testing.T) {
	inCluster(t, 2, Options{}, func(c *cluster) {
		here, there := c.servers[0], c.servers[1]
		c.db.addGroup(50, 1, 2, 3)
		alice, alicePhone := here.user(0, 1, win), here.user(1, 1, ios)
		bob, eve, carol := here.user(0, 2, win), here.user(0, 5, win), there.user(0, 3, win)
		everyone := []*device{alice, alicePhone, bob, carol, eve}
		told := func(ds ...*device) {
			t.Helper()
			for _, d := range everyone {
				if !slices.Contains(ds, d) {
					d.want()
					continue
				}
				r := d.want(pb.CmdGroupChangeMemberNotify)[0]
				if n := r.m.(*pb.IMGroupChangeMemberNotify); r.seq != 0 || n.GetUserId() != 1 ||
					n.GetGroupId() != 50 || len(n.GetChgUserIdList()) == 0 || n.HasVersion() {
					t.Fatalf("told %d %v", r.seq, n)
				}
			}
		}
		alice.changeGroup(2, addMember, 5)
		alice.wantChanged(2, 0)
		told(alicePhone, bob, carol, eve)
		alice.changeGroup(3, addMember, 5) // in already
		alice.wantChanged(3, 1)
		told()
		alice.changeGroup(4, delMember, 2, 1)
		alice.wantChanged(4, 0)
		told(alicePhone, bob, carol, eve)
		alice.changeGroup(5, addMember, 6) // not in any more
		alice.wantChanged(5, 1)
		alice.changeGroup(6, addMember, make([]uint32, im.MaxGroupMembers+1)...)
		alice.wantChanged(6, 1)
		alice.changeGroup(7, 3, 6)
		alice.want()
		told()
		if c.routed[0] != 2 || c.routed[1] != 0 {
			t.Fatalf("sent to route_server %v", c.routed)
		}
		if n := passingOf(alice.s).Waiting(); n != 0 {
			t.Errorf("%d queries counted", n)
		}
	})
}

// TestGroupResendAfterNoAnswer: as TestResendAfterNoAnswer, of a group; its members are
// asked for, as nobody knows when it was stored.
func TestGroupResendAfterNoAnswer(t *testing.T) {
	inWorld(t, Options{Hold: -1, Ack: AckStored}, func(w *world) {
		w.db.addGroup(2, 1, 2)
		alice, bob, carol := w.user(0, 1, win), w.user(1, 2, win), w.user(0, 3, win)
		alice.send(2, groupText(2, "first"))
		bob.wantTexts(1)
		w.db.ids[im.ConversationKey(1, 2)] = 1
		// to the user of that number, with the ids that come next in the group
		alice.send(9, text(2, "same"))
		alice.send(10, text(2, "same"))
		alice.want(pb.CmdMsgDataAck, pb.CmdMsgDataAck, pb.CmdMsgDataAck)
		bob.want(pb.CmdMsgData, pb.CmdMsgData)
		w.db.loads(2)

		w.db.lose = true
		alice.send(9, groupText(2, "same")) // not a repeat of that
		alice.send(4, groupText(2, "same"))
		w.db.lose = false
		alice.want()
		w.db.change(2, func(g *dbGroup) { g.version, g.members = 2, []uint32{1, 3, 2} })
		time.Sleep(5 * time.Second)
		alice.send(4, groupText(2, "same"))
		if ack := alice.want(pb.CmdMsgDataAck)[0].m.(*pb.IMMsgDataAck); ack.GetMsgId() != 3 ||
			ack.GetSessionType() != pb.SessionType_SESSION_TYPE_GROUP {
			t.Errorf("ack %v", ack)
		}
		// the other one, which is not that of seq 4 in the history
		alice.send(9, groupText(2, "same"))
		if ack := alice.want(pb.CmdMsgDataAck)[0].m.(*pb.IMMsgDataAck); ack.GetMsgId() != 2 {
			t.Errorf("ack %v", ack)
		}
		time.Sleep(gapWait)
		bob.wantTexts(2, 3)
		carol.wantTexts(2, 3)
		if n := w.db.loads(2); n != 2 || len(w.db.stored) != 5 {
			t.Errorf("members asked for %d times, %d stored", n, len(w.db.stored))
		}
	})
}

// TestGroupResendInABusyGroup: the message is found behind what others have written
// since, and not searched for beyond its time.
func TestGroupResendInABusyGroup(t *testing.T) {
	inWorld(t, Options{Hold: -1, Ack: AckStored, Rate: -1}, func(w *world) {
		w.db.addGroup(50, 1, 2)
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		pagesFor := func(d *device, seq uint16, body string) (pages int) {
			before := len(w.db.asked)
			d.send(seq, groupText(50, body))
			for _, req := range w.db.asked[before:] {
				if _, ok := req.(*pb.IMGetMsgListReq); ok {
					pages++
				}
			}
			return pages
		}
		for i := range 3 * lookBack {
			bob.send(uint16(i+2), groupText(50, "before"))
		}
		time.Sleep(10 * time.Second)
		w.db.lose = true
		alice.send(2, groupText(50, "lost answer"))
		w.db.lose = false
		id := uint32(len(w.db.stored))
		for i := range 2*lookBack + 10 {
			bob.send(uint16(i+1000), groupText(50, "since"))
		}
		stored := len(w.db.stored)
		if pages := pagesFor(alice, 2, "lost answer"); pages != 3 {
			t.Errorf("%d pages searched", pages)
		}
		var acked []uint32
		for _, r := range alice.got() {
			if ack, ok := r.m.(*pb.IMMsgDataAck); ok {
				acked = append(acked, ack.GetMsgId())
			}
		}
		if !slices.Equal(acked, []uint32{id}) || len(w.db.stored) != stored {
			t.Errorf("acks of %v, %d stored, want %d and %d", acked, len(w.db.stored), id, stored)
		}
		w.db.lose = true
		alice.send(3, groupText(50, "not stored"))
		w.db.lose = false
		w.db.stored = w.db.stored[:stored]
		if pages := pagesFor(alice, 3, "not stored"); pages != 3 || len(w.db.stored) != stored+1 {
			t.Errorf("%d pages searched, %d stored, want %d", pages, len(w.db.stored), stored+1)
		}
	})
}

// TestGroupReadAck: reading a group is told to the user's other devices as reading a user
// is.
func TestGroupReadAck(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc, phone := w.user(0, 1, win), w.user(1, 1, ios)
		m := &pb.IMMsgDataReadAck{}
		m.SetUserId(77)
		m.SetSessionId(50)
		m.SetMsgId(5)
		m.SetSessionType(pb.SessionType_SESSION_TYPE_GROUP)
		pc.send(4, m)
		n := phone.want(pb.CmdMsgDataReadNotify)[0].m.(*pb.IMMsgDataReadNotify)
		if n.GetUserId() != 1 || n.GetSessionId() != 50 || n.GetMsgId() != 5 ||
			n.GetSessionType() != pb.SessionType_SESSION_TYPE_GROUP {
			t.Fatalf("notify %v", n)
		}
		got := w.db.sent[0].(*pb.IMMsgDataReadAck)
		if got.GetSessionType() != pb.SessionType_SESSION_TYPE_GROUP || got.GetUserId() != 1 {
			t.Fatalf("db_proxy got %v", got)
		}
	})
}

// TestGroupDrain: what waits for its turn is delivered before the server goes.
func TestGroupDrain(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.db.addGroup(50, 1, 2)
		w.db.ids[im.GroupKey(50)] = 7
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		alice.send(2, groupText(50, "one"))
		bob.want()
		done := make(chan error, 1)
		go func() { done <- w.h.Drain(context.Background()) }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("drained although a message waits")
		default:
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		bob.wantTexts(8)
	})
}

// TestGroupMetrics: what is counted has a name.
func TestGroupMetrics(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		problems, err := testutil.GatherAndLint(w.metrics.reg, "teamtalk_msg_group_dropped_total")
		if err != nil || len(problems) > 0 {
			t.Errorf("%v %v", err, problems)
		}
		w.db.addGroup(50, 1)
		alice := w.user(0, 1, win)
		alice.send(2, groupText(50, strings.Repeat("x", im.MaxContent)))
		alice.want(pb.CmdMsgDataAck)
		if n := w.counted("group_loads_total"); n != 1 {
			t.Errorf("%v loads", n)
		}
	})
}

var _ session.LoopHandler = (*Server)(nil)
