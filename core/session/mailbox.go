package session

import (
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// item is one entry of the mailbox. It holds exactly one of frame, done and fn.
type item struct {
	c      *Conn     // receiver of frame
	group  []*Client // receivers of frame when c is nil
	frame  []byte
	shared *pb.Encoded // the rest of a message; frame is its head
	tag    Tag

	done func(pb.Message, error) // called with msg and err
	msg  pb.Message
	err  error

	fn func()
}

// Post runs f on the loop, soon, in the order of the posts. The mailbox never rejects f,
// so the caller must bound the number of its posts. Any goroutine.
func (l *Loop) Post(f func()) { l.post(item{fn: f}, 0) }

// PostResult runs done(m, err) on the loop. Links return the results of calls with it;
// the bound on open calls of a link limits their number. Any goroutine.
func (l *Loop) PostResult(done func(pb.Message, error), m pb.Message, err error) {
	l.post(item{done: done, msg: m, err: err}, 0)
}

// FanOut sends one frame to many clients, all of this loop. Neither slice may change
// afterwards. A SentHandler follows the frame unless tag is zero. When the mailbox is full,
// the frame is dropped, all the clients are closed, and the error is of kind im.Busy. Any
// goroutine.
func (l *Loop) FanOut(group []*Client, frame []byte, tag Tag) error {
	return l.post(item{group: group, frame: frame, tag: tag}, fanOutSize(group, frame))
}

// fanOutSize returns the bytes that a fan-out counts in the mailbox. The frame counts
// once, because fanOut copies it for each session only when it is sent.
func fanOutSize(group []*Client, frame []byte) int { return len(frame) + 8*len(group) }

var errOverflow = im.Errorf(im.Busy, "mailbox full")

// post appends it to the mailbox and wakes the loop when needed. size is the number of
// bytes that count; items of size 0 are always accepted. Any goroutine.
func (l *Loop) post(it item, size int) error {
	l.mu.Lock()
	if size > 0 && (len(l.in.Waiting) >= l.opt.MaxItems ||
		(l.inBytes > 0 && l.inBytes+size > l.opt.MaxBytes)) {
		l.overflowed(it)
		l.mu.Unlock()
		l.metrics.mailboxDrops.Inc()
		return errOverflow
	}
	l.in.Waiting = append(l.in.Waiting, it)
	l.inBytes += size
	wake := !l.active && !l.woken
	if wake {
		l.woken = true
	}
	l.mu.Unlock()
	if wake {
		l.opt.Wake(l, false)
	}
	return nil
}

// overflowed records the sessions that a dropped frame was for. The caller holds l.mu.
func (l *Loop) overflowed(it item) {
	if l.overflow == nil {
		l.overflow = map[*Conn]struct{}{}
	}
	if it.c != nil {
		l.overflow[it.c] = struct{}{}
	}
	for _, s := range it.group {
		l.overflow[&s.Conn] = struct{}{}
	}
}

// swap takes the items of the mailbox into l.batch. The caller holds l.mu.
func (l *Loop) swap() {
	if len(l.overflow) > 0 {
		slow := l.overflow
		l.overflow = nil
		l.in.Waiting = append(l.in.Waiting, item{fn: func() {
			for c := range slow {
				c.Close(ErrOverflow)
			}
		}})
	}
	l.batch, l.pos, l.inBytes = l.in.Take(4*l.opt.MaxTurn), 0, 0
}

// run runs one item. A panic closes the session of the item, if it has one.
func (l *Loop) run(it item) {
	defer l.rescue(it.c)
	switch {
	case it.fn != nil:
		it.fn()
	case it.done != nil:
		it.done(it.msg, it.err)
	case it.shared != nil:
		it.c.holdReserved(it.frame, it.shared.Shared())
	case it.c != nil:
		it.c.SendShared(it.frame)
	default:
		l.fanOut(it)
	}
}

// fanOut sends a frame to a group. It flushes whenever maxTurnBytes have been copied, so
// that the copies for a large group are not in memory all at once.
func (l *Loop) fanOut(it item) {
	flushed := l.turnBytes
	for _, s := range it.group {
		if it.tag != (Tag{}) && l.sent != nil {
			l.tellSent(s, it)
		}
		s.SendShared(it.frame)
		if l.turnBytes-flushed >= maxTurnBytes {
			l.flush()
			flushed = l.turnBytes
		}
	}
}

// tellSent reports to the handler that a tagged frame is about to be written to s. A
// panic in the handler closes s; the rest of the group still gets the frame.
func (l *Loop) tellSent(s *Client, it item) {
	if s.IsClosed() {
		return
	}
	defer l.rescue(&s.Conn)
	l.sent.Sent(s, it.tag, it.frame)
}
