package msg

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// form is how a client acknowledges deliveries: user and session of its IMMsgDataAck,
// from its own user and the other one of the conversation. A nil function: it never does.
type form struct{ single, own, group ackForm }

type ackForm func(self, peer uint32) (user, session uint32)

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
func (d *device) acks(f ackForm, peer, id uint32, t pb.SessionType) {
	d.w.t.Helper()
	if f == nil {
		return
	}
	user, ses := f(d.s.User, peer)
	d.send(0, pb.IMMsgDataAck_builder{UserId: &user, SessionId: &ses, MsgId: &id,
		SessionType: t.Enum()}.Build())
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

// TestReceiptForms: a client's acks of messages between two users are recognised in its
// form. From the first one on its senders wait for it, and it gets again, once, what it
// does not acknowledge. A client that never acknowledges has neither.
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
				if acks(pc.s) {
					t.Error("others wait for a connection that acknowledged its own messages only")
				}
			})
		})
	}
}

// TestGroupReceipts is TestReceiptForms for messages in groups. Of Windows, whose acks of
// messages between two users count, groups are not followed.
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

// TestAckOfOneOfSeveral: ids count up in each conversation, so several deliveries may
// have the one that an ack names.
func TestAckOfOneOfSeveral(t *testing.T) {
	tests := map[string]struct {
		user, session uint32 // of the ack of bob, user 2
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
				as := func(uint32, uint32) (uint32, uint32) { return test.user, test.session }
				bob.acks(as, 0, 1, inSingle)
				for name, d := range map[string]*device{"alice": alice, "carol": carol} {
					if released := len(d.got()) == 1; released != (name == test.want) {
						t.Errorf("%s's ack released: %v", name, released)
					}
				}
			})
		})
	}
}

// TestAmbiguousAck: an ack that names the client's own user only is for its own message
// from another device; without one, for the oldest delivery with that id.
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
		bob.acks(func(self, _ uint32) (uint32, uint32) { return 9, self }, 0, 2, inSingle)
		alice.want() // of another sender's message
		carol.want()
		for _, d := range []*device{alice, carol} {
			bob.acks(asSelf, 0, 2, inSingle)
			d.want(pb.CmdMsgDataAck)
		}
	})
}

// TestReadAckConfirms: a read ack answers every delivery of its conversation up to its
// id. It does not make a connection one that acknowledges.
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
		if n := w.counted("delivery_acks_unmatched_total"); n != 3 {
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

// TestAckLatencyIsSeen: the time from a text to its ack is measured, and the log names the
// device that an ack waited for in vain.
func TestAckLatencyIsSeen(t *testing.T) {
	var log bytes.Buffer
	inWorld(t, Options{Rate: -1, Log: slog.New(slog.NewTextHandler(&log, nil))}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, ios)
		sum := 0.0
		check := func(what string, count uint64, took float64) {
			t.Helper()
			n, all := w.sampled("ack_seconds")
			if last := all - sum; n != count || last < took || last > took+0.2 {
				t.Errorf("%s: %d acks, the last one after %g s, want %g s", what, n, last, took)
			}
			sum = all
		}
		alice.send(2, text(2, "hi"))
		check("acked at once", 1, 0)
		bob.acks(asPeer, 1, 1, inSingle)
		alice.send(3, text(2, "hi"))
		check("not acked yet", 1, 0)
		time.Sleep(time.Second)
		bob.acks(asPeer, 1, 2, inSingle)
		check("acked by the device", 2, 1)
		if log.Len() > 0 {
			t.Errorf("logged %s", &log)
		}
		alice.send(4, text(2, "hi"))
		time.Sleep(3 * time.Second)
		check("acked when the wait was over", 3, 2)
		want := fmt.Sprintf("conn=%d user=2 client=CLIENT_TYPE_IOS", bob.s.ID())
		if !strings.Contains(log.String(), want) {
			t.Errorf("logged %q, want %q in it", &log, want)
		}
	})
}

// TestWaitEndsForWantOfRoom: a device that acknowledges falls silent, and its deliveries
// are given up for want of room. No sender waits for them, nor for the device afterwards.
func TestWaitEndsForWantOfRoom(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		alice, bob, phone := w.user(0, 1, win), w.user(1, 2, win), w.user(1, 2, ios)
		alice.send(2, text(2, "hi"))
		bob.acks(asPeer, 1, 1, inSingle)
		phone.send(2, text(3, "own"))
		bob.acks(asPeer, 3, 1, inSingle)
		if !waitsFor(alice, 3, 2) {
			t.Fatal("bob is not waited for")
		}
		for seq := range uint16(300) {
			phone.send(seq+3, text(3, "own"))
		}
		alice.want(pb.CmdMsgDataAck)
		if waitsFor(alice, 4, 2) {
			t.Fatal("bob is waited for, although he fell silent")
		}
	})
}

// TestWaitEndsWithConnection: the sender of a message does not wait for a connection that
// was kicked or closed, but waits for another device that acknowledges.
func TestWaitEndsWithConnection(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(w *world, bob *device)
	}{
		{"kicked", func(w *world, _ *device) { w.user(0, 2, mac) }},
		{"closed", func(_ *world, bob *device) { bob.hangUp() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, Options{Rate: -1}, func(w *world) {
				alice, bob, phone := w.user(0, 1, win), w.user(1, 2, win), w.user(0, 2, ios)
				alice.send(2, text(2, "one"))
				alice.want(pb.CmdMsgDataAck)
				bob.acks(asPeer, 1, 1, inSingle)
				if !waitsFor(alice, 3, 2) {
					t.Fatal("not waited for")
				}
				phone.acks(asPeer, 1, 1, inSingle)
				c.end(w, bob)
				alice.want() // the phone may still answer
				phone.acks(asPeer, 1, 2, inSingle)
				alice.want(pb.CmdMsgDataAck)
				if !waitsFor(alice, 4, 2) {
					t.Fatal("the phone is not waited for")
				}
				phone.hangUp()
				alice.want(pb.CmdMsgDataAck)
			})
		})
	}
}

// TestRedeliveryInVain: a connection that does not acknowledge what was sent again is not
// followed until it acknowledges something. One that senders do not wait for is sent
// again what it lacks.
func TestRedeliveryInVain(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, ios)
		alice.send(2, text(2, "one"))
		bob.acks(asPeer, 1, 1, inSingle)
		bob.got()
		alice.send(3, text(2, "two"))
		time.Sleep(3 * time.Second)
		alice.send(4, text(2, "three"))
		// The second one after two seconds.
		alice.want(pb.CmdMsgDataAck, pb.CmdMsgDataAck, pb.CmdMsgDataAck)
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

// TestRememberedIsLittle: deliveries to a connection that never acknowledges hold no
// frames, only a few places, and those not for long.
func TestRememberedIsLittle(t *testing.T) {
	inWorld(t, Options{Rate: -1, Ack: AckStored}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, mac)
		for i := range 100 {
			alice.send(uint16(i+2), text(2, "text"))
		}
		u := func(field string) int { return kept(t, conversationOf(bob.s), "unacked", field) }
		bob.on(func() {
			if u("n") != maxRemembered || u("bytes") != 0 || u("ring") != maxRemembered {
				t.Errorf("%d deliveries, %d bytes, ring of %d", u("n"), u("bytes"), u("ring"))
			}
		})
		time.Sleep(rememberFor + 2*time.Second)
		bob.on(func() {
			waiting := kept(t, conversationLoop(bob.s.Loop()), "waiting")
			if u("n") != 0 || u("ring") != 0 || waiting != 0 {
				t.Errorf("%d deliveries, ring of %d, later", u("n"), u("ring"))
			}
		})
		if n := w.counted("unanswered_total"); n != 100 {
			t.Errorf("%v counted as unanswered", n)
		}
	})
}
