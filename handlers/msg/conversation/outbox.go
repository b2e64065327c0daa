package conversation

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
)

// Mac, iOS, Android and web clients send no message again. When no db_proxy stores a
// message of such a client, it is held here and given to a db_proxy again: when one takes
// requests, and until it is older than Hold. So a db_proxy can restart and no message is
// lost. Clients that set want_refusal are told at once instead, and repeat the message.
//
// The order of a connection is kept. While one of its messages is held, the next ones are
// held behind it. A message that was in flight behind the held one is refused by db_proxy
// and held, too: db_proxy knows by the epoch that both were sent before the failure was
// known. The messages are sent again in a new epoch, when none of the old one is in flight.
//
// A message whose link ended before the answer may be stored. The history is searched for
// it before it is sent again, as for one that its sender repeats. See doubt.go.
//
// Windows clients repeat a message once. A message of theirs is held only when no db_proxy
// received it, and no other one of its conversation has failed. See order.go.

// Bounds of the outboxes. A message counts with its bytes and heldMessage. maxOutbox and
// maxOutboxBytes are for one connection, maxHeldTotal for all.
const (
	maxOutbox      = 256
	maxOutboxBytes = 512 << 10
	maxHeldTotal   = 32 << 20
	heldMessage    = 512
)

// Pauses of one connection between two attempts that failed. The first is that of the
// loop's ticks.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 800 * time.Millisecond
)

// outbox is the messages of one connection that are held. Loop only.
type outbox struct {
	list  []attempt // in the order in which they arrived
	bytes int
	cause error // of the newest failure
	// waits says that messages are held until none of the connection is in flight: one
	// has failed, or the history is searched for one.
	waits   bool
	sending bool      // sendHeld runs
	next    time.Time // no attempt is made before
	pause   time.Duration
}

// outboxes counts what all outboxes hold. Any goroutine.
type outboxes struct{ count, bytes atomic.Int64 }

// register registers the metric of what is held. reg may be nil.
func (o *outboxes) register(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "teamtalk_msg_held_waiting",
		Help: "Messages held until a db_proxy takes requests."},
		func() float64 { return float64(o.count.Load()) }))
}

// add counts a message of a size. It returns false when too many are held.
func (o *outboxes) add(size int) bool {
	if o.bytes.Add(int64(size)) > maxHeldTotal {
		o.bytes.Add(int64(-size))
		return false
	}
	o.count.Add(1)
	return true
}

// remove is the opposite of add.
func (o *outboxes) remove(size int) {
	o.bytes.Add(int64(-size))
	o.count.Add(-1)
}

// heldSize is the size of a held message for the bounds.
func heldSize(f *attempt) int { return len(f.data.Data) + len(f.data.ClientMsgID) + heldMessage }

// isBehind reports whether an accepted message has to be held behind others. Loop only.
func (c *Client) isBehind(f *attempt) bool {
	if !f.holds {
		return false
	}
	b := c.outbox
	return b != nil && (b.waits || len(b.list) > 0) || !f.repeats && c.sends.order.isFailing(f.target)
}

// mayHold reports whether a message whose attempt ended with err can be stored later.
func (c *Client) mayHold(f *attempt, err error) bool {
	var r *link.Refusal
	var overdue *link.Overdue
	refused := errors.As(err, &r)
	switch {
	case !f.holds, errors.Is(err, errNoReason), errors.As(err, &overdue):
		return false
	case f.repeats && (!errors.Is(err, link.ErrNotSent) || c.sends.order.find(f.target) != nil):
		return false
	case doubtful(err):
		return !refused || r.InDoubt
	}
	switch im.KindOf(err) {
	case im.Unavailable, im.Busy, im.Closed:
		return true
	}
	return false
}

// failed makes the next messages of a connection wait until none is in flight, because an
// attempt of the current epoch has failed. A new epoch begins. Loop only.
func (h *Handler) failed(f *attempt) {
	if !f.holds || f.repeats {
		return
	}
	c := h.opt.Client(f.from)
	if f.epoch == c.epoch {
		c.epoch++
	}
	h.outboxOf(f.from).waits = true
}

// outboxOf returns the outbox of a client, which Tick looks at from now on.
func (h *Handler) outboxOf(s *session.Client) *outbox {
	c := h.opt.Client(s)
	if c.outbox == nil {
		c.outbox = &outbox{}
		st := h.opt.Loop(s.Loop())
		st.holding = append(st.holding, s)
	}
	return c.outbox
}

// hold takes a message that was not stored, or may not have been, or has to wait for
// others. It stays in flight. hold returns false when it must be given up. Loop only.
func (h *Handler) hold(f attempt, cause error) bool {
	if f.from.Loop().Now().Sub(f.at) >= h.opt.Hold {
		h.metrics.dropped.WithLabelValues("hold_expired").Inc()
		return false
	}
	b, size := h.outboxOf(f.from), heldSize(&f)
	full := len(b.list) >= maxOutbox || b.bytes+size > maxOutboxBytes
	if full || !h.outboxes.add(size) {
		h.metrics.dropped.WithLabelValues("hold_full").Inc()
		return false
	}
	h.metrics.held.Inc()
	b.bytes += size
	if cause != nil {
		b.cause = cause
	}
	i, _ := slices.BinarySearchFunc(b.list, f.came,
		func(o attempt, came uint32) int { return cmp.Compare(int32(o.came-came), 0) })
	b.list = slices.Insert(b.list, i, f)
	return true
}

// take removes the first message of an outbox.
func (h *Handler) take(b *outbox) attempt {
	f := b.list[0]
	if b.list = slices.Delete(b.list, 0, 1); len(b.list) == 0 {
		b.list = nil
	}
	size := heldSize(&f)
	b.bytes -= size
	h.outboxes.remove(size)
	return f
}

// landed records that a message of a client is no longer in flight. stored says that it is
// stored. Loop only.
func (h *Handler) landed(s *session.Client, stored bool) {
	c := h.opt.Client(s)
	c.flying--
	b := c.outbox
	if b == nil {
		return
	}
	if stored {
		b.next, b.pause = time.Time{}, 0
	}
	h.sendHeld(s, c)
}

// sendHeld gives the held messages of a client to a db_proxy when the time has come, and
// ends those that are too old. Loop only.
func (h *Handler) sendHeld(s *session.Client, c *Client) {
	b, now := c.outbox, s.Loop().Now()
	if b.sending {
		return // an attempt of the caller has failed at once
	}
	b.sending = true
	defer func() { b.sending = false }()
	for len(b.list) > 0 && now.Sub(b.list[0].at) >= h.opt.Hold {
		f := h.take(b)
		h.metrics.dropped.WithLabelValues("hold_expired").Inc()
		h.giveUp(f, false, im.Errorf(im.Busy, "held for %v: %v", h.opt.Hold, b.cause))
	}
	if int(c.flying) > len(b.list) {
		return // an answer may still add a message before these
	}
	b.waits = false
	if len(b.list) == 0 || now.Before(b.next) || !h.store.Up() || h.store.Withdrawn() {
		return
	}
	b.pause = min(max(2*b.pause, firstPause), maxPause)
	b.next = now.Add(b.pause)
	for len(b.list) > 0 && !b.waits {
		f := h.take(b)
		if f.doubt {
			b.waits = true
			h.storeAgain(f)
			return
		}
		h.sendAgain(c, f)
		if len(b.list) > 0 && b.list[0].came == f.came {
			return // not sent
		}
	}
}

// sendAgain gives a held message to a db_proxy. Loop only.
func (h *Handler) sendAgain(c *Client, f attempt) {
	if f.repeats && !c.sends.order.admit(&f) {
		h.metrics.dropped.WithLabelValues("behind_failed").Inc()
		h.giveUp(f, false, errBehind)
		return
	}
	// The client may have sent it on another connection meanwhile.
	if f.data.SentAs != 0 {
		f.data.ResentWithin = h.window()
	}
	h.send(f)
}

// errBehind is the error of a message behind one that failed.
var errBehind = im.Errorf(im.Busy, "a message before it was not stored")

// sendAllHeld looks at the outboxes of a loop. Loop only.
func (h *Handler) sendAllHeld(st *Loop) {
	st.holding = slices.DeleteFunc(st.holding, func(s *session.Client) bool {
		c := h.opt.Client(s)
		h.sendHeld(s, c)
		if b := c.outbox; b.waits || len(b.list) > 0 || int(c.flying) > 0 {
			return false
		}
		c.outbox = nil
		return true
	})
	if len(st.holding) == 0 {
		st.holding = nil
	}
}
