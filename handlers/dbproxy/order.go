package dbproxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/handlers/dbproxy/refusal"
)

// A sender pipelines: message B is in flight while A is being stored. When A cannot be
// stored, B must not be stored either. Otherwise B would have the lower id once A is
// repeated. This server receives all messages of a conversation in order, so it enforces
// the rule: after A failed, it refuses messages that the same client connection sent in
// the same conversation and epoch. The message server begins a new epoch when it learns
// that A failed. So a message of a later epoch was sent after the message server knew of
// the failure.
//
// A message server that understands refusals gives A to another db_proxy when A was surely
// not stored, and B behind it. A later round shows that it did.

// sender is one client connection in one conversation.
type sender struct {
	link         *session.Link // of the message server
	conn         uint32        // the client's connection on the message server
	conversation uint64
}

// failedSend is the first message of an epoch that could not be stored.
type failedSend struct {
	epoch uint32
	order uint64 // number of arrival; earlier messages are not held back
	at    time.Time
	// movable: another db_proxy may store it, with the messages behind it. Those of a
	// later round were sent after that.
	movable bool
	round   uint32
}

// over reports whether p was sent in knowledge of the failure.
func (f *failedSend) over(p *Pending) bool {
	return int32(p.epoch-f.epoch) > 0 || f.movable && int32(p.msg.Round-f.round) > 0
}

// sendOrder records senders with a message that could not be stored, until their next
// epoch. Any goroutine.
type sendOrder struct {
	arrivals atomic.Uint64
	keep     time.Duration
	held     prometheus.Counter
	dropped  prometheus.Counter

	count atomic.Int64 // length of failed, read without the lock
	mu    sync.Mutex
	// failed is bounded by maxFailedSends: when the store is down, the messages of all
	// senders fail.
	failed map[sender]failedSend
	swept  time.Time
}

// maxFailedSends bounds the recorded senders, at about 100 bytes each.
const maxFailedSends = 1 << 16

// newSendOrder returns a sendOrder that records a failure for the time keep. keep must be
// the longest time that a message of the same epoch can be in flight.
func newSendOrder(keep time.Duration, reg prometheus.Registerer) *sendOrder {
	o := &sendOrder{keep: keep, failed: map[sender]failedSend{}}
	o.held = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_dbproxy_messages_held_back_total",
		Help: "Messages not stored because an earlier message of the same sender and " +
			"conversation could not be stored."})
	o.dropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_dbproxy_failed_sends_dropped_total",
		Help: "Senders of failed messages that were not recorded because the table was full. " +
			"Their order is not kept."})
	if reg != nil {
		reg.MustRegister(o.held, o.dropped)
	}
	return o
}

// came assigns p the number of its arrival.
func (o *sendOrder) came(p *Pending) {
	if p.msg.SenderConn == 0 {
		return // the message server does not identify its senders
	}
	p.sender = sender{link: p.session, conn: p.msg.SenderConn, conversation: p.row.Key()}
	p.epoch, p.order = p.msg.Epoch, o.arrivals.Add(1)
}

// holdBack sets the error of each message in a batch whose sender has an earlier failed
// message, in the same batch or in a former one.
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
	case f.over(p) || now.Sub(f.at) > o.keep:
		o.remove(p.sender)
		return false
	}
	p.behind = p.order > f.order && !f.movable
	return p.order > f.order
}

// note records p's sender when p was not stored and may be repeated. A message that can
// never be stored holds no other message back.
func (o *sendOrder) note(p *Pending, now time.Time) {
	if p.row.Err == nil || p.sender.link == nil || refusal.Rejected(p.row.Err) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if f, ok := o.failed[p.sender]; ok && !f.over(p) && now.Sub(f.at) <= o.keep {
		if int64(p.order-f.order) < 0 { // p waited, and the other one was refused at once
			f.order, f.movable = p.order, f.movable && p.movable()
			o.failed[p.sender] = f
		}
		return
	}
	if len(o.failed) >= maxFailedSends {
		o.sweep(now)
	}
	if len(o.failed) >= maxFailedSends {
		o.dropped.Inc()
		return
	}
	o.failed[p.sender] = failedSend{epoch: p.epoch, order: p.order, at: now,
		movable: p.movable(), round: p.msg.Round}
	o.count.Store(int64(len(o.failed)))
}

// sweep removes expired entries, at most once a second. The caller holds o.mu.
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

// remove deletes the entry of a sender. The caller holds o.mu.
func (o *sendOrder) remove(s sender) {
	delete(o.failed, s)
	o.count.Store(int64(len(o.failed)))
}

// gone deletes the entries of a message server whose link has ended.
func (o *sendOrder) gone(link *session.Link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.failed {
		if s.link == link {
			o.remove(s)
		}
	}
}
