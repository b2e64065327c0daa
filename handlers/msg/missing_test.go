package msg

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// ofGroup returns a text of group 50 that another message server forwards.
func ofGroup(id, version uint32) *pb.MsgData {
	m := groupText(50, "x")
	m.FromUserID, m.MsgID, m.GroupVersion, m.HasGroupVersion = 1, id, version, true
	return m
}

// routed hands in messages of another message server.
func (w *world) routed(ms ...*pb.MsgData) {
	for _, m := range ms {
		w.route.link.Message(w.route.s, 0, m)
	}
	synctest.Wait()
}

// TestGroupMissing: messages that do not arrive are asked of db_proxy, and delivered in
// the order of their ids. What arrives later is not delivered.
func TestGroupMissing(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.db.addGroup(50, 1, 2)
		bob := w.user(1, 2, win)
		w.db.page = 2 // so that the search has several parts
		for id := uint32(1); id <= 12; id++ {
			if id != 9 {
				w.db.keep(ofGroup(id, 1))
			}
		}
		w.routed(ofGroup(1, 1))
		bob.wantTexts(1)
		w.routed(ofGroup(7, 1))
		time.Sleep(missing.AskAfter - time.Nanosecond)
		bob.wantTexts()
		time.Sleep(time.Nanosecond)
		bob.wantTexts(2, 3, 4, 5, 6, 7)
		w.routed(ofGroup(3, 1), ofGroup(7, 1), ofGroup(8, 1))
		bob.wantTexts(8)

		// The 9 is nowhere, the 10 is found, and the 11 arrives while it is waited for.
		late := w.user(0, 2, ios)
		w.routed(ofGroup(12, 1))
		w.routed(ofGroup(11, 1))
		newer := w.user(0, 1, win)
		time.Sleep(missing.Wait - time.Nanosecond)
		bob.wantTexts()
		time.Sleep(time.Nanosecond)
		bob.wantTexts(10, 11, 12)
		late.wantTexts(11, 12) // it was not connected when 8 was delivered
		newer.wantTexts()
		w.routed(ofGroup(9, 1))
		bob.wantTexts()
		for name, want := range map[string]float64{"group_gaps_total": 1, "group_late_total": 1,
			"group_repeated_total": 2, "group_waiting": 0} {
			if got := w.counted(name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if found, absent := w.counted("missing_total", "found"),
			w.counted("missing_total", "absent"); found != 6 || absent == 0 {
			t.Errorf("%v found, %v absent", found, absent)
		}
	})
}

// TestGroupMissingOfMembers: a found message goes to no user that joined after the
// last message before it.
func TestGroupMissingOfMembers(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.db.addGroup(50, 1, 2)
		w.db.keep(ofGroup(2, 1), ofGroup(4, 2), ofGroup(6, 4))
		bob, carol := w.user(1, 2, win), w.user(1, 3, win)
		w.routed(ofGroup(1, 1))
		bob.wantTexts(1)
		w.db.change(50, func(g *dbGroup) { g.version, g.members = 2, []uint32{1, 2, 3} })
		w.routed(ofGroup(3, 2))
		time.Sleep(missing.AskAfter)
		bob.wantTexts(2, 3)
		carol.wantTexts(3)
		w.routed(ofGroup(5, 2))
		time.Sleep(missing.AskAfter)
		bob.wantTexts(4, 5)
		carol.wantTexts(4, 5)
		// Two changes at once: carol may have left and come again.
		w.db.change(50, func(g *dbGroup) { g.version = 4 })
		w.routed(ofGroup(7, 4))
		time.Sleep(missing.Wait)
		bob.wantTexts(7)
		carol.wantTexts(7)
	})
}

// TestGroupMissingUnanswered: a db_proxy that does not answer delays a message, and not
// for long.
func TestGroupMissingUnanswered(t *testing.T) {
	for name, set := range map[string]func(db *dbStand){
		"error": func(db *dbStand) { db.silent = true },
		"hangs": func(db *dbStand) { db.hold = true },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				w.db.addGroup(50, 1, 2)
				bob := w.user(1, 2, win)
				w.routed(ofGroup(1, 1))
				bob.wantTexts(1)
				set(w.db)
				w.db.keep(ofGroup(2, 1))
				w.routed(ofGroup(3, 1))
				time.Sleep(missing.GiveUp - time.Nanosecond)
				bob.wantTexts()
				time.Sleep(time.Nanosecond)
				bob.wantTexts(3)
				w.routed(ofGroup(2, 1))
				bob.wantTexts()
			})
		})
	}
}

// TestTurnsMissing: as TestGroupMissing, of two users.
func TestTurnsMissing(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		bob := w.user(0, 2, win)
		received := func(what string, d *device, want ...uint32) {
			t.Helper()
			if got := d.ids(); !slices.Equal(got, want) {
				t.Fatalf("%s: received %v, want %v", what, got, want)
			}
		}
		for id := uint32(6); id <= 20; id++ {
			w.db.keep(following(id, id-1))
		}
		time.Sleep(10 * time.Second) // bob was connected long before
		w.routed(following(7, 6))
		time.Sleep(missing.AskAfter)
		received("the predecessor is known by its id", bob, 6, 7)
		w.routed(following(6, 5), following(7, 6))
		received("they arrive late", bob)
		w.routed(following(11, 0))
		received("stored long after its predecessor", bob)
		time.Sleep(missing.AskAfter)
		received("all between are missing", bob, 8, 9, 10, 11)
		phone := w.user(1, 2, ios)
		w.routed(following(13, 12))
		time.Sleep(missing.AskAfter)
		received("a device from before", bob, 12, 13)
		received("a device that connected since", phone, 13)
		w.db.silent = true
		w.routed(following(15, 14))
		time.Sleep(missing.GiveUp - time.Nanosecond)
		received("db_proxy does not answer", bob)
		time.Sleep(time.Nanosecond)
		received("db_proxy did not answer", bob, 15)
		w.routed(following(14, 13))
		received("it arrives after the next one", bob)
		again := following(15, 14)
		again.Resent, again.Age = true, 1000
		w.routed(again)
		received("sent again", bob)
		w.routed(fromElsewhere(12))
		received("found before, and forwarded by a C++ server", bob)
	})
}

// TestFoundIsAcknowledged: the sender's server waits for the ack of a message that has not
// arrived here, too.
func TestFoundIsAcknowledged(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		bob := w.user(0, 2, win)
		w.db.keep(following(6, 5))
		time.Sleep(10 * time.Second) // bob was connected long before
		w.routed(following(7, 6))
		time.Sleep(missing.AskAfter)
		w.route.take()
		bob.acks(asPeer, 1, 6, inSingle)
		synctest.Wait()
		for _, r := range w.route.take() {
			if ack, ok := r.m.(*pb.IMMsgDataAck); ok && ack.GetMsgId() == 6 &&
				ack.GetSessionId() == 1 && ack.GetUserId() == 2 {
				return
			}
		}
		t.Error("the ack was not forwarded")
	})
}

// TestGroupBegins: a server that gets the messages of a group again, and has missed some, does not
// wait for those. It asks for the members again.
func TestGroupBegins(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.db.addGroup(50, 1, 2)
		w.db.keep(ofGroup(2, 1), ofGroup(3, 1))
		bob := w.user(1, 2, win)
		w.routed(ofGroup(1, 1))
		bob.wantTexts(1)
		w.db.loads(50)
		w.route.link.Message(w.route.s, 0,
			pb.IMRoleSet_builder{Master: new(uint32(0)), BegunGroups: []uint32{49, 50}}.Build())
		w.routed(ofGroup(4, 1))
		time.Sleep(settleWait)
		bob.wantTexts(4)
		if n := w.db.loads(50); n != 1 {
			t.Errorf("the members were asked for %d times, want once", n)
		}
		w.routed(ofGroup(6, 1))
		time.Sleep(missing.Wait)
		bob.wantTexts(6) // the group is followed again
		if found := w.counted("missing_total", "found"); found != 0 {
			t.Errorf("%v messages from before were searched for", found)
		}
	})
}
