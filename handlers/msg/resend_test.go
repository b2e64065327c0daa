package msg

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/proto/pb"
)

// textsOf are the texts among what a route server was told: their ids, with the age in
// whole seconds of those that were sent again.
func textsOf(got []received) (list []string) {
	for _, r := range got {
		if m, ok := r.m.(*pb.MsgData); ok {
			s := fmt.Sprint(m.MsgID)
			if m.Resent {
				s += fmt.Sprint(" ", m.Age/1000, "s")
			}
			list = append(list, s)
		}
	}
	return list
}

// wantForwards checks the texts that the route server was told since the last call.
func (w *world) wantForwards(what string, want ...string) {
	w.t.Helper()
	if got := textsOf(w.route.take()); !slices.Equal(got, want) {
		w.t.Fatalf("%s: texts %q, want %q", what, got, want)
	}
}

// cutRoute ends the link to the route server, and joinRoute opens it again. The route
// server says what it understands if it is not a C++ one.
func (w *world) cutRoute() { w.route.link.Close(w.route.s, nil) }

func (w *world) joinRoute(cpp bool) {
	w.t.Helper()
	if err := w.route.link.Open(w.route.s); err != nil {
		w.t.Fatal(err)
	}
	if !cpp {
		w.route.link.Message(w.route.s, 0, hello())
	}
}

// TestTextsAreSentAgain: texts that the other message servers may not have are sent again
// when a route server is connected, and when one of the others is connected again.
func TestTextsAreSentAgain(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice := w.user(0, 1, win)
		seq := uint16(1)
		says := func() {
			seq++
			alice.send(seq, text(2, fmt.Sprint("text ", seq)))
		}
		time.Sleep(time.Second / 2) // between two ticks
		says()
		w.wantForwards("connected", "1")
		time.Sleep(34 * time.Second)
		says()
		w.cutRoute()
		time.Sleep(2 * time.Second)
		says()
		w.wantForwards("not connected", "2")
		w.joinRoute(false)
		w.wantForwards("connected again", "2 2s", "3 0s")
		says()
		w.wantForwards("what is forwarded from now on", "4")
		time.Sleep(1600 * time.Millisecond)
		missed := hello()
		missed.SetMissed(100)
		w.route.link.Message(w.route.s, 0, missed)
		w.wantForwards("another server connects that was away for a moment", "3 1s", "4 1s")
		time.Sleep(2 * time.Second)
		missed.SetMissed(5000)
		w.route.link.Message(w.route.s, 0, missed)
		w.wantForwards("one that was away for longer", "2 5s", "3 3s", "4 3s")
		time.Sleep(time.Minute)
		w.wantForwards("all have arrived")

		w.route.setFull(true)
		says()
		says()
		w.route.setFull(false)
		time.Sleep(time.Second)
		w.wantForwards("the link was full", "5 0s", "6 0s")
		time.Sleep(time.Minute)
		w.wantForwards("all have arrived")
		w.cutRoute()
		says()
		time.Sleep(36 * time.Second)
		w.joinRoute(false)
		time.Sleep(time.Minute)
		w.wantForwards("too old")
		if n := w.counted("texts_not_resent_total", "age"); n != 1 {
			t.Errorf("%v texts are too old, want 1", n)
		}
		if n := w.counted("texts_resent_total"); n != 9 {
			t.Errorf("%v texts were sent again, want 9", n)
		}
	})
}

// TestTextsSentAgainToCPP: a C++ route server sends everything to all message servers, and
// some of them do not recognise what they have.
func TestTextsSentAgainToCPP(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice := w.user(0, 1, win)
		alice.send(2, text(2, "perhaps lost"))
		w.cutRoute()
		alice.send(3, text(2, "surely lost"))
		w.wantForwards("before", "1")
		w.joinRoute(true)
		w.wantForwards("it may be one of ours")
		time.Sleep(2 * time.Second)
		if got := textsOf(w.route.take()); len(got) != 1 || got[0][:2] != "2 " {
			t.Fatalf("sent again %q", got)
		}
		time.Sleep(time.Minute)
		w.wantForwards("only once")
	})
}

// TestTextsKept: the texts that are kept are bounded.
func TestTextsKept(t *testing.T) {
	inWorld(t, Options{Ack: AckStored, Rate: -1}, func(w *world) {
		alice := w.user(0, 1, win)
		w.cutRoute()
		const n, each = 100, 100_000
		for i := range uint16(n) {
			m := text(2, string(make([]byte, each)))
			m.Type = pb.MsgType_MSG_TYPE_SINGLE_AUDIO
			alice.send(i+2, m)
		}
		w.joinRoute(false)
		sent := len(textsOf(w.route.take()))
		if dropped := w.counted("texts_not_resent_total", "room"); sent+int(dropped) != n ||
			sent*each > 8<<20 || sent < 70 {
			t.Fatalf("%d sent, %v dropped", sent, dropped)
		}
	})
}

// TestRouteAway: while the route server is away, and just before, members of a group and
// the users of a conversation on two message servers write. Each device gets everything
// once, in the order of the ids. One that connected since has it from the history.
func TestRouteAway(t *testing.T) {
	for _, late := range []time.Duration{0, 2500 * time.Millisecond} {
		t.Run(fmt.Sprint("the other one connects after ", late), func(t *testing.T) {
			inCluster(t, 2, Options{Ack: AckStored, Rate: -1, RedeliverAfter: -1},
				func(c *cluster) { testRouteAway(t, c, late) })
		})
	}
}

func testRouteAway(t *testing.T, c *cluster, late time.Duration) {
	here, there := c.servers[0], c.servers[1]
	c.db.addGroup(50, 1, 2, 3)
	alice, bob := here.user(0, 1, win), there.user(0, 2, win)
	time.Sleep(5 * time.Second) // they are connected for longer than any text is old
	seq := uint16(1)
	say := func(d *device) {
		seq++
		d.send(seq, groupText(50, fmt.Sprint("to all ", seq)))
		d.send(seq+1000, text(3-d.s.User, fmt.Sprint("to you ", seq)))
		time.Sleep(30 * time.Millisecond)
	}
	say(alice)
	say(bob)
	c.lost = true // the route server is being killed
	say(alice)
	say(bob)
	for _, w := range c.servers {
		w.cutRoute()
	}
	time.Sleep(time.Second)
	say(alice)
	say(bob)
	say(alice)
	c.away = []bool{false, true}
	c.lost = false
	here.joinRoute(false)
	carol := here.user(1, 3, ios)
	carol.got()
	say(alice) // is lost, if the other one connects later
	time.Sleep(late)
	c.away = nil
	there.joinRoute(false)
	say(bob)
	say(alice)
	time.Sleep(10 * time.Second)
	synctest.Wait()

	alice.wantBoth("alice", 2, 4, 6, 9)
	bob.wantBoth("bob", 1, 3, 5, 7, 8, 10)
	if ids := carol.ids(); !slices.Equal(ids, []uint32{8, 9, 10}) {
		t.Errorf("carol received %d, and came before 8", ids)
	}
}

// wantBoth checks that the device got these messages, once and in order, both of the other
// user and of the group.
func (d *device) wantBoth(name string, want ...uint32) {
	d.w.t.Helper()
	var single, group []uint32
	for _, r := range d.got() {
		if m, ok := r.m.(*pb.MsgData); ok && m.Type.IsGroup() {
			group = append(group, m.MsgID)
		} else if ok {
			single = append(single, m.MsgID)
		}
	}
	if !slices.Equal(single, want) || !slices.Equal(group, want) {
		d.w.t.Errorf("%s received %v, and %v of the group, want %v", name, single, group, want)
	}
}

// TestMissed: a message server with clients says for how long it was not connected.
func TestMissed(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		says := func() *pb.IMRoleSet {
			w.cutRoute()
			time.Sleep(3 * time.Second)
			w.route.take()
			w.joinRoute(false)
			return w.route.take()[0].m.(*pb.IMRoleSet)
		}
		if m := says(); m.HasMissed() {
			t.Errorf("without clients: %v", m)
		}
		w.user(0, 1, win)
		if m := says(); m.GetMissed() != 3000 {
			t.Errorf("with a client: %v", m)
		}
	})
}
