package conversation

import (
	"time"

	"teamtalk/core/session"
)

// Sent follows a delivery that was sent to the client of s, or remembers it. Loop only.
func (r *Receipts) Sent(s *session.Client, tag session.Tag, frame []byte) {
	if tag.Flags&TagGroup == 0 {
		r.opt.Contacts.AddContact(s, tag.Peer)
	}
	c, l := r.opt.Client(s), s.Loop()
	st, u := r.opt.Loop(l), &c.unacked
	d := delivery{tag: tag, at: l.Millis()}
	if u.acks&kindOf(tag) != 0 {
		d.frame = frame
	}
	if !u.hasRoom(&d) {
		r.metrics.unansweredLost(u.makeRoom(&d, func(old *delivery) { r.noRoomFor(s, old) }))
	}
	u.add(d, &st.rings)
	st.watch(s, c)
}

// noRoomFor ends the wait for a delivery that is given up for want of room: its ack would
// match nothing. Later senders do not wait for the connection either, until it
// acknowledges again: it has not acknowledged the many deliveries since.
func (r *Receipts) noRoomFor(s *session.Client, d *delivery) {
	if d.frame == nil || kindOf(d.tag) != kindSingle {
		return
	}
	r.setAnswers(s, false)
	if !r.othersAnswer(s) {
		r.receipt(s, d.tag)
	}
}

// watch enters a session with unacked deliveries in the loop's list, unwatch removes it.
func (st *Loop) watch(s *session.Client, c *Client) {
	if c.unacked.slot == 0 {
		st.waiting = append(st.waiting, s)
		c.unacked.slot = int32(len(st.waiting))
	}
}

func (r *Receipts) unwatch(st *Loop, c *Client) {
	i := c.unacked.slot
	if i == 0 {
		return
	}
	last := len(st.waiting) - 1
	moved := st.waiting[last]
	st.waiting[i-1] = moved
	r.opt.Client(moved).unacked.slot = i
	st.waiting[last] = nil
	st.waiting = st.waiting[:last]
	c.unacked.slot = 0
	c.unacked.drop(&st.rings)
}

// Overdue handles the deliveries that were not acknowledged in time. It is called about
// once a second. Loop only.
func (r *Receipts) Overdue(l *session.Loop) {
	st := r.opt.Loop(l)
	ms := l.Millis()
	for i := len(st.waiting) - 1; i >= 0; i-- {
		r.overdueOf(st, st.waiting[i], ms)
	}
}

// overdueOf sends again the deliveries that one connection did not acknowledge, and gives
// up those that were sent again already: the connection has stopped to acknowledge that
// kind, which is not followed until it does.
func (r *Receipts) overdueOf(st *Loop, s *session.Client, ms int64) {
	c := r.opt.Client(s)
	u := &c.unacked
	lost, silent := 0, false
	u.takeOut(func(d *delivery) bool {
		age, kind := time.Duration(ms-d.at)*time.Millisecond, kindOf(d.tag)
		if d.frame != nil && d.tag.Flags&TagRemote != 0 && age >= r.opt.AckWait {
			silent = true // the sender on another server has waited in vain
		}
		again := false
		switch {
		case d.frame == nil:
			if age < rememberFor {
				return false
			}
		case r.opt.RedeliverAfter <= 0 || age < r.opt.RedeliverAfter:
			return false
		case d.again:
			u.acks &^= kind
			silent = silent || kind == kindSingle
		default:
			again = u.acks&kind != 0
		}
		if !again {
			lost++
			return true
		}
		d.again, d.at = true, ms
		r.metrics.redelivered.Inc()
		s.SendFrame(d.frame)
		return false
	})
	r.metrics.unansweredLost(lost)
	if silent {
		r.fellSilent(s)
	}
	if u.n == 0 {
		r.unwatch(st, c)
	}
}
