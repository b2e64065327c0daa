package mesh

import (
	"math/bits"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

// delays are those of the calls of a test: before and after they take effect.
type delays map[string][2]time.Duration

// long makes tests run all combinations and sizes, see .ci/test.
var long = os.Getenv("TEAMTALK_TEST_LONG") != ""

// manyDelays returns delays for up to four calls, each before and after it takes effect with one
// of two times. Any three of the times have all their combinations in the list; with long all
// of them have. An order of calls that is not safe depends on two or three.
func manyDelays(names ...string) (list []delays) {
	times := [2]time.Duration{0, 4 * time.Millisecond}
	if long {
		for set := range 1 << (2 * len(names)) {
			list = append(list, delays{})
			for i, name := range names {
				list[set][name] = [2]time.Duration{times[set>>(2*i)&1], times[set>>(2*i+1)&1]}
			}
		}
		return list
	}
	// An orthogonal array of strength 3: each time is the parity of some of four bits, of an
	// odd number of them. No three such sets are the sum of each other.
	parities := [...]uint{0b0001, 0b0010, 0b0100, 0b1000, 0b0111, 0b1011, 0b1101, 0b1110}
	for row := range uint(16) {
		list = append(list, delays{})
		for i, name := range names {
			for k := range 2 {
				d := list[row][name]
				d[k] = times[bits.OnesCount(row&parities[2*i+k])&1]
				list[row][name] = d
			}
		}
	}
	return list
}

// TestManyDelays: any three delays have all their combinations.
func TestManyDelays(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	list := manyDelays(names...)
	at := func(d delays, i int) time.Duration { return d[names[i/2]][i%2] }
	for i := range 8 {
		for j := range i {
			for k := range j {
				seen := map[[3]time.Duration]bool{}
				for _, d := range list {
					seen[[3]time.Duration{at(d, i), at(d, j), at(d, k)}] = true
				}
				if len(seen) != 8 {
					t.Errorf("delays %d, %d, %d have %d combinations, want 8", i, j, k, len(seen))
				}
			}
		}
	}
}

// use delays the calls to the store and to db_proxy.
func (d delays) use(c *cluster) {
	wait := func(call string, after bool) {
		if after {
			pause(d[call][1])
		} else {
			pause(d[call][0])
		}
	}
	c.setHook(func(_ string, call whereaboutstest.Operation, after bool) error {
		wait(string(call), after)
		return nil
	})
	c.db.setHook(func(_ string, after bool) error {
		wait("db", after)
		return nil
	})
}

// stop ends the delays.
func (d delays) stop(c *cluster) {
	c.setHook(nil)
	c.db.setHook(nil)
}

// TestNoGroupTextIsMissed lets a member of a group log in while a text of the group is stored and
// forwarded, with many delays of the calls. The client reads the history when its login is
// answered. The text is in it, or it arrives live. No other user of the message server is a
// member.
func TestNoGroupTextIsMissed(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		user, live, read := uint32(100), 0, 0
		for _, d := range manyDelays("apply", "mark", "lookup", "db") {
			for stored := range 8 {
				user++
				c.db.set(user, 1, user)
				a.send(c.db.text(1, user, user+1<<20)) // others settle the group
				settle()
				d.use(c)
				s := b.login(user, windows)
				time.Sleep(time.Duration(3*stored) * time.Millisecond)
				committed := time.Now()
				a.send(c.db.text(1, user, user))
				settle()
				d.stop(c)
				inHistory, arrived := b.has(s, committed, user)
				if !inHistory && !arrived {
					t.Errorf("delays %v: the text of %d ms is missed", d, 3*stored)
				}
				if inHistory {
					read++
				} else {
					live++
				}
				b.logout(s)
				settle()
				b.all()
			}
		}
		if n := a.forwards("unsettled"); int(n) != live+read || live == 0 || read == 0 {
			t.Errorf("%d texts arrived live, %d were in the history, %v went to all", live, read, n)
		}
	}, "a", "b")
}

// madeGroup is what a message server says of a group that a client of it has made.
func madeGroup(group uint32) *pb.IMRoleSet {
	return pb.IMRoleSet_builder{Master: proto.Uint32(0), MadeGroups: []uint32{group}}.Build()
}

// TestNoTextOfANewGroupIsMissed makes a group while a member logs in, and sends its first text from
// the message server that made it, with all delays of the calls. The text is in the history that
// the client reads, or it arrives live.
func TestNoTextOfANewGroupIsMissed(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		user, live, read := uint32(100), 0, 0
		for _, d := range manyDelays("apply", "mark", "lookup", "db") {
			for stored := range 8 {
				user++
				d.use(c)
				s := b.login(user, windows)
				time.Sleep(time.Duration(stored) * time.Millisecond)
				c.db.set(user, 1, user)
				a.send(madeGroup(user))
				time.Sleep(time.Duration(2*stored) * time.Millisecond)
				committed := time.Now()
				a.send(c.db.text(1, user, user))
				settle()
				d.stop(c)
				inHistory, arrived := b.has(s, committed, user)
				if !inHistory && !arrived {
					t.Errorf("delays %v: the text of %d ms is missed", d, 3*stored)
				}
				if inHistory {
					read++
				} else {
					live++
				}
				b.logout(s)
				settle()
				b.all()
			}
		}
		n, marked := a.forwards("unsettled"), a.forwards("marked")
		if live == 0 || read == 0 || n == 0 || marked == 0 {
			t.Errorf("%d texts arrived live, %d were in the history, %v went to all, %v to some",
				live, read, n, marked)
		}
	}, "a", "b")
}

// has reports whether a session finds a text that was stored at a time in its history, or whether
// the text of that id has arrived during the session.
func (n *node) has(s *login, stored time.Time, id uint32) (inHistory, arrived bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.state != "in" {
		n.c.t.Errorf("the login is %s", s.state)
	}
	for i, m := range n.got {
		if m, ok := m.(*pb.MsgData); ok && m.MsgID == id {
			arrived = arrived || !n.times[i].Before(s.at)
		}
	}
	return !s.at.Before(stored), arrived
}

// TestNoTextAfterAChangeIsMissed adds a user to a group while the user logs in, and sends a text to
// the group from a third message server after the change is stored, with many delays of the calls.
// The text is in the history that the client reads, or it arrives live.
func TestNoTextAfterAChangeIsMissed(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, d := nodes[0], nodes[1], nodes[2]
		a.login(1, windows)
		d.login(2, windows)
		user, live, read, marked := uint32(100), 0, 0, 0.
		for _, delay := range manyDelays("apply", "mark", "lookup", "db") {
			for _, times := range [][3]time.Duration{{0, 0, 1}, {1, 0, 25}, {2, 0, 14}, {5, 0, 0},
				{5, 3, 1}, {9, 3, 5}, {13, 2, 9}, {30, 0, 0}, {30, 0, 6}, {30, 6, 3}} {
				user++
				c.db.set(user, 1, 2)
				d.send(c.db.text(2, user, user+1<<20)) // settle the group
				settle()
				before := d.forwards("marked")
				delay.use(c)
				s := b.login(user, windows)
				time.Sleep(times[0] * time.Millisecond)
				change := c.db.change(user, true, user)
				time.AfterFunc(times[1]*time.Millisecond, func() { a.send(change) })
				time.Sleep(times[2] * time.Millisecond)
				committed := time.Now()
				d.send(c.db.text(2, user, user))
				settle()
				delay.stop(c)
				inHistory, arrived := b.has(s, committed, user)
				if !inHistory && !arrived {
					t.Errorf("delays %v, times %v: the text is missed", delay, times)
				}
				if inHistory {
					read++
				} else {
					live++
				}
				marked += d.forwards("marked") - before
				b.logout(s)
				settle()
				a.all()
				b.all()
				d.all()
			}
		}
		if live == 0 || read == 0 || marked == 0 || int(marked) == live+read {
			t.Errorf("%d texts arrived live, %d were in the history, %v went to the marked alone",
				live, read, marked)
		}
	}, "a", "b", "d")
}

// TestMarkIsNeededAgain: a member comes, or is added, while the mark of its group is being removed.
func TestMarkIsNeededAgain(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		id := uint32(1000)
		const texts = 20
		for _, d := range manyDelays("unmark", "mark", "db") {
			for i := range 4 {
				id++
				c.db.set(id, 1, id)
				s := b.login(id, windows)
				other := b.login(id+1<<20, windows)
				settle()
				a.send(c.db.text(1, id, id+1<<20))
				settle()
				b.logout(s)
				d.use(c)
				asked := c.db.asks("b") // for the members, before the mark is removed
				<-asked
				time.Sleep(time.Duration(i/2*3) * time.Millisecond)
				if i%2 == 0 {
					s = b.login(id, windows)
				} else {
					a.send(c.db.change(id, true, id+1<<20))
					for k := range uint32(texts) {
						a.send(c.db.text(1, id, id+k<<12))
						time.Sleep(time.Millisecond)
					}
				}
				settle()
				a.send(c.db.text(1, id, id+texts<<12))
				settle()
				d.stop(c)
				if got := ids(take[*pb.MsgData](b)); !slices.Contains(got, id+texts<<12) ||
					i%2 == 1 && len(got) < texts+1 {
					t.Errorf("delays %v, case %d: of the texts %v have arrived", d, i, got)
				}
				if i%2 == 0 {
					b.logout(s)
				}
				b.logout(other)
				time.Sleep(6 * time.Minute) // the mark of this group is removed, too
			}
		}
	}, "a", "b")
}
