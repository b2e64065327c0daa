package msg

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

const (
	win     = pb.ClientType_CLIENT_TYPE_WINDOWS
	mac     = pb.ClientType_CLIENT_TYPE_MAC
	ios     = pb.ClientType_CLIENT_TYPE_IOS
	android = pb.ClientType_CLIENT_TYPE_ANDROID
)

func TestMessageAckStored(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice, alicePhone := w.user(0, 1, win), w.user(1, 1, ios)
		bob, bobPhone := w.user(0, 2, win), w.user(1, 2, android)
		w.route.take()
		alice.send(7, text(2, "hi"))
		got := alice.want(pb.CmdMsgDataAck)
		ack := got[0].m.(*pb.IMMsgDataAck)
		if got[0].seq != 7 || ack.GetUserId() != 1 || ack.GetSessionId() != 2 ||
			ack.GetMsgId() != 1 || ack.GetSessionType() != pb.SessionType_SESSION_TYPE_SINGLE {
			t.Fatalf("ack %d %v", got[0].seq, ack)
		}
		for _, d := range []*device{alicePhone, bob, bobPhone} {
			got := d.want(pb.CmdMsgData)
			m := got[0].m.(*pb.MsgData)
			if got[0].seq != 0 || m.FromUserID != 1 || m.MsgID != 1 || string(m.Data) != "hi" ||
				m.AttachData != nil || m.CreateTime == 0 {
				t.Fatalf("delivered %d %+v", got[0].seq, m)
			}
		}
		if routed := w.route.take(); len(routed) != 1 ||
			routed[0].m.(*pb.MsgData).AttachData != nil {
			t.Fatalf("route server got %v", routed)
		}
	})
}

// TestAloneForwardsNoText: when there can be no other message server, texts are not
// forwarded, and no ack waits for devices elsewhere.
func TestAloneForwardsNoText(t *testing.T) {
	inWorld(t, Options{Alone: true}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		w.route.take()
		alice.send(7, text(2, "hi"))
		alice.want(pb.CmdMsgDataAck)
		bob.want(pb.CmdMsgData)
		alice.send(8, text(3, "to an absent user"))
		alice.want(pb.CmdMsgDataAck)
		if routed := w.route.take(); len(routed) != 0 {
			t.Fatalf("route server got %v", routed)
		}
	})
}

func TestMessageNotTaken(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice := w.user(0, 1, win)
		long := text(2, strings.Repeat("x", im.MaxContent+1))
		audio := text(2, "x")
		audio.Type = pb.MsgType_MSG_TYPE_SINGLE_AUDIO
		id := text(2, "x")
		id.ClientMsgID = make([]byte, im.MaxClientID+1)
		for i, m := range []*pb.MsgData{text(2, ""), text(1, "to myself"), long, audio, id} {
			alice.send(uint16(i+2), m)
			alice.want()
		}
		if n := len(w.db.stored); n != 0 {
			t.Fatalf("%d stored", n)
		}
		w.db.fail = true
		alice.send(20, text(2, "refused by the store"))
		alice.want()
		w.db.fail = false
		alice.send(20, text(2, "refused by the store"))
		alice.want(pb.CmdMsgDataAck) // the repeat of what was not stored is stored
	})
}

func TestResend(t *testing.T) {
	inWorld(t, Options{Ack: AckStored, Rate: 1000, RedeliverAfter: -1}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		alice.send(2, text(2, "one"))
		alice.send(2, text(2, "one")) // the same
		acks := alice.want(pb.CmdMsgDataAck, pb.CmdMsgDataAck)
		if a, b := acks[0].m.(*pb.IMMsgDataAck),
			acks[1].m.(*pb.IMMsgDataAck); a.GetMsgId() != 1 || b.GetMsgId() != 1 ||
			acks[1].seq != 2 {
			t.Fatalf("acks %v %v", a, b)
		}
		alice.send(3, text(2, "one")) // another seq, another message
		alice.send(3, text(2, "two")) // other content
		alice.send(0, text(2, "zero"))
		alice.send(0, text(2, "zero")) // without numbers nothing is a repeat
		bob.want(pb.CmdMsgData, pb.CmdMsgData, pb.CmdMsgData, pb.CmdMsgData, pb.CmdMsgData)
		alice.got()

		time.Sleep(61 * time.Second)
		alice.send(2, text(2, "one"))
		bob.want(pb.CmdMsgData) // too long ago

		w.db.hold = true
		alice.send(9, text(2, "slow"))
		alice.send(9, text(2, "slow")) // while the first one is on its way
		w.db.letGo()
		alice.got()
		bob.want(pb.CmdMsgData)
	})
}

// TestResendOnNewConnection: on a young connection the store is told how the client numbered
// its messages, and that they may be repeats. It decides.
func TestResendOnNewConnection(t *testing.T) {
	inWorld(t, Options{Ack: AckStored, RedeliverAfter: -1}, func(w *world) {
		bob, alice := w.user(1, 2, win), w.user(0, 1, ios)
		last := func(seq uint16, m *pb.MsgData) (sentAs, within uint32) {
			t.Helper()
			alice.send(seq, m)
			got := w.db.asked[len(w.db.asked)-1].(*pb.MsgData)
			return got.SentAs, got.ResentWithin
		}
		check := func(what string, seq uint16, m *pb.MsgData, sentAs, within uint32) {
			t.Helper()
			if a, w := last(seq, m); a != sentAs || w != within {
				t.Errorf("%s: sent as %#x within %d s, want %#x within %d s", what, a, w, sentAs,
					within)
			}
		}
		named := text(2, "named")
		named.ClientMsgID = []byte("id")
		check("a young connection", 7, text(2, "one"), 0x11<<16|7, 60)
		check("without a number", 0, text(2, "two"), 0, 0)
		check("with a client_msg_id", 8, named, 0, 0)
		time.Sleep(61 * time.Second)
		check("an older connection", 9, text(2, "three"), 0x11<<16|9, 0)

		bob.got()
		w.db.also = func(req pb.Message) (pb.Message, error) { // the store has it
			m, ok := req.(*pb.MsgData)
			if !ok || m.ResentWithin == 0 {
				return nil, nil
			}
			out := *m
			out.MsgID, out.Duplicate = 4, true
			return &out, nil
		}
		again := w.user(0, 1, ios)
		again.send(9, text(2, "three"))
		if id := again.want(pb.CmdMsgDataAck)[0].m.(*pb.IMMsgDataAck).GetMsgId(); id != 4 {
			t.Errorf("acked as %d, want 4", id)
		}
		bob.want()
	})
}

// A message whose answer from db_proxy is lost: repeated, it is delivered if it was
// stored, and stored if it was not.
func TestResendAfterNoAnswer(t *testing.T) {
	inWorld(t, Options{Hold: -1, Ack: AckStored}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		ids := func(d *device, cmd pb.Command) uint32 {
			t.Helper()
			if m, ok := d.want(cmd)[0].m.(*pb.MsgData); ok {
				return m.MsgID
			}
			return 0
		}
		// of the same second, and known: not to be taken for the next one
		alice.send(2, text(2, "same"))
		alice.want(pb.CmdMsgDataAck)
		bob.want(pb.CmdMsgData)

		w.db.lose = true
		alice.send(3, text(2, "same"))
		w.db.lose = false
		alice.want()
		bob.want()
		time.Sleep(5 * time.Second)
		alice.send(3, text(2, "same"))
		if ack := alice.want(pb.CmdMsgDataAck)[0]; ack.seq != 3 ||
			ack.m.(*pb.IMMsgDataAck).GetMsgId() != 2 {
			t.Errorf("ack %v", ack)
		}
		if id := ids(bob, pb.CmdMsgData); id != 2 || len(w.db.stored) != 2 {
			t.Errorf("delivered %d, %d stored", id, len(w.db.stored))
		}
		alice.send(3, text(2, "same")) // once more: known by now
		alice.want(pb.CmdMsgDataAck)
		bob.want()

		alice.send(4, text(2, "lost")) // the same again: not to be taken for the next one
		alice.want(pb.CmdMsgDataAck)
		bob.want(pb.CmdMsgData)
		w.db.lose = true
		alice.send(5, text(2, "lost"))
		w.db.lose, w.db.stored = false, w.db.stored[:3]
		alice.send(5, text(2, "lost"))
		alice.want(pb.CmdMsgDataAck)
		time.Sleep(missing.Wait) // for the 4
		if id := ids(bob, pb.CmdMsgData); id != 5 || len(w.db.stored) != 4 {
			t.Errorf("delivered %d, %d stored", id, len(w.db.stored))
		}
		if n := w.h.conversation.InFlight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestClientMsgID(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		m := text(2, "one")
		m.ClientMsgID = []byte("id-1")
		first := w.user(0, 1, win)
		first.send(2, m)
		first.want(pb.CmdMsgDataAck)
		first.on(first.Close)
		bob := w.user(1, 2, win)
		second := w.user(0, 1, win)
		second.send(9, m)
		ack := second.want(pb.CmdMsgDataAck)[0]
		if ack.seq != 9 || ack.m.(*pb.IMMsgDataAck).GetMsgId() != 1 {
			t.Fatalf("ack %v", ack)
		}
		bob.want() // delivered before
	})
}

func TestRate(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice := w.user(0, 1, ios) // repeats nothing
		for i := range 30 {
			alice.send(uint16(i+2), text(2, fmt.Sprint(i)))
		}
		if n := len(alice.got()); n != 20 {
			t.Fatalf("%d acks, want 20", n)
		}
		time.Sleep(time.Second)
		for i := range 30 {
			alice.send(uint16(i+100), text(2, fmt.Sprint(i)))
		}
		if n := len(alice.got()); n != 20 {
			t.Fatalf("%d acks a second later, want 20", n)
		}
	})
}

func TestAckDeliveredOffline(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		alice := w.user(0, 1, win)
		alice.send(2, text(2, "to somebody offline"))
		alice.want(pb.CmdMsgDataAck)
		if w.route.asked != 1 {
			t.Fatalf("route server asked %d times", w.route.asked)
		}
	})
}

// A message beyond the rate is not stored. Its sender repeats it, so what it writes in that
// conversation meanwhile must not overtake it. Other conversations go on, and so does this
// one when the sender does not repeat it.
func TestRateKeepsOrder(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice := w.user(0, 1, win)
		for i := range 22 {
			alice.send(uint16(i+2), text(2, fmt.Sprint(i)))
		}
		if n := len(alice.got()); n != 20 {
			t.Fatalf("%d acks, want 20", n)
		}
		time.Sleep(time.Second)
		alice.send(100, text(2, "behind them"))
		alice.want()
		alice.send(101, text(3, "another conversation"))
		alice.want(pb.CmdMsgDataAck)
		time.Sleep(5 * time.Second)
		for i, m := range []*pb.MsgData{text(2, "20"), text(2, "21"), text(2, "behind them")} {
			alice.send([]uint16{22, 23, 100}[i], m)
			if ack := alice.want(pb.CmdMsgDataAck)[0].m.(*pb.IMMsgDataAck); ack.GetMsgId() !=
				uint32(21+i) {
				t.Errorf("%s is acked as %d, want %d", m.Data, ack.GetMsgId(), 21+i)
			}
		}

		time.Sleep(time.Second)
		for i := range 21 {
			alice.send(uint16(i+200), text(4, fmt.Sprint(i)))
		}
		alice.got()
		time.Sleep(9 * time.Second) // a Windows client would have repeated it
		alice.send(300, text(4, "given up"))
		alice.want(pb.CmdMsgDataAck)
	})
}

// Two users write to each other from two loops, as fast as they can: every device sees
// the conversation in the order of its ids.
func TestOrder(t *testing.T) {
	inWorld(t, Options{Ack: AckStored, Rate: -1}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		alicePhone, bobPhone := w.user(1, 1, ios), w.user(0, 2, ios)
		for i := range 200 {
			seq := uint16(i + 2)
			m := text(2, "from alice")
			alice.loop.do <- func() {
				alice.loop.Begin()
				_ = w.h.conversation.HandleMessage(alice.s, seq, m)
				alice.loop.End()
			}
			n := text(1, "from bob")
			bob.loop.do <- func() {
				bob.loop.Begin()
				_ = w.h.conversation.HandleMessage(bob.s, seq, n)
				bob.loop.End()
			}
		}
		synctest.Wait()
		for _, d := range []*device{alicePhone, bobPhone} {
			got := d.got()
			if len(got) != 400 {
				t.Fatalf("%d messages", len(got))
			}
			last := uint32(0)
			for _, g := range got {
				m := g.m.(*pb.MsgData)
				if m.MsgID != last+1 {
					t.Fatalf("message %d after %d", m.MsgID, last)
				}
				last = m.MsgID
			}
		}
	})
}

func TestQuery(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.user(0, 1, win)
		m := &pb.IMUnreadMsgCntReq{}
		m.SetUserId(77)
		m.SetAttachData([]byte("mine"))
		d.send(4, m)
		got := d.want(pb.CmdUnreadMsgCntRsp)[0]
		rsp := got.m.(*pb.IMUnreadMsgCntRsp)
		if got.seq != 4 || rsp.GetUserId() != 1 || rsp.GetTotalCnt() != 3 || rsp.HasAttachData() {
			t.Fatalf("answer %d %v", got.seq, rsp)
		}
	})
}

// A route server that connects learns of everyone from the list, and of later ones from
// updates: never of one twice, never of one not at all.
func TestRouteLinkList(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		a := w.user(0, 1, win)
		var second linkStand
		link := w.h.RouteLink()
		s := session.NewLink(session.NextID(), "second", &second)
		if err := link.Open(s); err != nil {
			t.Fatal(err)
		}
		w.user(1, 2, ios)
		a.on(a.Close)
		got := second.take()
		if got[0].m.(*pb.IMRoleSet).GetMaster() != 0 {
			t.Fatal("two route servers are told to forward")
		}
		if list := got[1].m.(*pb.IMOnlineUserInfo).GetUserStatList(); len(list) != 1 ||
			list[0].GetUserId() != 1 {
			t.Fatalf("list %v", list)
		}
		if on, off := got[2].m.(*pb.IMUserStatusUpdate),
			got[3].m.(*pb.IMUserStatusUpdate); len(got) != 4 || on.GetUserId() != 2 ||
			off.GetUserId() != 1 {
			t.Fatalf("updates %v", got[2:])
		}
		w.h.RouteLink().Close(w.route.s, nil)
		if got := second.take(); len(got) != 1 || got[0].m.(*pb.IMRoleSet).GetMaster() != 1 {
			t.Fatalf("the second one is not told that it forwards now: %v", got)
		}
	})
}

// A link that was full when somebody came or went learns of it afterwards.
func TestFullLink(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		w.route.take()
		w.login.take()
		w.route.setFull(true)
		w.login.setFull(true)
		bob.on(bob.Close)
		alice.send(2, text(2, "nobody takes this"))
		if n := w.counted("not_forwarded_total", pb.CmdMsgData.String()); n != 1 {
			t.Errorf("%v messages counted as not forwarded", n)
		}
		time.Sleep(3 * time.Second)
		w.route.setFull(false)
		w.login.setFull(false)
		time.Sleep(3 * time.Second)
		// The late text and the list are due at the same time, so either may be first.
		got := map[pb.Command]pb.Message{}
		sent := w.route.take()
		for _, r := range sent {
			got[r.m.Command()] = r.m
		}
		if len(sent) != 2 || got[pb.CmdMsgData] == nil || got[pb.CmdOnlineUserInfo] == nil {
			t.Fatalf("route server: %v", sent)
		}
		list := got[pb.CmdOnlineUserInfo].(*pb.IMOnlineUserInfo).GetUserStatList()
		if len(list) != 1 || list[0].GetUserId() != 1 {
			t.Errorf("list %v", list)
		}
		if got := w.login.take(); len(got) != 1 ||
			got[0].m.(*pb.IMMsgServInfo).GetCurConnCnt() != 1 {
			t.Errorf("login server: %v", got)
		}
	})
}

func TestPresenceNotifies(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		link := w.h.RouteLink()
		pc, phone := w.user(0, 1, win), w.user(1, 2, ios)
		st := &pb.UserStat{}
		st.SetUserId(2)
		st.SetStatus(pb.UserStatType_USER_STATUS_ONLINE)
		n := &pb.IMUserStatNotify{}
		n.SetUserStat(st)
		link.Message(w.route.s, 0, n)
		w.settle()
		pc.want(pb.CmdUserStatNotify)
		p := &pb.IMServerPCLoginStatusNotify{}
		p.SetUserId(2)
		p.SetLoginStatus(0)
		link.Message(w.route.s, 0, p)
		got := phone.want(pb.CmdPCLoginStatusNotify)[0].m.(*pb.IMPCLoginStatusNotify)
		if got.GetLoginStat() != statOffline {
			t.Fatalf("status %v", got.GetLoginStat())
		}
		pc.want()
	})
}
