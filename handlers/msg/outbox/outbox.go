// Package outbox holds the messages of client connections that no db_proxy stored, and
// gives them to a db_proxy again in the order of each connection.
//
// Mac, iOS, Android and web clients send no message again, and Windows clients do so once,
// after 6 s. A message of such a client waits here: until a db_proxy takes requests, and
// for Options.Hold at most. So a db_proxy can restart, no message is lost, and none waits
// for its sender.
//
// While a message of a connection is held, the next ones are held behind it. A message
// that was in flight behind the held one is refused by db_proxy and held, too: db_proxy
// knows by the epoch that both were sent before the failure was known. The messages are
// sent again in a new epoch, when none of the old one is in flight.
//
// A message in doubt, whose link ended before the answer, may be stored. The caller
// searches the history for it before it sends it again, and for those in doubt behind it at
// the same time. Meanwhile nothing else of the connection is sent.
package outbox

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/mono"
	"teamtalk/core/session"
)

// Bounds of what is held. A message counts with its Size and overhead. maxItems and
// maxBytes are for one connection, maxTotal for all.
const (
	maxItems = 256
	maxBytes = 512 << 10
	maxTotal = 32 << 20
	overhead = 512
)

// doubtHold is how long a message in doubt is held at least, unless nothing is held. The
// db_proxy that put it in doubt may have waited for its database for as long as a call
// lasts, and says so at once instead: the sender must not lose by that.
const doubtHold = 10 * time.Second

// Pauses of one connection between two attempts that failed.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 400 * time.Millisecond
)

// Item is a message.
type Item interface {
	// Number is its place among the messages of its connection. Numbers wrap around.
	Number() uint32
	// At is when it arrived.
	At() time.Time
	// Size is the number of its bytes.
	Size() int
	// InDoubt reports whether it may be stored.
	InDoubt() bool
}

// Options sets up Outboxes. All fields but Registerer must be set. The functions are
// called on the loop of the session.
type Options[T Item] struct {
	// Hold is how long a message is held, counted from its arrival. One in doubt is held for
	// doubtHold if that is longer.
	Hold time.Duration
	// Client returns what this package keeps for a session.
	Client func(*session.Client) *Client[T]
	// Ready reports whether a db_proxy takes requests.
	Ready func() bool
	// Send gives a message to a db_proxy. It ends in a call of Landed or of Hold.
	Send func(T)
	// SendDoubtful does so with messages in doubt, after a search of the history. It ends
	// in such a call for each. They are in the order of their numbers.
	SendDoubtful func([]T)
	// Expired gives a message up. It ends in a call of Landed. cause is the last reason
	// for which a message of the connection was held; it may be nil.
	Expired func(item T, cause error)
	// Dropped counts messages that are not held, by reason.
	Dropped    *prometheus.CounterVec
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Outboxes is the outboxes of all connections. A connection's outbox is touched on its
// loop only.
type Outboxes[T Item] struct {
	opt          Options[T]
	held         prometheus.Counter
	count, bytes atomic.Int64
}

// New returns outboxes that hold nothing.
func New[T Item](opt Options[T]) *Outboxes[T] {
	o := &Outboxes[T]{opt: opt, held: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_msg_held_total",
		Help: "Messages that were not stored and are held until a db_proxy takes requests, and " +
			"those that are held behind them. A message counts each time.",
	})}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(o.held, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "teamtalk_msg_held_waiting",
			Help: "Messages held until a db_proxy takes requests.",
		}, func() float64 { return float64(o.count.Load()) }))
	}
	return o
}

// Client is what the package keeps for a connection: the messages without an answer. The
// zero value is ready. Loop only, except for Writes.
type Client[T Item] struct {
	// flying counts the messages in flight. doubtful counts those of the last minutes that
	// have landed and may be stored.
	flying, doubtful atomic.Int32
	accepted         atomic.Int64 // when the latest message was accepted, by mono.Of
	epoch            uint32
	box              *box[T] // nil: nothing is held
}

// box is an outbox in use.
type box[T Item] struct {
	list  []T // in the order of their numbers
	bytes int
	cause error // of the newest failure
	// waits says that messages are held until none of the connection is in flight: one
	// has failed, or the history is searched for one.
	waits   bool
	sending bool      // send runs
	next    time.Time // no attempt is made before
	pause   time.Duration
}

// writesFor is how long after the latest message a message without an answer counts for
// Writes.
const writesFor = time.Minute

// Accepted records that a message is in flight: from now on until Landed.
func (c *Client[T]) Accepted(now time.Time) {
	if c.doubtful.Load() > 0 && !c.recently(now) {
		c.doubtful.Store(0)
	}
	c.flying.Add(1)
	c.accepted.Store(mono.Of(now))
}

// Doubted records that a message lands that may be stored. It counts for Writes until it
// is in flight again.
func (c *Client[T]) Doubted() { c.doubtful.Add(1) }

// Again records that a message is in flight that has landed in doubt: its sender has
// repeated it, or its answer has arrived late.
func (c *Client[T]) Again(now time.Time) {
	c.Accepted(now)
	if c.doubtful.Load() > 0 {
		c.doubtful.Add(-1)
	}
}

// InFlight returns the number of messages in flight, those that are held among them.
func (c *Client[T]) InFlight() int { return int(c.flying.Load()) }

func (c *Client[T]) recently(now time.Time) bool {
	return time.Duration(mono.Of(now)-c.accepted.Load()) < writesFor
}

// Writes reports whether the client has sent a message that may be stored, and that
// db_proxy has not answered. A message that a search of package turns or group finds does
// not say which session sent it. So it goes to no session of its sender that writes. Any
// goroutine.
func (c *Client[T]) Writes(now time.Time) bool {
	return c.flying.Load()+c.doubtful.Load() > 0 && c.recently(now)
}

// EpochAfter returns the epoch of a message that is sent now: not one before last, in which
// it was sent before or is known to be stored after others that failed.
func (c *Client[T]) EpochAfter(last uint32) uint32 {
	if int32(last-c.epoch) > 0 {
		return last
	}
	return c.epoch
}

// Holds reports whether a further message of the connection has to be held.
func (c *Client[T]) Holds() bool { return c.box != nil && (c.box.waits || len(c.box.list) > 0) }

// HoldsBefore reports whether a message is held that was sent before item.
func (c *Client[T]) HoldsBefore(item T) bool {
	return c.box != nil && len(c.box.list) > 0 &&
		int32(c.box.list[0].Number()-item.Number()) < 0
}

// Loop is what the package keeps for a loop: the sessions with an outbox.
type Loop struct{ sessions []*session.Client }

// Failed records that an attempt of an epoch has failed, and begins the next epoch. The
// messages that follow are held until none is in flight.
func (o *Outboxes[T]) Failed(l *Loop, s *session.Client, epoch uint32) {
	c := o.opt.Client(s)
	if int32(epoch-c.epoch) >= 0 {
		c.epoch = epoch + 1
	}
	o.boxOf(l, s).waits = true
}

// boxOf returns the outbox of a session, which Tick looks at from now on.
func (o *Outboxes[T]) boxOf(l *Loop, s *session.Client) *box[T] {
	c := o.opt.Client(s)
	if c.box == nil {
		c.box = &box[T]{}
		l.sessions = append(l.sessions, s)
	}
	return c.box
}

// Hold takes a message that is in flight: it was not stored, or may not have been, or has
// to wait for others, with a nil cause. It returns false when the message must be given
// up.
func (o *Outboxes[T]) Hold(l *Loop, s *session.Client, item T, cause error) bool {
	if o.isExpired(item, s.Loop().Now()) {
		o.opt.Dropped.WithLabelValues("hold_expired").Inc()
		return false
	}
	b, size := o.boxOf(l, s), item.Size()+overhead
	if len(b.list) >= maxItems || b.bytes+size > maxBytes || !o.add(size) {
		o.opt.Dropped.WithLabelValues("hold_full").Inc()
		return false
	}
	o.held.Inc()
	b.bytes += size
	if cause != nil {
		b.cause = cause
	}
	i, _ := slices.BinarySearchFunc(b.list, item, func(a, b T) int {
		return cmp.Compare(int32(a.Number()-b.Number()), 0)
	})
	b.list = slices.Insert(b.list, i, item)
	return true
}

// isExpired reports whether a message has been held for too long.
func (o *Outboxes[T]) isExpired(item T, now time.Time) bool {
	limit := o.opt.Hold
	if item.InDoubt() {
		limit = max(limit, doubtHold)
	}
	return now.Sub(item.At()) >= limit
}

// add counts a held message. It returns false when too many are held.
func (o *Outboxes[T]) add(size int) bool {
	if o.bytes.Add(int64(size)) > maxTotal {
		o.bytes.Add(int64(-size))
		return false
	}
	o.count.Add(1)
	return true
}

// take removes the first message of an outbox.
func (o *Outboxes[T]) take(b *box[T]) T {
	item := b.list[0]
	if b.list = slices.Delete(b.list, 0, 1); len(b.list) == 0 {
		b.list = nil
	}
	size := item.Size() + overhead
	b.bytes -= size
	o.bytes.Add(int64(-size))
	o.count.Add(-1)
	return item
}

// takeDoubtful removes the messages in doubt that come first.
func (o *Outboxes[T]) takeDoubtful(b *box[T]) (items []T) {
	for len(b.list) > 0 && b.list[0].InDoubt() {
		items = append(items, o.take(b))
	}
	return items
}

// Landed records that a message is no longer in flight. stored says that it is stored.
func (o *Outboxes[T]) Landed(s *session.Client, stored bool) {
	c := o.opt.Client(s)
	c.flying.Add(-1)
	b := c.box
	if b == nil {
		return
	}
	if stored {
		b.next, b.pause = time.Time{}, 0
	}
	if !b.sending { // otherwise an attempt of the caller has ended at once
		o.send(s, c)
	}
}

// send gives the held messages of a session to a db_proxy when the time has come, and
// ends those that are too old.
func (o *Outboxes[T]) send(s *session.Client, c *Client[T]) {
	b, now := c.box, s.Loop().Now()
	b.sending = true
	defer func() { b.sending = false }()
	for len(b.list) > 0 && o.isExpired(b.list[0], now) {
		o.opt.Dropped.WithLabelValues("hold_expired").Inc()
		o.opt.Expired(o.take(b), b.cause)
	}
	if c.InFlight() > len(b.list) {
		return // an answer may still add a message before these
	}
	b.waits = false
	if len(b.list) == 0 || now.Before(b.next) || !o.opt.Ready() {
		return
	}
	b.pause = min(max(2*b.pause, firstPause), maxPause)
	b.next = now.Add(b.pause)
	for len(b.list) > 0 && !b.waits {
		if b.list[0].InDoubt() {
			b.waits = true
			o.opt.SendDoubtful(o.takeDoubtful(b))
			return
		}
		item := o.take(b)
		o.opt.Send(item)
		if len(b.list) > 0 && b.list[0].Number() == item.Number() {
			return // not sent
		}
	}
}

// Holds reports whether Tick has an outbox to look at. Loop only.
func (l *Loop) Holds() bool { return len(l.sessions) > 0 }

// Tick looks at the outboxes of a loop.
func (o *Outboxes[T]) Tick(l *Loop) {
	l.sessions = slices.DeleteFunc(l.sessions, func(s *session.Client) bool {
		c := o.opt.Client(s)
		o.send(s, c)
		if c.box.waits || c.InFlight() > 0 {
			return false
		}
		c.box = nil
		return true
	})
	if len(l.sessions) == 0 {
		l.sessions = nil // release what append has grown
	}
}
