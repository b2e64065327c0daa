package msg

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/proto/pb"
)

// readsSent are the read acks given to db_proxy since the last call, as session:id.
func (w *world) readsSent() []string {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	var list []string
	for _, m := range w.db.sent {
		if r, ok := m.(*pb.IMMsgDataReadAck); ok {
			list = append(list, fmt.Sprint(r.GetSessionId(), ":", r.GetMsgId()))
		}
	}
	w.db.sent = nil
	return list
}

func TestReadAck(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc, phone := w.user(0, 1, win), w.user(1, 1, ios)
		w.route.take()
		pc.reads(2, 5, inSingle)
		pc.want()
		n := phone.want(pb.CmdMsgDataReadNotify)[0].m.(*pb.IMMsgDataReadNotify)
		if n.GetUserId() != 1 || n.GetSessionId() != 2 || n.GetMsgId() != 5 {
			t.Fatalf("notify %v", n)
		}
		if got := w.db.sent[0].(*pb.IMMsgDataReadAck); got.GetUserId() != 1 {
			t.Fatalf("db_proxy got %v", got)
		}
		if w.db.sentKeys[0] != 1 {
			t.Fatalf("sent with the key %d: with the user's own it stays before the user's next "+
				"question",
				w.db.sentKeys[0])
		}
		if got := w.route.take(); len(got) != 1 || got[0].m.Command() != pb.CmdMsgDataReadNotify {
			t.Fatalf("route server got %v", got)
		}
		for _, step := range []struct {
			d            *device
			session, id  uint32
			kind         pb.SessionType
			notified     int
			what         string
			otherDevices *device
		}{
			{phone, 2, 5, inSingle, 0, "an answer to the notify", pc},
			{pc, 2, 4, inSingle, 0, "a step back", phone},
			{phone, 2, 6, inSingle, 1, "a step forward", pc},
			{pc, 2, 6, inGroup, 1, "a group of that number", phone},
			{pc, 3, 1, inSingle, 1, "another conversation", phone},
		} {
			step.d.reads(step.session, step.id, step.kind)
			if got := len(step.otherDevices.got()); got != step.notified {
				t.Errorf("%s: %d notifies, want %d", step.what, got, step.notified)
			}
			if got := len(w.route.take()); got != step.notified {
				t.Errorf("%s: %d notifies to route_server, want %d", step.what, got, step.notified)
			}
		}
		if got := fmt.Sprint(w.readsSent()); got != "[2:5 2:5 2:4 2:6 2:6 3:1]" {
			t.Errorf("db_proxy got %s", got) // all: an earlier one may not have been noted
		}
	})
}

// latest makes db_proxy answer with the newest id of every conversation.
func (db *dbStand) latest(id uint32) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.also = func(req pb.Message) (pb.Message, error) {
		m, ok := req.(*pb.IMGetLatestMsgIdReq)
		if !ok {
			return nil, nil
		}
		rsp := &pb.IMGetLatestMsgIdRsp{}
		rsp.SetUserId(m.GetUserId())
		rsp.SetSessionType(m.GetSessionType())
		rsp.SetSessionId(m.GetSessionId())
		rsp.SetLatestMsgId(id)
		return rsp, nil
	}
}

// TestReadAckBeyondTheNewest: a read ack of a message that does not exist silences no later
// one, here and on other message servers.
func TestReadAckBeyondTheNewest(t *testing.T) {
	for name, routed := range map[string]bool{"of a device here": false, "elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				pc, phone := w.user(0, 1, win), w.user(1, 1, ios)
				w.db.latest(7)
				reads := func(id uint32) (told []uint32) {
					if routed {
						n := &pb.IMMsgDataReadNotify{}
						n.SetUserId(1)
						n.SetSessionId(2)
						n.SetMsgId(id)
						n.SetSessionType(inSingle)
						w.route.link.Message(w.route.s, 0, n)
					} else {
						pc.reads(2, id, inSingle)
					}
					for _, r := range phone.got() {
						if n, ok := r.m.(*pb.IMMsgDataReadNotify); ok {
							told = append(told, n.GetMsgId())
						}
					}
					return told
				}
				reads(5)
				for _, beyond := range []uint32{4_000_000_000, 20} {
					reads(beyond)
					wantIDs(t, "the next message", reads(6), 6)
					wantIDs(t, "the one after it", reads(7), 7)
					wantIDs(t, "again", reads(7))
					asked := len(w.db.asked)
					wantIDs(t, "one step back", reads(6))
					wantIDs(t, "another one", reads(5))
					if n := len(w.db.asked) - asked; n != 1 {
						t.Errorf("db_proxy was asked %d times about one mark", n)
					}
				}
			})
		})
	}
}

// TestReadNotifiesEnd: two devices of one user that answer every notify with a read ack,
// on one message server, or on two, behind a route server of ours or a C++ one.
func TestReadNotifiesEnd(t *testing.T) {
	for name, test := range map[string]struct {
		second int
		cpp    bool
	}{"one server": {0, false}, "two servers": {1, false}, "two servers, C++ route": {1, true}} {
		t.Run(name, func(t *testing.T) {
			opt := Options{Rate: -1, Policy: Unlimited}
			inRingWith(t, test.cpp, opt, func(r *ring) {
				first := r.servers[0].user(0, 1, ios)
				devices := []*device{first, r.servers[test.second].user(1, 1, ios)}
				devices[0].got()
				notified := 0
				devices[0].reads(2, 7, inSingle)
				for range 100 {
					for _, d := range devices {
						for _, f := range d.got() {
							notified++
							d.reads(f.m.(*pb.IMMsgDataReadNotify).GetSessionId(), 7, inSingle)
						}
					}
				}
				if notified != 1 || r.notes > 1 {
					t.Errorf("%d notifies, %d between the servers", notified, r.notes)
				}
			})
		})
	}
}

// TestReadNotifyAgain: what another server repeats – a C++ one does, for each read ack –
// is told once.
func TestReadNotifyAgain(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		phone := w.user(1, 1, ios)
		note := func(id uint32) {
			m := &pb.IMMsgDataReadNotify{}
			m.SetUserId(1)
			m.SetSessionId(2)
			m.SetMsgId(id)
			m.SetSessionType(inSingle)
			w.route.link.Message(w.route.s, 0, m)
		}
		note(7)
		phone.want(pb.CmdMsgDataReadNotify)
		note(7)
		note(6)
		phone.want()
		note(8)
		phone.want(pb.CmdMsgDataReadNotify)
	})
}

// TestReadAckFails: what db_proxy was not given is not told, and counts when it is said
// again.
func TestReadAckFails(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc, phone := w.user(0, 1, win), w.user(1, 1, ios)
		db := &failingDB{dbStand: w.db, fails: true}
		w.h.Connect(w.db, db, w.route)
		pc.reads(2, 5, inSingle)
		phone.want()
		db.fails = false
		pc.reads(2, 5, inSingle)
		phone.want(pb.CmdMsgDataReadNotify)
	})
}

type failingDB struct {
	*dbStand
	fails bool
}

func (db *failingDB) Send(key uint64, seq uint16, m pb.Message) error {
	if db.fails {
		return im.Errorf(im.Unavailable, "no db_proxy is up")
	}
	return db.dbStand.Send(key, seq, m)
}

// TestReadAcksAreRated: beyond the rate only the last read ack of each conversation
// counts. A question for unread messages finds all of them passed on, and so does the end
// of the connection.
func TestReadAcksAreRated(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc := w.user(0, 1, win)
		for id := uint32(1); id <= 1000; id++ {
			pc.reads(2, id, inSingle)
			pc.reads(3, id, inSingle)
		}
		if got := w.readsSent(); len(got) != int(readBurst) {
			t.Fatalf("%d at once", len(got))
		}
		time.Sleep(time.Second)
		if got := fmt.Sprint(w.readsSent()); got != "[2:1000 3:1000]" {
			t.Errorf("then %s", got)
		}
		merged := func() float64 { return w.counted("read_acks_total", "merged") }
		if n := merged(); n != 2000-readBurst-2 {
			t.Errorf("%v merged", n)
		}

		time.Sleep(time.Minute)
		for id := uint32(1001); id <= 1150; id++ {
			pc.reads(2, id, inSingle)
		}
		pc.reads(2, 1, inSingle) // a late one
		w.readsSent()
		pc.send(8, history(0))
		if got := w.readsSent(); len(got) > 0 {
			t.Errorf("before a question for something else %s", got)
		}
		pc.send(9, pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(1))}.Build())
		if got := fmt.Sprint(w.readsSent()); got != "[2:1150]" {
			t.Errorf("before a question %s", got)
		}

		for peer := range uint32(2000) {
			pc.reads(peer+10, 1, inSingle)
		}
		w.readsSent()
		pc.on(pc.Close)
		if got := w.readsSent(); len(got) != 2000 {
			t.Errorf("%d at the end", len(got))
		}
		wantNoReads(w)
	})
}

// wantNoReads checks that no read acks are kept.
func wantNoReads(w *world) {
	w.t.Helper()
	w.user(0, 99, win).on(func() {
		part := conversationLoop(w.loops[0].Loop)
		if n := kept(w.t, part, "reads"); n != 0 {
			w.t.Errorf("read acks of %d connections are kept", n)
		}
	})
	if n := kept(w.t, w.h.conversation.Reads, "held"); n != 0 {
		w.t.Errorf("%d read acks stay counted", n)
	}
}

// waitingReads returns how many read acks wait on a loop. On the loop.
func waitingReads(t *testing.T, part *conversation.Loop) (n int) {
	t.Helper()
	reads := reflect.ValueOf(part).Elem().FieldByName("reads").MapRange()
	for reads.Next() {
		n += reads.Value().Elem().FieldByName("list").Len()
	}
	return n
}

// TestAllConversationsAreRead: a user marks 3,000 conversations and groups as read, twice in
// a row. All of them are passed on, no faster than the rate, the connection stays, and the
// client's next question does not wait for them.
func TestAllConversationsAreRead(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc := w.user(0, 1, win)
		const n = 3000
		for id := uint32(5); id <= 6; id++ {
			for i := range uint32(n / 2) {
				pc.reads(i+2, id, inSingle)
				pc.reads(i+2, id, inGroup)
			}
		}
		asked := len(w.db.asked)
		pc.send(7, history(0))
		if len(w.db.asked) != asked+1 {
			t.Error("the next question waits")
		}
		newest := map[string]bool{}
		take := func() (count int) {
			for _, r := range w.readsSent() {
				newest[r], count = true, count+1
			}
			return count
		}
		take()
		time.Sleep(10 * time.Second)
		if sent := take(); sent > 10*readRate+10 {
			t.Errorf("%d read acks in 10 s", sent)
		}
		time.Sleep(n / readRate * time.Second)
		take()
		for i := range n / 2 {
			if !newest[fmt.Sprint(i+2, ":6")] {
				t.Fatalf("conversation %d was not read", i+2)
			}
		}
		if pc.isClosed() {
			t.Error("the connection was closed")
		}
		if n := w.counted("read_acks_total", "dropped"); n != 0 {
			t.Errorf("%v were dropped", n)
		}
		wantNoReads(w)
	})
}

// TestReadAcksOfInventedConversations: the read acks of a client that names ever new
// conversations are bounded, and so are those of many clients. What waits when they leave
// reaches db_proxy no faster than the loop's rate, and nothing stays.
func TestReadAcksOfInventedConversations(t *testing.T) {
	inWorld(t, Options{Policy: Unlimited}, func(w *world) {
		var clients []*device
		for len(clients) < 70 {
			pc := w.user(0, 1, win)
			clients = append(clients, pc)
			pc.on(func() {
				for peer := uint32(1); peer <= maxHeldReads+1000; peer++ {
					m := pb.IMMsgDataReadAck_builder{UserId: &peer, SessionId: &peer,
						MsgId: &peer, SessionType: inSingle.Enum()}.Build()
					_ = w.h.conversation.Reads.HandleReadAck(pc.s, 1, m)
				}
			})
		}
		if n := w.counted("read_acks_total", "dropped"); n < 900 {
			t.Errorf("%v dropped because of their connection", n)
		}
		if w.counted("read_acks_total", "full") == 0 {
			t.Error("none dropped because of all connections")
		}
		if n := kept(t, w.h.conversation.Reads, "held"); n > maxAllReads {
			t.Errorf("%d wait", n)
		}
		w.readsSent()
		for _, pc := range clients {
			pc.on(pc.Close)
		}
		if n := len(w.readsSent()); n > flushBurst+len(clients)*freeReads {
			t.Errorf("%d were passed on at once", n)
		}
		time.Sleep(200 * time.Millisecond)
		w.user(0, 99, win).on(func() { // nothing of a connection that is gone is free
			n := waitingReads(t, conversationLoop(w.loops[0].Loop))
			if c := kept(t, w.h.conversation.Reads, "held"); n == 0 || c != n {
				t.Errorf("%d of connections that are gone wait, %d count", n, c)
			}
		})
		w.readsSent()
		time.Sleep(time.Second)
		if n := len(w.readsSent()); n > 1.2*flushRate {
			t.Errorf("%d were passed on in a second", n)
		}
		time.Sleep(maxAllReads / flushRate * time.Second)
		wantNoReads(w)
	})
}

var _ Peer = (*failingDB)(nil)
var _ session.MessageCarrier = (*ringLink)(nil)
