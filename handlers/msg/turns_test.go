package msg

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// pair is two message servers with one db_proxy and one route server between them.
type pair struct {
	t     *testing.T
	sides [2]*world
	rand  *rand.Rand

	mu   sync.Mutex
	last uint32    // of the conversation
	at   time.Time // when last was stored
}

// inPair runs f with two message servers, in a bubble of virtual time. db_proxy and the
// route server take random times for each message, and keep the order of each server's.
func inPair(t *testing.T, seed uint64, f func(p *pair)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pair{t: t, rand: rand.New(rand.NewPCG(seed, 0))}
		for i := range p.sides {
			db := &dbStand{ids: map[uint64]uint32{}, slow: p.pause}
			db.also = p.store
			link := &crossing{p: p, to: 1 - i, queue: make(chan received, 1000)}
			p.sides[i] = newWorld(t, Options{Rate: -1}, db, link)
			defer p.sides[i].stop()
			go link.run()
			defer close(link.queue)
		}
		f(p)
	})
}

// pause takes up to 20 ms.
func (p *pair) pause() {
	p.mu.Lock()
	d := time.Duration(p.rand.Int64N(int64(20 * time.Millisecond)))
	p.mu.Unlock()
	time.Sleep(d)
}

// store gives a message the next id of the conversation, as a db_proxy does that stores
// for both servers.
func (p *pair) store(req pb.Message) (pb.Message, error) {
	m, ok := req.(*pb.MsgData)
	if !ok {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := *m
	if now := time.Now(); m.HasPrevID && p.last != 0 && now.Sub(p.at) < time.Second {
		out.PrevID = p.last
	}
	p.last++
	out.MsgID, p.at = p.last, time.Now()
	return &out, nil
}

// crossing is a server's link to the route server, which forwards messages to the other
// server.
type crossing struct {
	p     *pair
	to    int
	queue chan received
}

func (c *crossing) SendMessage(seq uint16, m pb.Message) error {
	if _, ok := m.(*pb.MsgData); ok {
		c.queue <- received{seq, m}
	}
	return nil
}

func (c *crossing) Close(error) {}

func (c *crossing) run() {
	for r := range c.queue {
		c.p.pause()
		w := c.p.sides[c.to]
		w.route.link.Message(w.route.s, r.seq, r.m)
	}
}

// TestTurnsOfTwoServers: both users of a conversation write, each on a message server of
// its own, and both have another device on the other one. Every device receives the
// messages in the order of their ids, none twice and none too few.
func TestTurnsOfTwoServers(t *testing.T) {
	const texts = 100
	for seed := range uint64(5) {
		inPair(t, seed, func(p *pair) {
			alice, bob := p.sides[0].user(0, 1, win), p.sides[1].user(0, 2, win)
			phoneA, phoneB := p.sides[1].user(1, 1, ios), p.sides[0].user(1, 2, ios)
			for i := range texts {
				alice.send(uint16(i+2), text(2, fmt.Sprint("a", i)))
				bob.send(uint16(i+2), text(1, fmt.Sprint("b", i)))
				p.pause()
			}
			time.Sleep(10 * time.Second)
			for name, d := range map[string]*device{"alice": alice, "bob": bob,
				"alice's phone": phoneA, "bob's phone": phoneB} {
				ids, want := d.ids(), texts
				if d == phoneA || d == phoneB {
					want *= 2
				}
				if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != want {
					t.Errorf("seed %d: %s received %d messages, in the order %v", seed, name,
						len(ids), ids)
				}
			}
			for _, w := range p.sides {
				if n := w.counted("turns_given_up_total"); n != 0 {
					t.Errorf("seed %d: %v messages did not wait long enough", seed, n)
				}
			}
		})
	}
}

// following is fromElsewhere for a message that knows its predecessor.
func following(id, prev uint32) *pb.MsgData {
	m := fromElsewhere(id)
	m.PrevID, m.HasPrevID = prev, true
	return m
}

// TestTurns: which messages of another server wait for which, and how long.
func TestTurns(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		bob := w.user(0, 2, win)
		routed := func(ms ...*pb.MsgData) {
			for _, m := range ms {
				w.route.link.Message(w.route.s, 0, m)
			}
		}
		received := func(what string, want ...uint32) {
			t.Helper()
			if got := bob.ids(); !slices.Equal(got, want) {
				t.Fatalf("%s: received %v, want %v", what, got, want)
			}
		}
		routed(following(7, 0))
		received("no predecessor", 7)
		routed(following(8, 7))
		received("in order", 8)
		routed(following(10, 9), following(11, 10))
		received("one is missing")
		routed(following(9, 8))
		received("it arrived", 9, 10, 11)
		routed(fromElsewhere(14))
		received("from a C++ server", 14)
		routed(following(17, 16))
		time.Sleep(missing.Wait - 100*time.Millisecond)
		routed(following(18, 17))
		received("it may still arrive")
		late := w.user(1, 2, ios)
		time.Sleep(200 * time.Millisecond)
		received("it did not arrive", 17, 18)
		if got := late.ids(); got != nil {
			t.Fatalf("a device that finds them in the history receives %v", got)
		}
		routed(following(16, 14))
		received("it arrived late")
		for name, want := range map[string]float64{"turns_held_total": 4,
			"turns_given_up_total": 1, "turns_late_total": 1,
			"turns_waiting": 0} {
			if got := w.counted(name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
	})
}

// TestTurnsOfManyHeld: what waits is bounded. Beyond, messages are delivered at once.
func TestTurnsOfManyHeld(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		bob := w.user(0, 2, win)
		for id := uint32(2); id < 1000; id++ {
			w.route.link.Message(w.route.s, 0, following(id, id-1))
		}
		if w.counted("turns_full_total") == 0 || len(bob.ids()) == 0 {
			t.Fatal("the messages that wait are not bounded")
		}
		w.route.link.Message(w.route.s, 0, following(1, 0))
		time.Sleep(2 * time.Second)
		if n := w.counted("turns_waiting"); n != 0 {
			t.Fatalf("%v messages wait for ever", n)
		}
	})
}

var _ session.MessageCarrier = (*crossing)(nil)
