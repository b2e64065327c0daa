package link

import (
	"time"

	"teamtalk/proto/pb"
)

// Overdue is in the chain of the error of a call whose answer did not arrive in time. The
// answer may still arrive on the same connection, for example when the peer's process was
// stopped for a while.
type Overdue struct {
	calls *calls
	call  *call
}

// Error says that the answer is overdue.
func (*Overdue) Error() string { return "the answer is overdue" }

// Then runs f with the answer if it arrives after all, in the order of the answers, where
// the call's continuation without a loop would run. f must not wait. Only the continuation
// of the call may call Then, once.
func (o *Overdue) Then(f func(pb.Message)) { o.calls.await(o.call, f) }

// The calls of a connection whose late answers are used: of more, the oldest are given up.
// So are those that are older than lateLimit.
const (
	maxLate   = 4096
	lateLimit = 2 * time.Minute
)

// lateCalls are ended calls whose late answers are used, by id. calls.mu guards them.
type lateCalls struct {
	open map[uint32]*call
	list []*call // by age; may hold calls that are not in open any more
}

// await keeps a call that has ended for its late answer.
func (c *calls) await(k *call, f func(pb.Message)) {
	k.done = func(m pb.Message, _ error) { f(m) }
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return // the connection has ended
	}
	if c.late.open == nil {
		c.late.open = map[uint32]*call{}
	}
	c.late.open[k.id] = k
	c.late.list = append(c.late.list, k)
	c.late.trim(time.Now())
}

// trim gives up the oldest calls. The caller holds calls.mu.
func (l *lateCalls) trim(now time.Time) {
	for len(l.list) > 0 {
		k := l.list[0]
		if l.open[k.id] == k && len(l.list) <= maxLate && now.Sub(k.began) < lateLimit {
			return
		}
		if l.open[k.id] == k {
			delete(l.open, k.id)
		}
		l.list[0] = nil
		l.list = l.list[1:]
	}
	l.list = nil
}

// replyLate runs the continuation for the late answer of a call. It reports whether there
// is one.
func (c *calls) replyLate(id uint32, m pb.Message) bool {
	c.mu.Lock()
	k := c.late.open[id]
	delete(c.late.open, id)
	c.mu.Unlock()
	if k == nil {
		return false
	}
	answer(c.log, nil, k.done, m, nil)
	return true
}
