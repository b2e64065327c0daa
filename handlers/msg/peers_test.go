package msg

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

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

// TestAckElsewhere: the receiver is on another message server. Its devices are waited for
// when a route server of ours says that one acknowledges.
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
		w.route.link.Message(w.route.s, 0, routedAck(1))
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

// TestAckEitherWay: the receiver has a device here that senders wait for. One elsewhere
// answers.
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
		w.route.link.Message(w.route.s, 0, routedAck(2))
		alice.want(pb.CmdMsgDataAck)
	})
}

// routedAck is the answer of user 2 elsewhere to a message of user 1.
func routedAck(id uint32) *pb.IMMsgDataAck {
	return pb.IMMsgDataAck_builder{UserId: proto.Uint32(2), SessionId: proto.Uint32(1), MsgId: &id,
		SessionType: inSingle.Enum()}.Build()
}

// fromElsewhere is a message of user 1 on another server to user 2, whose sender waits.
func fromElsewhere(id uint32) *pb.MsgData {
	m := text(2, "hi")
	// the sender waits for an ack
	m.FromUserID, m.MsgID, m.AttachData = 1, id, []byte{0, 0, 0, 16, 11: 0}
	return m
}

// TestReceiptToElsewhere is the other side of TestAckElsewhere: in each form the answer
// is passed on when it is waited for, as the other server expects it, and the route
// server learns whether the device acknowledges.
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
				got := bob.want(pb.CmdMsgData)
				if got[0].seq != 0 || got[0].m.(*pb.MsgData).AttachData != nil {
					t.Fatalf("delivered %v", got[0])
				}
				bob.acks(f.single, 1, 1, inSingle)
				got = w.route.take()
				if len(got) != 1 || fmt.Sprint(updatesOf(got)) != "[2 CLIENT_TYPE_IOS true]" {
					t.Fatalf("route server was told %v", got)
				}
				w.route.link.Message(w.route.s, 3, fromElsewhere(2))
				bob.acks(f.single, 1, 2, inSingle)
				if got = w.route.take(); len(got) != 1 {
					t.Fatalf("route server was told %v", got)
				}
				same(t, got[0].m, routedAck(2))
				w.route.link.Message(w.route.s, 3, fromElsewhere(3))
				bob.reads(1, 3, inSingle)
				if got = w.route.take(); len(got) != 2 {
					t.Fatalf("of a read ack the route server was told %v", got)
				}
				same(t, got[0].m, routedAck(3))
				w.route.link.Message(w.route.s, 3, fromElsewhere(4)) // in vain
				time.Sleep(4 * time.Second)
				told := fmt.Sprint(updatesOf(w.route.take()))
				if told != "[2 CLIENT_TYPE_IOS false]" {
					t.Fatalf("route server was told %v", told)
				}
			})
		})
	}
}

// TestReportsOfAcks: route servers that forward acks learn which clients acknowledge, in
// updates and in the list of those here. C++ ones are told nothing of it in updates: each
// counts as a client.
func TestReportsOfAcks(t *testing.T) {
	inWorld(t, Options{Policy: Unlimited, Rate: -1}, func(w *world) {
		link := w.h.RouteLink()
		late, lateStand := w.openRoute("late")
		_, cpp := w.openRoute("C++")
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
		wantIDs(t, "listed as acknowledging", acking(lateStand.take()), 2)
		if got := cpp.take(); len(got) != 0 {
			t.Errorf("a C++ route server was told %v", got)
		}
		// Without the others, receipts go to the one that is left, and with C++ alone
		// nowhere.
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
		if w.h.peers.HasReceipts() || kept(t, w.h.peers, "early") > 1 {
			t.Error("route servers that are gone are remembered")
		}
	})
}

// openRoute opens a further link to a route server.
func (w *world) openRoute(name string) (*session.Link, *linkStand) {
	w.t.Helper()
	stand := &linkStand{}
	s := session.NewLink(session.NextID(), name, stand)
	if err := w.h.RouteLink().Open(s); err != nil {
		w.t.Fatal(err)
	}
	return s, stand
}

// acking returns the users whose clients acknowledge by the lists that a route server was
// told.
func acking(told []received) (users []uint32) {
	for _, r := range told {
		for _, u := range r.m.(*pb.IMOnlineUserInfo).GetUserStatList() {
			if u.GetAcks() {
				users = append(users, u.GetUserId())
			}
		}
	}
	return users
}

// TestKeepFirstBehindCpp: a C++ route server says that a user with a pc is online
// whatever it is asked, which does not keep the user's phone out.
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

// ring is several message servers joined by a stand-in for a route server, which forwards
// everything to all others. It is one of ours, or behaves as the C++ one.
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
	t.Helper()
	inRingWith(t, cpp, Options{Rate: -1}, f)
}

// inRingWith is inRing with the options of the servers.
func inRingWith(t *testing.T, cpp bool, opt Options, f func(r *ring)) {
	synctest.Test(t, func(t *testing.T) {
		r, db := &ring{cpp: cpp, acking: map[string]bool{}}, &dbStand{ids: map[uint64]uint32{}}
		for i := range 2 {
			w := newWorld(t, opt, db, &ringLink{r: r, from: i})
			if w.route.cpp = cpp; cpp {
				w.route.link.Close(w.route.s, nil) // it says nothing of receipts when it is back
				if err := w.route.link.Open(w.route.s); err != nil {
					t.Fatal(err)
				}
			}
			defer w.stop()
			r.servers = append(r.servers, w)
		}
		f(r)
	})
}

// TestReceiptsInRing: a sender on one message server, its receiver on the other. Over a
// route server of ours the ack waits for the receiver's; over a C++ one it does not wait.
func TestReceiptsInRing(t *testing.T) {
	for _, cpp := range []bool{false, true} {
		for name, f := range forms {
			t.Run(fmt.Sprintf("cpp=%v/%s", cpp, name), func(t *testing.T) {
				inRing(t, cpp, func(r *ring) {
					alice, bob := r.servers[0].user(0, 1, win), r.servers[1].user(1, 2, ios)
					r.servers[0].route.elsewhere = map[uint32]bool{2: true}
					acks := f.single != nil && !cpp
					for id := uint32(1); id <= 3; id++ {
						known := map[uint32]bool{2: r.acking["1 2 CLIENT_TYPE_IOS"]}
						r.servers[0].route.acking = known
						want := acks && id > 1
						if got := waitsFor(alice, uint16(id+1), 2); got != want {
							t.Fatalf("message %d waits: %v, want %v", id, got, want)
						}
						bob.acks(f.single, 1, id, inSingle)
						if got := len(alice.got()); want && got != 1 {
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
