package msg

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
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
		for id := uint32(1001); id <= 1050; id++ {
			pc.reads(2, id, inSingle)
		}
		pc.reads(2, 1, inSingle) // a late one
		w.readsSent()
		pc.send(9, pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(1))}.Build())
		if got := fmt.Sprint(w.readsSent()); got != "[2:1050]" {
			t.Errorf("before a question %s", got)
		}

		for peer := range uint32(maxHeldReads + 10) {
			pc.reads(peer+10, 1, inSingle)
		}
		w.readsSent()
		if n := w.counted("read_acks_total", "dropped"); n == 0 {
			t.Error("the read acks that wait are not bounded")
		}
		pc.on(pc.Close)
		if got := w.readsSent(); len(got) != maxHeldReads {
			t.Errorf("%d at the end", len(got))
		}
		w.user(0, 2, win).on(func() {
			if kept(t, &stateOf(w.loops[0].Loop).conversation, "reads") != 0 {
				t.Error("read acks of a connection that is gone are kept")
			}
		})
	})
}

var _ Peer = (*failingDB)(nil)
var _ session.MessageCarrier = (*ringLink)(nil)
