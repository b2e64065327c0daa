package conversation

import (
	"errors"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/outbox"
)

// A message of a client that does not repeat it is held when no db_proxy stored it, and
// stored later: see package outbox. Clients that set want_refusal are told at once
// instead, and repeat the message. Windows clients repeat a message once, 6 s after it. A
// message of theirs is held for less than that, unless another one of its conversation has
// been given up: then they have to repeat both, see order.go. A repeat is held as well.

// Number, At, Size and InDoubt make attempt an outbox.Item.
func (f attempt) Number() uint32 { return f.number }

// At returns when the message arrived last. A sender that repeats it waits for it.
func (f attempt) At() time.Time {
	if f.asked.IsZero() {
		return f.at
	}
	return f.asked
}

// Size returns the bytes of the message.
func (f attempt) Size() int { return len(f.data.Data) + len(f.data.ClientMsgID) }

// InDoubt reports whether the message may be stored.
func (f attempt) InDoubt() bool { return f.doubt }

// newOutboxes returns the outboxes of the clients.
func newOutboxes(h *Handler) *outbox.Outboxes[attempt] {
	return outbox.New(outbox.Options[attempt]{
		Hold:   h.opt.Hold,
		Client: h.outboxOf,
		Ready:  func() bool { return h.store.Up() && !h.store.Withdrawn() },
		Send:   h.sendHeld, SendDoubtful: h.storeHeld,
		Expired: func(f attempt, cause error) {
			if h.isAsked(&f) && h.outboxes.Hold(&h.opt.Loop(f.from.Loop()).outboxes, f.from, f,
				cause) {
				return
			}
			h.giveUp(f, false, im.Errorf(im.Busy, "held for %v: %v", h.opt.Hold, cause))
		},
		Dropped:    h.metrics.dropped,
		Registerer: h.opt.Registerer,
	})
}

func (h *Handler) outboxOf(s *session.Client) *outbox.Client[attempt] {
	return &h.opt.Client(s).outbox
}

// sendHeld gives a held message to a db_proxy. Loop only.
func (h *Handler) sendHeld(f attempt) {
	h.mayBeStored(&f)
	if f.repeats && !h.opt.Client(f.from).sends.order.admit(&f) {
		h.metrics.dropped.WithLabelValues("behind_failed").Inc()
		h.giveUp(f, false, errBehind)
		return
	}
	h.send(f)
}

// mayBeStored makes db_proxy recognise a held message that is stored already: the client may
// have sent it on another connection meanwhile, and a message in doubt may be committed after
// the search of the history.
func (h *Handler) mayBeStored(f *attempt) {
	if f.data.SentAs != 0 {
		f.data.ResentWithin = h.windowSeconds()
	}
}

// errBehind is the error of a message behind one that failed.
var errBehind = im.Errorf(im.Busy, "a message before it was not stored")

// isBehind reports whether an accepted message has to be held behind others. Loop only.
func (c *Client) isBehind(f *attempt) bool {
	return f.holds && (c.outbox.Holds() || c.sends.order.isFailing(f.target))
}

// hold takes a message whose attempt ended with err, and returns true, if it can be stored
// later. Loop only.
func (h *Handler) hold(f attempt, err error) bool {
	if !f.holds {
		return false
	}
	l := &h.opt.Loop(f.from.Loop()).outboxes
	if !f.repeats {
		h.outboxes.Failed(l, f.from, f.epoch)
	}
	if !h.opt.Client(f.from).mayHold(&f, err) {
		return false
	}
	if f.repeats {
		h.outboxes.Failed(l, f.from, f.epoch)
	}
	f.doubt = f.doubt || doubtful(err)
	h.isAsked(&f)
	h.opt.Client(f.from).sends.order.next(&f)
	return h.outboxes.Hold(l, f.from, f, err)
}

// isAsked looks whether the sender has repeated a message since it is held, or in flight.
// Loop only.
func (h *Handler) isAsked(f *attempt) bool {
	now := f.from.Loop().Now()
	asked := h.opt.Client(f.from).sends.asked(f.seq, f.hash, now)
	if !asked.After(f.At()) {
		return false
	}
	f.asked = asked
	return true
}

// mayHold reports whether a message whose attempt ended with err can be stored later. A
// late answer to a call is awaited. A db_proxy that gives no reason may be a C++ one, and
// may have stored the message. A message in doubt can be sent again if db_proxy
// recognises it; lookFor finds out whether it recognises repeats at all.
func (c *Client) mayHold(f *attempt, err error) bool {
	var overdue *link.Overdue
	switch {
	case errors.Is(err, errNoReason), errors.As(err, &overdue):
		return false
	case f.repeats && !c.sends.order.mayHold(f):
		return false
	case doubtful(err):
		return f.data.SentAs != 0 || len(f.data.ClientMsgID) > 0
	}
	switch im.KindOf(err) {
	case im.Unavailable, im.Busy, im.Closed:
		return true
	}
	return false
}
