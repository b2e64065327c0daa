package bench

import (
	"math/rand/v2"

	"teamtalk/bench/swarm"
	"teamtalk/proto/pb"
)

// worker is what belongs to one loop. It is touched on that loop only.
type worker struct {
	part  *local
	loop  *swarm.Loop
	rng   *rand.Rand
	play  play
	paced []*paced
	plan  plan

	clients   []*client
	deadlines waiters

	rec       *recorder
	checks    Checks
	waiting   int64 // requests and messages sent that are not answered
	expected  int64 // deliveries, of all messages sent here
	delivered int64 // deliveries, here
	beats     int64 // heartbeats not echoed
	progress  int64 // grows with what moves and is not counted otherwise
	unacked   []request
	interval  int // number of the current one
	started   int64

	text     []byte // a stamp's place, and the filler
	frame    []byte
	msg      pb.MsgData
	delivery delivery
}

// took notes how long something took that was due then.
func (w *worker) took(o op, due int64) {
	w.rec.took(o, w.loop.Now()-due, w.plan.counts(due))
}

// expects reports whether a client is to get messages at all.
func (w *worker) expects(c *client) bool { return len(c.inboxes) > 0 }

// unfinished gives up logins and logouts that are under way when the run ends.
func (w *worker) unfinished() {
	for _, c := range w.clients {
		if c.state == connecting || c.state == leaving || c.state == left {
			c.expired("before the run ended")
		}
	}
}

// giveUp notes a request that will not be answered any more.
func (w *worker) giveUp(c *client, r request) {
	if r.op != opAck {
		c.refuse("%s of %s not answered", opNames[r.op], clock(r.due))
		return
	}
	w.checks.Unacked++
	w.checks.example("user %s: message %d in conversation %d, due at %s, was never acked", c.name(), r.number, r.conv, clock(r.due))
	if len(w.unacked) < maxUnacked {
		w.unacked = append(w.unacked, r)
	}
}

// maxUnacked bounds the messages a worker remembers as never acked. Beyond it one that was not delivered either counts as lost too.
const maxUnacked = 1 << 20

// paced is something that happens by schedule until the run ends.
type paced struct{ next int64 }

// schedule calls f at a time, and again when it says, until it returns 0. The run does not end before f was called for all that was due before plan.End.
func (w *worker) schedule(at int64, f func(now int64) int64) {
	p := &paced{at}
	w.paced = append(w.paced, p)
	w.loop.At(at, func(now int64) int64 {
		p.next = f(now)
		return p.next
	})
}

// overdue is how many schedules have not reached the end yet.
func (w *worker) overdue() (n int64) {
	for _, p := range w.paced {
		if p.next != 0 && p.next < w.plan.End {
			n++
		}
	}
	return n
}

// boundary ends an interval. It is said to end when it should have, so that all workers' are the same.
func (w *worker) boundary(now int64) int64 {
	if w.part.ended.Load() {
		return 0
	}
	if end := w.plan.boundary(w.interval); now >= end { // else the plan was changed
		w.snapshot(end)
	}
	return w.plan.boundary(w.interval)
}

// snapshot hands over what was noted since the last one.
func (w *worker) snapshot(now int64) {
	checks := w.checks
	checks.Examples = append([]string(nil), w.checks.Examples...)
	w.part.snapshots <- snapshot{index: w.interval, start: w.started, end: now, rec: w.rec, waiting: w.waiting, open: int64(w.loop.Open()), checks: checks}
	w.interval++
	w.started = now
	w.rec = w.part.recorder()
}

// beatAll sends heartbeats of those who are logged in, spread evenly, until counting ends.
func (w *worker) beatAll() {
	const step = 20e6
	beat := int64(w.part.scenario.Beat)
	first := w.loop.Now()
	sent := int64(0)
	n := int64(len(w.clients))
	if n == 0 {
		return
	}
	w.schedule(first+step, func(now int64) int64 {
		if now >= w.plan.End {
			return 0
		}
		for due := (now - first) * n / beat; sent < due; sent++ {
			w.clients[sent%n].beat(now)
		}
		return now + step
	})
}

// waiters are clients that have to be done by a deadline, in the order of their deadlines.
type waiters struct {
	queue []waiter
	head  int
}

type waiter struct {
	c        *client
	deadline int64
}

func (q *waiters) push(c *client) { q.queue = append(q.queue, waiter{c, c.deadline}) }

// expire calls expired on the clients whose deadline has passed, and that still wait.
func (q *waiters) expire(now int64) {
	for q.head < len(q.queue) {
		e := q.queue[q.head]
		waits := e.c.deadline == e.deadline && (e.c.state == connecting || e.c.state == leaving || e.c.state == left)
		if waits && e.deadline > now {
			break
		}
		q.queue[q.head] = waiter{}
		q.head++
		if waits {
			e.c.expired("within " + e.c.w.part.scenario.Timeout.String())
		}
	}
	if q.head > 1024 && 2*q.head > len(q.queue) {
		n := copy(q.queue, q.queue[q.head:])
		clear(q.queue[n:])
		q.queue, q.head = q.queue[:n], 0
	}
}
