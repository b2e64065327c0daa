package dbproxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/session"
)

// A sender pipelines: B is on its way while A is being stored. When A cannot be stored, B must not
// be either, or B would get the lower id once A is sent again. This server sees all of a
// conversation in order, so it is the one that can tell: after A failed it refuses what the same
// connection of a client sent in the same conversation and epoch. The message server begins a new
// epoch when it hears that A failed, so a message of a later epoch was sent in knowledge of that.

// sender is one client connection in one conversation.
type sender struct {
	link         *session.Session // the message server's
	conn         uint32           // the client's connection there
	conversation uint64
}

// failedSend is the first message of an epoch that could not be stored.
type failedSend struct {
	epoch uint32
	order uint64 // of arrival; what came before it is not held back
	at    time.Time
}

// sendOrder remembers senders of whom a message could not be stored, until their next epoch. Its
// methods may be called from anywhere.
type sendOrder struct {
	arrivals atomic.Uint64
	keep     time.Duration
	held     prometheus.Counter
	dropped  prometheus.Counter

	count atomic.Int64 // of failed, read without the lock
	mu    sync.Mutex
	// failed is bounded by maxFailedSends. A store that is down fails the messages of everybody.
	failed map[sender]failedSend
	swept  time.Time
}

// maxFailedSends bounds the senders remembered, at about 100 bytes each.
const maxFailedSends = 1 << 16

// newSendOrder makes one that remembers a failure for keep: as long as a message of the same epoch
// may be on its way.
func newSendOrder(keep time.Duration, reg prometheus.Registerer) *sendOrder {
	o := &sendOrder{keep: keep, failed: map[sender]failedSend{}}
	o.held = prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_dbproxy_messages_held_back_total",
		Help: "Messages not stored because an earlier one of the same sender and conversation could not be stored."})
	o.dropped = prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_dbproxy_failed_sends_dropped_total",
		Help: "Senders of a failed message that were not remembered, because too many were. Order is not kept for them."})
	if reg != nil {
		reg.MustRegister(o.held, o.dropped)
	}
	return o
}

// came numbers p by its arrival.
func (o *sendOrder) came(p *Pending) {
	if p.msg.SenderConn == 0 {
		return // of a server that says nothing of its senders
	}
	p.sender = sender{link: p.session, conn: p.msg.SenderConn, conversation: p.row.Key()}
	p.epoch, p.order = p.msg.Epoch, o.arrivals.Add(1)
}

// holdBack gives an error to each message of a batch that stands behind a failed one, in the same
// batch or before.
func (o *sendOrder) holdBack(batch []*Pending, now time.Time) {
	for _, p := range batch {
		if p.row.Err == nil && o.behind(p, now) {
			o.held.Inc()
			p.row.Err = im.Errorf(im.Busy, "an earlier message of the sender was not stored")
		}
		o.note(p, now)
	}
}

// behind reports whether an earlier message of p's sender and epoch could not be stored.
func (o *sendOrder) behind(p *Pending, now time.Time) bool {
	if p.sender.link == nil || o.count.Load() == 0 {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	f, ok := o.failed[p.sender]
	switch {
	case !ok:
		return false
	case int32(p.epoch-f.epoch) > 0 || now.Sub(f.at) > o.keep:
		o.remove(p.sender)
		return false
	}
	return p.order > f.order
}

// note remembers p's sender when p was not stored and may be sent again. A message that can never
// be stored holds nobody back.
func (o *sendOrder) note(p *Pending, now time.Time) {
	if p.row.Err == nil || p.sender.link == nil || rejected(p.row.Err) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if f, ok := o.failed[p.sender]; ok && int32(p.epoch-f.epoch) <= 0 && now.Sub(f.at) <= o.keep {
		return
	}
	if len(o.failed) >= maxFailedSends {
		o.sweep(now)
	}
	if len(o.failed) >= maxFailedSends {
		o.dropped.Inc()
		return
	}
	o.failed[p.sender] = failedSend{epoch: p.epoch, order: p.order, at: now}
	o.count.Store(int64(len(o.failed)))
}

// sweep removes what is no longer needed, at most once a second; o.mu is held.
func (o *sendOrder) sweep(now time.Time) {
	if now.Sub(o.swept) < time.Second {
		return
	}
	o.swept = now
	for s, f := range o.failed {
		if now.Sub(f.at) > o.keep {
			o.remove(s)
		}
	}
}

// remove forgets a sender; o.mu is held.
func (o *sendOrder) remove(s sender) {
	delete(o.failed, s)
	o.count.Store(int64(len(o.failed)))
}

// gone forgets the senders of a message server whose link has ended.
func (o *sendOrder) gone(link *session.Session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.failed {
		if s.link == link {
			o.remove(s)
		}
	}
}

// rejected reports whether a message that failed with err can never be stored. What is not known
// to be so may be stored later.
func rejected(err error) bool {
	switch im.KindOf(err) {
	case im.Invalid, im.Malformed, im.NotFound, im.Denied:
		return true
	}
	return false
}
