package link

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link/frames"
	"teamtalk/core/mono"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// attachHandle is the type of the attach_data of a call, see the package comment.
const attachHandle = 1

func makeAttach(id, tag uint32) []byte {
	b := make([]byte, 0, frames.AttachLen)
	b = binary.BigEndian.AppendUint32(b, attachHandle)
	b = binary.BigEndian.AppendUint32(b, id)
	return binary.BigEndian.AppendUint32(b, tag)
}

// parseAttach returns the id of a call with that tag. It returns false for attach_data
// that another program wrote.
func parseAttach(b []byte, tag uint32) (id uint32, ok bool) {
	if len(b) != frames.AttachLen || binary.BigEndian.Uint32(b) != attachHandle ||
		binary.BigEndian.Uint32(b[8:]) != tag {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[4:]), true
}

// call is a request that has no answer yet.
type call struct {
	id         uint32
	encoded    bool // the answer may be a pb.Encoded
	loop       *session.Loop
	done       Done
	began      time.Time
	prev, next *call // in the ring, by age
}

// calls are the open calls of one connection. The answer to a call arrives on the
// connection of its request, or never.
type calls struct {
	name    string
	tag     uint32
	max     int
	timeout time.Duration
	log     *slog.Logger
	metrics *peerMetrics

	mu   sync.Mutex
	open map[uint32]*call
	ring call // sentinel; ring.next is the oldest call
	last uint32
	err  error // the reason why no more calls are accepted
	late lateCalls
}

func newCalls(name string, tag uint32, max int, timeout time.Duration, log *slog.Logger,
	m *peerMetrics) *calls {
	c := &calls{name: name, tag: tag, max: max, timeout: timeout, log: log, metrics: m,
		open: map[uint32]*call{}}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

// add opens a call. It returns its attach_data, and its id for take.
func (c *calls) add(l *session.Loop, encoded bool, done Done) (attach []byte, id uint32,
	err error) {
	k := &call{encoded: encoded, loop: l, done: done, began: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, 0, c.err
	}
	if len(c.open) >= c.max {
		return nil, 0, im.Errorf(im.Busy, "link to %s: %d calls are open", c.name, len(c.open))
	}
	for {
		// The numbers wrap around. A number that is still open after that belongs to a
		// call that the peer has not answered for long.
		c.last++
		_, late := c.late.open[c.last]
		if _, taken := c.open[c.last]; !taken && !late {
			break
		}
	}
	k.id = c.last
	c.open[k.id] = k
	k.prev, k.next = c.ring.prev, &c.ring
	k.prev.next, c.ring.prev = k, k
	c.metrics.pending.Inc()
	return makeAttach(k.id, c.tag), k.id, nil
}

// take removes a call from the table and returns it; nil when it has ended already.
func (c *calls) take(id uint32) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.open[id]
	if k != nil {
		c.remove(k)
	}
	return k
}

func (c *calls) remove(k *call) {
	delete(c.open, k.id)
	k.prev.next, k.next.prev = k.next, k.prev
	c.metrics.pending.Dec()
}

// finish runs the continuation of a call that was taken.
func (c *calls) finish(k *call, m pb.Message, err error) {
	if err == nil {
		c.metrics.seconds.Observe(time.Since(k.began).Seconds())
	} else {
		c.metrics.failed(err)
	}
	answer(c.log, k.loop, k.done, m, err)
}

// reply ends the call that m answers. It reports whether m is an answer.
func (c *calls) reply(m pb.Message) bool {
	a, ok := m.(pb.Attachment)
	if !ok || !a.HasAttachData() {
		return false
	}
	id, ok := parseAttach(a.GetAttachData(), c.tag)
	if !ok {
		return false
	}
	k := c.take(id)
	if k == nil {
		a.ClearAttachData()
		if _, refused := m.(*pb.IMRequestRefused); refused || !c.replyLate(id, m) {
			c.metrics.late.Inc()
		}
		return true
	}
	a.ClearAttachData()
	if r, ok := m.(*pb.IMRequestRefused); ok {
		c.finish(k, nil, refused(c.name, r))
		return true
	}
	if e, ok := m.(*pb.Encoded); ok && !k.encoded {
		decoded, err := e.Decode()
		if err != nil {
			c.finish(k, nil, im.WithKind(im.Malformed, "answer does not decode", err))
			return true
		}
		m = decoded
	}
	c.finish(k, m, nil)
	return true
}

// encodedFrom is the length of the smallest answer that is passed on undecoded, in bytes.
// Decoding a smaller one is cheaper than the work around it.
const encodedFrom = 16 << 10

// replyEncoded is reply for a body that is not decoded. It also returns false when the
// call needs a decoded answer.
func (c *calls) replyEncoded(cmd pb.Command, body []byte) bool {
	if len(body) < encodedFrom {
		return false
	}
	id, ok := parseAttach(pb.AttachOf(body), c.tag)
	if !ok || !c.wantsEncoded(id) {
		return false
	}
	e, err := pb.ParseEncoded(cmd, body)
	return err == nil && c.reply(e)
}

func (c *calls) wantsEncoded(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.open[id]
	return k != nil && k.encoded
}

// waitsFor reports whether the answer to a call is used when it arrives.
func (c *calls) waitsFor(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[id] != nil || c.late.open[id] != nil
}

// fail ends a call, if it is open, with err.
func (c *calls) fail(id uint32, err error) {
	if k := c.take(id); k != nil {
		c.finish(k, nil, err)
	}
}

// endIfNone makes all later calls fail with err if no call is open, and reports whether
// none is.
func (c *calls) endIfNone(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) > 0 {
		return false
	}
	c.err = err
	return true
}

// expire fails the calls that are older than the timeout. It returns when the next one is, or
// one that begins now.
func (c *calls) expire(now time.Time) (next time.Time) {
	for {
		c.mu.Lock()
		k := c.ring.next
		if k == &c.ring || now.Sub(k.began) < c.timeout {
			c.late.trim(now)
			next = mono.Next(now, c.timeout) // without calls, all links look together
			if k != &c.ring {
				next = k.began.Add(c.timeout)
			}
			c.mu.Unlock()
			return next
		}
		c.remove(k)
		c.mu.Unlock()
		c.finish(k, nil, im.WithKind(im.Unavailable,
			fmt.Sprintf("link to %s: no answer in %v", c.name, c.timeout), &Overdue{c, k}))
	}
}

// failAll fails all open calls, and all later ones, with err.
func (c *calls) failAll(err error) {
	for {
		c.mu.Lock()
		if c.err == nil {
			c.err = err
		}
		k := c.ring.next
		if k == &c.ring {
			c.mu.Unlock()
			return
		}
		c.remove(k)
		c.mu.Unlock()
		c.finish(k, nil, err)
	}
}
