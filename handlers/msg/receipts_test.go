package msg

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// form is how a client acknowledges deliveries: user and session of its IMMsgDataAck, from its own
// user and the other one of the conversation. A nil function: it never does.
type form struct {
	single, own, group func(self, peer uint32) (user, session uint32)
}

func asPeer(_, peer uint32) (user, session uint32)            { return 0, peer }
func asPeerOdd(_, peer uint32) (user, session uint32)         { return 4711, peer }
func asSelfFromPeer(self, peer uint32) (user, session uint32) { return peer, self }
func asSelf(self, _ uint32) (user, session uint32)            { return self, self }
func asOurs(self, peer uint32) (user, session uint32)         { return self, peer }

// forms is the table of how clients acknowledge.
var forms = map[string]form{
	"Windows": {single: asPeerOdd, own: asPeerOdd},
	"iOS":     {single: asPeer, own: asPeer, group: asPeer},
	"Android": {single: asSelfFromPeer, own: asSelf, group: asOurs},
	"ours":    {single: asOurs, own: asSelf, group: asOurs},
	"Mac":     {},
	"web":     {},
}

// acks has the device acknowledge a delivery in a form; with nil it does not.
func (d *device) acks(f func(self, peer uint32) (user, session uint32), peer, id uint32, t pb.SessionType) {
	d.w.t.Helper()
	if f == nil {
		return
	}
	user, ses := f(d.s.User, peer)
	d.send(0, pb.IMMsgDataAck_builder{UserId: &user, SessionId: &ses, MsgId: &id, SessionType: t.Enum()}.Build())
}

// reads has the device say that it has read a conversation up to id.
func (d *device) reads(peer, id uint32, t pb.SessionType) {
	d.w.t.Helper()
	d.send(5, pb.IMMsgDataReadAck_builder{UserId: proto.Uint32(77), SessionId: &peer, MsgId: &id,
		SessionType: t.Enum()}.Build())
}

const (
	inSingle = pb.SessionType_SESSION_TYPE_SINGLE
	inGroup  = pb.SessionType_SESSION_TYPE_GROUP
)

// ids are those of the messages that the device got since the last call.
func (d *device) ids() []uint32 {
	var ids []uint32
	for _, r := range d.got() {
		if m, ok := r.m.(*pb.MsgData); ok {
			ids = append(ids, m.MsgID)
		}
	}
	return ids
}

func wantIDs(t *testing.T, what string, got []uint32, want ...uint32) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// waitsFor has d send a message to user, and reports whether its ack is held back.
func waitsFor(d *device, seq uint16, user uint32) bool {
	d.got()
	d.send(seq, text(user, fmt.Sprint("text ", seq)))
	return len(d.got()) == 0
}

// TestReceiptForms: a client's acks of messages between two users are recognised in its form. From the
// first one on its senders wait for it, and it gets again, once, what it does not acknowledge. A
// client that never acknowledges has neither.
func TestReceiptForms(t *testing.T) {
	for name, f := range forms {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{Rate: -1}, func(w *world) {
				alice, bob := w.user(0, 1, win), w.user(1, 2, ios)
				if waitsFor(alice, 2, 2) {
					t.Fatal("the first message to a connection is waited for")
				}
				wantIDs(t, "delivered", bob.ids(), 1)
				bob.acks(f.single, 1, 1, inSingle)
				acks := f.single != nil
				if got := waitsFor(alice, 3, 2); got != acks {
					t.Fatalf("waited for: %v", got)
				}
				bob.acks(f.single, 1, 2, inSingle)
				if got := len(alice.got()); acks && got != 1 {
					t.Fatalf("%d acks", got)
				}
				wantIDs(t, "delivered", bob.ids(), 2)
				waitsFor(alice, 4, 2)
				time.Sleep(17 * time.Second)
				if acks {
					alice.want(pb.CmdMsgDataAck)
					wantIDs(t, "delivered, and sent again", bob.ids(), 3, 3)
				} else {
					wantIDs(t, "delivered", bob.ids(), 3)
				}
				time.Sleep(40 * time.Second)
				wantIDs(t, "sent once more", bob.ids())
			})
		})
	}
}

// TestOwnReceipts is TestReceiptForms for a user's own messages from another device.
func TestOwnReceipts(t *testing.T) {
	for name, f := range forms {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{Ack: AckStored}, func(w *world) {
				phone, pc := w.user(0, 1, ios), w.user(1, 1, win)
				phone.send(2, text(2, "one"))
				pc.acks(f.own, 2, 1, inSingle)
				phone.send(3, text(2, "two"))
				pc.acks(f.own, 2, 2, inSingle)
				phone.send(4, text(2, "three"))
				time.Sleep(17 * time.Second)
				if f.own != nil {
					wantIDs(t, "delivered", pc.ids(), 1, 2, 3, 3)
				} else {
					wantIDs(t, "delivered", pc.ids(), 1, 2, 3)
				}
				if pc.s.Data.(*client).unacked.answers.Load() {
					t.Error("others wait for a connection that acknowledged its own messages only")
				}
			})
		})
	}
}

// TestGroupReceipts is TestReceiptForms for messages in groups. Of Windows, whose acks of messages
// between two users count, groups are not followed.
func TestGroupReceipts(t *testing.T) {
	for name, f := range forms {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{Ack: AckStored}, func(w *world) {
				w.db.addGroup(1, 1, 2)
				alice, bob := w.user(0, 1, win), w.user(1, 2, ios)
				alice.send(2, text(2, "to bob"))
				bob.acks(f.single, 1, 1, inSingle)
				alice.send(3, groupText(1, "one")) // also of session 1, also with id 1
				bob.got()
				bob.acks(f.group, 1, 1, inGroup)
				alice.send(4, groupText(1, "two"))
				w.route.take()
				bob.acks(f.group, 1, 2, inGroup)
				if n := len(w.route.take()); n != 0 {
					t.Errorf("%d messages to route_server: nobody waits for a group's acks", n)
				}
				alice.send(5, groupText(1, "three"))
				time.Sleep(17 * time.Second)
				if f.group != nil {
					wantIDs(t, "delivered", bob.ids(), 2, 3, 3)
				} else {
					wantIDs(t, "delivered", bob.ids(), 2, 3)
				}
			})
		})
	}
}

// TestAckOfOneOfSeveral: ids count up in each conversation, so several deliveries may have the one
// that an ack names.
func TestAckOfOneOfSeveral(t *testing.T) {
	tests := map[string]struct {
		user, session uint32 // of bob's ack, who is 2
		want          string // whose ack it releases
	}{
		"Windows, of alice's":            {4711, 1, "alice"},
		"iOS, of carol's":                {0, 3, "carol"},
		"Android, of carol's":            {3, 2, "carol"},
		"Android, of a user unknown":     {9, 2, ""},
		"Android, of bob's own":          {2, 2, ""},
		"of a conversation without that": {2, 9, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{Rate: -1}, func(w *world) {
				alice, carol, dave := w.user(0, 1, win), w.user(1, 3, win), w.user(0, 4, win)
				bob, bobPC := w.user(1, 2, ios), w.user(0, 2, win)
				dave.send(2, text(2, "so that bob is waited for"))
				bob.acks(asPeer, 4, 1, inSingle)
				for _, d := range []*device{alice, carol} {
					if !waitsFor(d, 2, 2) {
						t.Fatal("not waited for")
					}
				}
				bobPC.send(2, text(5, "bob's own, with id 1"))
				bob.acks(func(uint32, uint32) (uint32, uint32) { return test.user, test.session }, 0, 1, inSingle)
				for who, d := range map[string]*device{"alice": alice, "carol": carol} {
					if released := len(d.got()) == 1; released != (who == test.want) {
						t.Errorf("%s's ack released: %v", who, released)
					}
				}
			})
		})
	}
}

// TestAmbiguousAck: an ack that names the client's own user only is for its own message from another
// device; without one, for the oldest delivery with that id.
func TestAmbiguousAck(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		alice, carol, bob := w.user(0, 1, win), w.user(1, 3, win), w.user(1, 2, ios)
		for i, d := range []*device{alice, carol} {
			d.send(2, text(2, "one"))
			bob.acks(asPeer, d.s.User, 1, inSingle)
			if i == 0 && !waitsFor(d, 3, 2) || i == 1 && !waitsFor(d, 3, 2) {
				t.Fatal("not waited for")
			}
		}
		for _, d := range []*device{alice, carol} {
			bob.acks(asSelf, 0, 2, inSingle)
			d.want(pb.CmdMsgDataAck)
		}
	})
}

// TestReadAckConfirms: a read ack answers every delivery of its conversation up to its id. It does
// not make a connection one that acknowledges.
func TestReadAckConfirms(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		alice, carol, bob := w.user(0, 1, win), w.user(1, 3, win), w.user(1, 2, android)
		waitsFor(alice, 2, 2)
		bob.reads(1, 1, inSingle) // the chat is open
		if waitsFor(alice, 3, 2) {
			t.Fatal("a connection is waited for that has sent read acks only")
		}
		bob.acks(asSelfFromPeer, 1, 2, inSingle) // the chat is closed
		for seq := uint16(4); seq < 7; seq++ {
			if !waitsFor(alice, seq, 2) {
				t.Fatal("not waited for")
			}
		}
		if !waitsFor(carol, 2, 2) {
			t.Fatal("not waited for")
		}
		bob.got()
		bob.reads(1, 4, inGroup) // a group of that number
		alice.want()
		bob.reads(1, 4, inSingle)
		for _, id := range []uint32{3, 4} {
			ack := &pb.IMMsgDataAck{}
			if got := alice.got(); len(got) > 0 {
				alice.frames = got[1:]
				ack = got[0].m.(*pb.IMMsgDataAck)
			}
			if ack.GetMsgId() != id {
				t.Errorf("ack %v, want %d", ack, id)
			}
		}
		alice.want()
		carol.want()
		time.Sleep(17 * time.Second)
		wantIDs(t, "sent again", bob.ids(), 5, 1) // alice's last one and carol's
	})
}

// TestUnmatchedAck: an ack that matches no delivery changes nothing.
func TestUnmatchedAck(t *testing.T) {
	inWorld(t, Options{Rate: -1, Registerer: prometheus.NewRegistry()}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		alice.send(2, text(2, "one"))
		bob.acks(asPeer, 1, 2, inSingle) // another id
		bob.acks(asPeer, 3, 1, inSingle) // another user
		bob.acks(asPeer, 1, 1, inGroup)
		if n := testutil.ToFloat64(w.h.metrics.acksUnmatched); n != 3 {
			t.Errorf("%v acks counted", n)
		}
		if waitsFor(alice, 3, 2) {
			t.Fatal("a connection is waited for that acknowledged nothing")
		}
		bob.acks(asPeer, 1, 2, inSingle)
		if !waitsFor(alice, 4, 2) {
			t.Fatal("not waited for")
		}
		time.Sleep(2100 * time.Millisecond) // in vain
		bob.acks(asPeer, 1, 99, inSingle)
		if waitsFor(alice, 5, 2) {
			t.Fatal("a connection that let a wait pass is waited for again after an ack of nothing")
		}
		bob.acks(asPeer, 1, 4, inSingle)
		if !waitsFor(alice, 6, 2) {
			t.Fatal("a connection that answered again is not waited for")
		}
	})
}

// TestAckWait: an ack waits two seconds, and the next one not.
func TestAckWait(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		alice, bob, bobPhone := w.user(0, 1, win), w.user(1, 2, win), w.user(0, 2, ios)
		alice.send(2, text(2, "hi"))
		alice.want(pb.CmdMsgDataAck)
		bobPhone.acks(asPeer, 1, 1, inSingle)
		bob.acks(asPeer, 1, 1, inSingle)
		alice.send(3, text(2, "one ack is enough"))
		alice.want()
		bobPhone.acks(asPeer, 1, 2, inSingle)
		alice.want(pb.CmdMsgDataAck)
		bob.acks(asPeer, 1, 2, inSingle)
		alice.want()

		start := time.Now()
		alice.send(4, text(2, "anybody?"))
		for len(alice.got()) == 0 {
			time.Sleep(session.TickInterval)
		}
		if d := time.Since(start); d < 2*time.Second || d > 2200*time.Millisecond {
			t.Fatalf("acked after %v, want 2 s", d)
		}
		alice.send(5, text(2, "nobody is waited for again"))
		alice.want(pb.CmdMsgDataAck)
		bobPhone.acks(asPeer, 1, 4, inSingle)
		alice.send(6, text(2, "until it answers"))
		alice.want()
	})
}

// TestRedeliveryInVain: a connection that does not acknowledge what was sent again is not followed
// until it acknowledges something. One that senders do not wait for is sent again what it lacks.
func TestRedeliveryInVain(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, ios)
		alice.send(2, text(2, "one"))
		bob.acks(asPeer, 1, 1, inSingle)
		bob.got()
		alice.send(3, text(2, "two"))
		time.Sleep(3 * time.Second)
		alice.send(4, text(2, "three"))
		alice.want(pb.CmdMsgDataAck, pb.CmdMsgDataAck, pb.CmdMsgDataAck) // the second after two seconds
		time.Sleep(17 * time.Second)
		wantIDs(t, "sent again", bob.ids(), 2, 3, 2, 3)
		time.Sleep(20 * time.Second)
		alice.send(5, text(2, "four"))
		time.Sleep(40 * time.Second)
		wantIDs(t, "delivered", bob.ids(), 4)
		alice.send(6, text(2, "five"))
		bob.acks(asPeer, 1, 5, inSingle)
		alice.send(7, text(2, "six"))
		time.Sleep(17 * time.Second)
		wantIDs(t, "followed again", bob.ids(), 5, 6, 6)
	})
}

// TestRememberedIsLittle: deliveries to a connection that never acknowledges hold no frames, only a
// few places, and those not for long.
func TestRememberedIsLittle(t *testing.T) {
	inWorld(t, Options{Rate: -1, Ack: AckStored}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, mac)
		for i := range 100 {
			alice.send(uint16(i+2), text(2, "text"))
		}
		u := &clientOf(bob.s).unacked
		if u.n != maxRemembered || u.bytes != 0 || len(u.ring) != maxRemembered {
			t.Errorf("%d deliveries, %d bytes, ring of %d", u.n, u.bytes, len(u.ring))
		}
		time.Sleep(rememberFor + 2*time.Second)
		if u.n != 0 || u.ring != nil || len(stateOf(bob.s.Loop()).waiting) != 0 {
			t.Errorf("%d deliveries, ring of %d, later", u.n, len(u.ring))
		}
		if n := testutil.ToFloat64(w.h.metrics.unanswered); n != 100 {
			t.Errorf("%v counted as unanswered", n)
		}
	})
}

// updatesOf are the reports of acks among what a route server was told.
func updatesOf(got []received) []string {
	var list []string
	for _, r := range got {
		if m, ok := r.m.(*pb.IMUserStatusUpdate); ok && m.HasAcks() {
			list = append(list, fmt.Sprint(m.GetUserId(), m.GetClientType(), m.GetAcks()))
		}
	}
	return list
}

// TestAckElsewhere: the receiver is on another message server. Its devices are waited for when a route
// server of ours says that one acknowledges.
func TestAckElsewhere(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		w.route.elsewhere = map[uint32]bool{2: true, 3: true}
		w.route.acking = map[uint32]bool{2: true}
		alice := w.user(0, 1, win)
		w.route.take()
		if waitsFor(alice, 2, 3) {
			t.Fatal("a device is waited for that does not acknowledge")
		}
		w.route.take()
		if !waitsFor(alice, 3, 2) {
			t.Fatal("not waited for")
		}
		if len(w.route.take()[0].m.(*pb.MsgData).AttachData) == 0 {
			t.Fatal("the other server is not told that the answer is waited for")
		}
		w.route.link.Message(w.route.s, 0, pb.IMMsgDataAck_builder{UserId: proto.Uint32(2),
			SessionId: proto.Uint32(1), MsgId: proto.Uint32(1), SessionType: inSingle.Enum()}.Build())
		alice.want(pb.CmdMsgDataAck)

		w.route.cpp = true // it answers, but does not know the question
		if waitsFor(alice, 4, 2) {
			t.Fatal("waited for on the word of a route server that does not know")
		}
		w.route.link.Close(w.route.s, nil)
		if err := w.route.link.Open(w.route.s); err != nil { // and does not say that it does
			t.Fatal(err)
		}
		asked := w.route.asked
		if waitsFor(alice, 5, 2) || w.route.asked != asked {
			t.Fatal("a C++ route server is asked about acks")
		}
	})
}

// TestAckEitherWay: the receiver has a device here that senders wait for. One elsewhere answers.
func TestAckEitherWay(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, ios)
		alice.send(2, text(2, "hi"))
		bob.acks(asPeer, 1, 1, inSingle)
		w.route.take()
		if !waitsFor(alice, 3, 2) {
			t.Fatal("not waited for")
		}
		if len(w.route.take()[0].m.(*pb.MsgData).AttachData) == 0 {
			t.Fatal("the other servers are not told that the answer is waited for")
		}
		w.route.link.Message(w.route.s, 0, pb.IMMsgDataAck_builder{UserId: proto.Uint32(2),
			SessionId: proto.Uint32(1), MsgId: proto.Uint32(2), SessionType: inSingle.Enum()}.Build())
		alice.want(pb.CmdMsgDataAck)
	})
}

// fromElsewhere is a message of user 1 on another server to user 2, whose sender waits.
func fromElsewhere(id uint32) *pb.MsgData {
	m := text(2, "hi")
	m.FromUserID, m.MsgID, m.AttachData = 1, id, wantAck
	return m
}

// TestReceiptToElsewhere is the other side of TestAckElsewhere: in each form the answer is passed on
// when it is waited for, as the other server expects it, and the route server learns whether the
// device acknowledges.
func TestReceiptToElsewhere(t *testing.T) {
	for name, f := range forms {
		if f.single == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				bob := w.user(0, 2, ios)
				w.route.take()
				quiet := fromElsewhere(1)
				quiet.AttachData = nil
				w.route.link.Message(w.route.s, 3, quiet)
				if got := bob.want(pb.CmdMsgData); got[0].seq != 0 || got[0].m.(*pb.MsgData).AttachData != nil {
					t.Fatalf("delivered %v", got[0])
				}
				bob.acks(f.single, 1, 1, inSingle)
				if got := w.route.take(); len(got) != 1 || fmt.Sprint(updatesOf(got)) != "[2 CLIENT_TYPE_IOS true]" {
					t.Fatalf("route server was told %v", got)
				}
				w.route.link.Message(w.route.s, 3, fromElsewhere(2))
				bob.acks(f.single, 1, 2, inSingle)
				got := w.route.take()
				if len(got) != 1 {
					t.Fatalf("route server was told %v", got)
				}
				if m := got[0].m.(*pb.IMMsgDataAck); m.GetUserId() != 2 || m.GetSessionId() != 1 || m.GetMsgId() != 2 {
					t.Fatalf("passed on %v", m)
				}
				w.route.link.Message(w.route.s, 3, fromElsewhere(3))
				bob.reads(1, 3, inSingle)
				if got := w.route.take(); len(got) != 2 || got[0].m.(*pb.IMMsgDataAck).GetMsgId() != 3 {
					t.Fatalf("of a read ack the route server was told %v", got)
				}
				w.route.link.Message(w.route.s, 3, fromElsewhere(4)) // in vain
				time.Sleep(4 * time.Second)
				if got := updatesOf(w.route.take()); fmt.Sprint(got) != "[2 CLIENT_TYPE_IOS false]" {
					t.Fatalf("route server was told %v", got)
				}
			})
		})
	}
}

// TestReportsOfAcks: route servers that forward acks learn which clients acknowledge, in updates and
// in the list of those here. C++ ones are told nothing of it in updates: each counts as a client.
func TestReportsOfAcks(t *testing.T) {
	inWorld(t, Options{Policy: Unlimited, Rate: -1}, func(w *world) {
		link := w.h.RouteLink()
		open := func(name string) (*session.Session, *linkStand) {
			stand := &linkStand{}
			s := session.NewLink(session.NextID(), name, stand)
			if err := link.Open(s); err != nil {
				t.Fatal(err)
			}
			return s, stand
		}
		late, lateStand := open("late")
		_, cpp := open("C++")
		alice := w.user(0, 1, win)
		bob, bobPC, second := w.user(1, 2, ios), w.user(0, 2, win), w.user(0, 2, ios)
		w.route.take()
		cpp.take()
		lateStand.take()
		alice.send(2, text(2, "one"))
		for _, d := range []*device{bob, second, bobPC} {
			d.acks(asPeer, 1, 1, inSingle)
		}
		want := "[2 CLIENT_TYPE_IOS true 2 CLIENT_TYPE_IOS true 2 CLIENT_TYPE_WINDOWS true]"
		if got := fmt.Sprint(updatesOf(w.route.take())); got != want {
			t.Errorf("reported %s, want %s", got, want)
		}
		bob.on(bob.Close)
		second.on(second.Close)
		if got := fmt.Sprint(updatesOf(w.route.take())); got != "[2 CLIENT_TYPE_IOS true]" {
			t.Errorf("reported %s of the one that stays", got)
		}
		if got := updatesOf(append(cpp.take(), lateStand.take()...)); len(got) != 0 {
			t.Errorf("route servers that did not say that they understand were told %v", got)
		}
		link.Message(late, 0, hello()) // it has missed reports: it gets all
		time.Sleep(2 * time.Second)
		var acking []uint32
		for _, r := range lateStand.take() {
			for _, u := range r.m.(*pb.IMOnlineUserInfo).GetUserStatList() {
				if u.GetAcks() {
					acking = append(acking, u.GetUserId())
				}
			}
		}
		wantIDs(t, "listed as acknowledging", acking, 2)
		if got := cpp.take(); len(got) != 0 {
			t.Errorf("a C++ route server was told %v", got)
		}
		// Without the others, receipts go to the one that is left, and with C++ alone nowhere.
		w.route.link.Close(w.route.s, nil)
		lateStand.take()
		link.Message(late, 0, fromElsewhere(9))
		bobPC.acks(asPeer, 1, 9, inSingle)
		if got := lateStand.take(); len(got) != 1 || got[0].m.Command() != pb.CmdMsgDataAck {
			t.Errorf("the second route server was told %v", got)
		}
		link.Close(late, nil)
		link.Message(late, 0, fromElsewhere(10))
		bobPC.acks(asPeer, 1, 10, inSingle)
		for _, r := range cpp.take() {
			if r.m.Command() != pb.CmdRoleSet {
				t.Errorf("a C++ route server was told %v", r.m)
			}
		}
		if w.h.presence.hasReceipts.Load() || len(w.h.presence.early) > 1 {
			t.Error("route servers that are gone are remembered")
		}
	})
}

// TestKeepFirstBehindCpp: a C++ route server says that a user with a pc is online whatever it is asked,
// which does not keep the user's phone out.
func TestKeepFirstBehindCpp(t *testing.T) {
	inWorld(t, Options{Policy: KeepFirst}, func(w *world) {
		w.route.cpp, w.route.elsewhere = true, map[uint32]bool{1: true}
		w.user(0, 1, ios)
		pc := w.connect(0)
		pc.send(1, loginReq(1, win))
		if res := pc.got()[0].m.(*pb.IMLoginRes); res.GetResultCode() == 0 {
			t.Error("a second pc was let in")
		}
	})
}

// ring is several message servers joined by a stand-in for a route server, which forwards everything
// to all others. It is one of ours, or behaves as the C++ one.
type ring struct {
	servers []*world
	cpp     bool
	acking  map[string]bool // by server, user and client type
	notes   int             // read notifies forwarded
}

// ringLink is one server's link to it.
type ringLink struct {
	r    *ring
	from int
}

func (l *ringLink) Close(error) {}

func (l *ringLink) SendMessage(seq uint16, m pb.Message) error {
	switch m := m.(type) {
	case *pb.IMUserStatusUpdate:
		if m.HasAcks() {
			l.r.acking[fmt.Sprint(l.from, m.GetUserId(), m.GetClientType())] = m.GetAcks()
		}
		return nil
	case *pb.MsgData:
	case *pb.IMMsgDataAck:
		if l.r.cpp {
			return nil
		}
	case *pb.IMMsgDataReadNotify:
		l.r.notes++
	default:
		return nil
	}
	for i, w := range l.r.servers {
		if i == l.from {
			continue
		}
		if d, ok := m.(*pb.MsgData); ok {
			clone := *d
			m = &clone
		}
		w.loops[0].do <- func() { w.route.link.Message(w.route.s, seq, m) }
	}
	return nil
}

// inRing runs f with two message servers, in a bubble of virtual time.
func inRing(t *testing.T, cpp bool, f func(r *ring)) {
	synctest.Test(t, func(t *testing.T) {
		r, db := &ring{cpp: cpp, acking: map[string]bool{}}, &dbStand{ids: map[uint64]uint32{}}
		for i := range 2 {
			w := newWorld(t, Options{Rate: -1}, db, &ringLink{r: r, from: i})
			if w.route.cpp = cpp; cpp {
				w.h.presence.forgetFeatures(w.route.s)
			}
			defer w.stop()
			r.servers = append(r.servers, w)
		}
		f(r)
	})
}

// TestReceiptsInRing: a sender on one message server, its receiver on the other. Over a route server of
// ours the ack waits for the receiver's; over a C++ one it does not wait.
func TestReceiptsInRing(t *testing.T) {
	for _, cpp := range []bool{false, true} {
		for name, f := range forms {
			t.Run(fmt.Sprintf("cpp=%v/%s", cpp, name), func(t *testing.T) {
				inRing(t, cpp, func(r *ring) {
					alice, bob := r.servers[0].user(0, 1, win), r.servers[1].user(1, 2, ios)
					r.servers[0].route.elsewhere = map[uint32]bool{2: true}
					acks := f.single != nil && !cpp
					for id := uint32(1); id <= 3; id++ {
						r.servers[0].route.acking = map[uint32]bool{2: r.acking["1 2 CLIENT_TYPE_IOS"]}
						if got, want := waitsFor(alice, uint16(id+1), 2), acks && id > 1; got != want {
							t.Fatalf("message %d waits: %v, want %v", id, got, want)
						}
						bob.acks(f.single, 1, id, inSingle)
						if got := len(alice.got()); acks && id > 1 && got != 1 {
							t.Fatalf("message %d: %d acks", id, got)
						}
					}
					if cpp && len(r.acking) > 0 {
						t.Errorf("a C++ route server was told %v", r.acking)
					}
				})
			})
		}
	}
}
