package bench

import (
	"math/rand/v2"

	"teamtalk/bench/swarm"
	"teamtalk/proto/pb"
)

// worker is the part of a generator on one loop. Loop only.
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
	waiting   int64 // requests and messages without an answer
	expected  int64 // deliveries of all messages sent here
	delivered int64 // deliveries to the clients of this worker
	beats     int64 // heartbeats without an echo
	progress  int64 // grows with progress that no other field counts
	unacked   []request
	interval  int // number of the current interval
	started   int64

	text     []byte // the place of a stamp, then the filler
	frame    []byte
	msg      pb.MsgData
	delivery delivery
}

// took records the latency of an event that was due then.
func (w *worker) took(o op, due int64) {
	w.rec.took(o, w.loop.Now()-due, w.plan.counts(due))
}

// expects reports whether a client receives messages at all.
func (w *worker) expects(c *client) bool { return len(c.inboxes) > 0 }

// unfinished abandons the logins and logouts in flight when the run ends.
func (w *worker) unfinished() {
	for _, c := range w.clients {
		if c.state == connecting || c.state == leaving || c.state == left {
			c.expired("before the run ended")
		}
	}
}

// giveUp records a request that will not be answered.
func (w *worker) giveUp(c *client, r request) {
	if r.op != opAck {
		c.refuse("%s of %s not answered", opNames[r.op], clock(r.due))
		return
	}
	w.checks.Unacked++
	w.checks.example("user %s: message %d in conversation %d, due at %s, was never acked", c.name(),
		r.number, r.conv, clock(r.due))
	if len(w.unacked) < maxUnacked {
		w.unacked = append(w.unacked, r)
	}
}

// maxUnacked bounds the messages that a worker remembers as never acked. A message beyond
// it that was not delivered either also counts as lost.
const maxUnacked = 1 << 20

// paced is an event that repeats on a schedule until the run ends.
type paced struct{ next int64 }

// schedule calls f at a time, and again at each time that it returns, until it returns 0.
// The run ends after f was called for all times before plan.End.
func (w *worker) schedule(at int64, f func(now int64) int64) {
	p := &paced{at}
	w.paced = append(w.paced, p)
	w.loop.At(at, func(now int64) int64 {
		p.next = f(now)
		return p.next
	})
}

// overdue returns the number of schedules that have not reached the end.
func (w *worker) overdue() (n int64) {
	for _, p := range w.paced {
		if p.next != 0 && p.next < w.plan.End {
			n++
		}
	}
	return n
}

// boundary ends an interval at its exact end, which is the same for all workers.
func (w *worker) boundary(now int64) int64 {
	if w.part.ended.Load() {
		return 0
	}
	if end := w.plan.boundary(w.interval); now >= end { // otherwise the plan has changed
		w.snapshot(end)
	}
	return w.plan.boundary(w.interval)
}

// snapshot passes on the values since the last snapshot.
func (w *worker) snapshot(now int64) {
	checks := w.checks
	checks.Examples = append([]string(nil), w.checks.Examples...)
	w.part.snapshots <- snapshot{index: w.interval, start: w.started, end: now, rec: w.rec,
		waiting: w.waiting, open: int64(w.loop.Open()), checks: checks}
	w.interval++
	w.started = now
	w.rec = w.part.recorder()
}

// beatAll sends the heartbeats of all clients, spread evenly, until counting ends.
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

// waiters holds clients with a deadline, in the order of the deadlines.
type waiters struct {
	queue []waiter
	head  int
}

type waiter struct {
	c        *client
	deadline int64
}

func (q *waiters) push(c *client) { q.queue = append(q.queue, waiter{c, c.deadline}) }

// expire calls expired on the clients whose deadline has passed and whose login or logout
// is still pending.
func (q *waiters) expire(now int64) {
	for q.head < len(q.queue) {
		e := q.queue[q.head]
		waits := e.c.deadline == e.deadline && (e.c.state == connecting || e.c.state == leaving ||
			e.c.state == left)
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
