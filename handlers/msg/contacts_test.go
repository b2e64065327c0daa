package msg

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/link"
	"teamtalk/proto/pb"
)

// sessionsOf answers with users' conversations: with users, and with a group of the same
// numbers plus 1,000.
func sessionsOf(lists map[uint32][]uint32) func(pb.Message) (pb.Message, error) {
	return func(req pb.Message) (pb.Message, error) {
		m, ok := req.(*pb.IMRecentContactSessionReq)
		if !ok {
			return nil, nil
		}
		var list []*pb.ContactSessionInfo
		for _, peer := range lists[m.GetUserId()] {
			list = append(list,
				pb.ContactSessionInfo_builder{SessionId: proto.Uint32(peer),
					SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum()}.Build(),
				pb.ContactSessionInfo_builder{SessionId: proto.Uint32(peer + 1000),
					SessionType: pb.SessionType_SESSION_TYPE_GROUP.Enum()}.Build())
		}
		return pb.IMRecentContactSessionRsp_builder{UserId: proto.Uint32(m.GetUserId()),
			ContactSessionList: list}.Build(), nil
	}
}

// TestContacts: a pc client hears of those it has a conversation with, and of its own
// user; of more once messages pass.
func TestContacts(t *testing.T) {
	inWorld(t, Options{Presence: PresenceContacts, Ack: AckStored}, func(w *world) {
		w.db.also = sessionsOf(map[uint32][]uint32{1: {2, 3}, 2: {1}})
		a, aPhone, b, c := w.user(0, 1, win), w.user(1, 1, ios), w.user(1, 2, mac),
			w.user(0, 3, win)
		all := func() {
			for user := range uint32(8) {
				w.hear(user, statOnline)
				w.hear(1000+user, statOnline)
			}
			w.settle()
		}
		all()
		wantStats(t, "a", a, "1 1", "2 1", "3 1")
		wantStats(t, "b", b, "1 1", "2 1")
		wantStats(t, "c", c, "3 1")
		aPhone.want()

		c.send(2, text(4, "to a user elsewhere")) // c → 4: c's own doing
		c.want(pb.CmdMsgDataAck)
		c.send(3, text(2, "to b")) // c ↔ b
		c.want(pb.CmdMsgDataAck)
		b.want(pb.CmdMsgData)
		aPhone.send(2, text(5, "from the phone")) // a's pc gets it too
		aPhone.want(pb.CmdMsgDataAck)
		a.want(pb.CmdMsgData)
		w.h.RouteLink().Message(w.route.s, 0, &pb.MsgData{FromUserID: 6, ToSessionID: 1, MsgID: 1,
			CreateTime: 1,
			Type:       pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("from elsewhere")})
		a.want(pb.CmdMsgData)
		aPhone.want(pb.CmdMsgData)
		all()
		wantStats(t, "a", a, "1 1", "2 1", "3 1", "5 1", "6 1")
		wantStats(t, "b", b, "1 1", "2 1", "3 1")
		wantStats(t, "c", c, "2 1", "3 1", "4 1")
		aPhone.want()

		for _, d := range []*device{a, b, c, aPhone} {
			d.on(d.Close)
		}
		for i, l := range w.loops {
			for _, field := range []string{"of", "unknown", "asking", "waiting"} {
				if n := kept(t, presenceLoop(l.Loop), "contacts", field); n != 0 {
					t.Errorf("loop %d remembers %d %s", i, n, field)
				}
			}
		}
	})
}

// TestContactsNotKnown: until its list is known a client hears of all users. A query that
// failed is repeated. Few queries are open at once.
func TestContactsNotKnown(t *testing.T) {
	inWorld(t, Options{Presence: PresenceContacts}, func(w *world) {
		fail, asked := true, 0
		lists := sessionsOf(map[uint32][]uint32{1: {2}})
		w.db.also = func(req pb.Message) (pb.Message, error) {
			if rsp, _ := lists(req); rsp != nil {
				asked++
				if fail {
					return nil, errors.New("down")
				}
				return rsp, nil
			}
			return nil, nil
		}
		pc := w.user(0, 1, win)
		pc.want() // the login was answered all the same
		w.hear(7, statOnline)
		w.settle()
		wantStats(t, "pc", pc, "7 1")
		w.db.mu.Lock()
		fail = false
		w.db.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.hear(7, statOffline)
		w.hear(2, statOffline)
		w.settle()
		wantStats(t, "pc", pc, "2 2")
		if asked < 2 || asked > 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestContactsTooLong: a list of conversations that is longer than servers carry is asked for
// once. Its client hears of all users.
func TestContactsTooLong(t *testing.T) {
	inWorld(t, Options{Presence: PresenceContacts}, func(w *world) {
		asked := 0
		w.db.also = func(req pb.Message) (pb.Message, error) {
			if _, ok := req.(*pb.IMRecentContactSessionReq); ok {
				asked++
				return nil, &link.Refusal{Reason: "the setting link.max_frame", TooLong: true}
			}
			return nil, nil
		}
		pc := w.user(0, 1, win)
		time.Sleep(10 * time.Second)
		w.hear(7, statOnline)
		w.settle()
		wantStats(t, "pc", pc, "7 1")
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		pc.on(pc.Close)
		if n := kept(t, presenceLoop(w.loops[0].Loop), "contacts", "unknown"); n != 0 {
			t.Errorf("the loop remembers %d clients with an unknown list", n)
		}
	})
}

// TestContactsBound: beyond maxContacts no more are kept.
func TestContactsBound(t *testing.T) {
	inWorld(t, Options{Presence: PresenceContacts}, func(w *world) {
		many := make([]uint32, maxContacts+50)
		for i := range many {
			many[i] = uint32(1000 - i)
		}
		w.db.also = sessionsOf(map[uint32][]uint32{1: many})
		pc := w.user(0, 1, win)
		if n := kept(t, presenceOf(pc.s), "contacts", "users"); n != maxContacts {
			t.Errorf("%d contacts kept, want %d", n, maxContacts)
		}
	})
}
