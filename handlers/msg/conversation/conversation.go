// Package conversation takes messages from clients, stores them at a db_proxy and
// delivers them to the connected devices of the receivers.
//
// A message passes through the files in this order: accept.go checks it, deduplicates it
// and gives it to db_proxy. deliver.go delivers the stored message and acks it to the
// sender. receipt.go takes the acks of the devices, package waits holds the sender's ack
// back until then, redeliver.go sends again what was not acknowledged, and read.go takes the
// read acks. The other files hold what these decide by: order.go, sent.go and doubt.go on
// the sender's side, unacked.go on the receiver's, marks.go for read marks.
//
// A client's session is touched on its loop only. What must keep the order of a
// conversation, the delivery of stored messages, runs where db_proxy's answer arrives, in
// the order of the answers, or where other servers' messages arrive. Package turns puts them
// into one order. They reach each client through its loop's mailbox, which keeps it.
package conversation

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/obs"
	"teamtalk/core/rate"
	"teamtalk/core/session"
	"teamtalk/core/trace"
	"teamtalk/handlers/msg/fanout"
	"teamtalk/handlers/msg/outbox"
	"teamtalk/handlers/msg/turns"
	"teamtalk/handlers/msg/waits"
	"teamtalk/proto/pb"
)

// AckPolicy says when a sender gets its ack. It is never sent before the message is
// stored.
type AckPolicy string

// The ack policies.
const (
	// AckDelivered waits until a device of the recipient has answered, if one is
	// connected.
	AckDelivered AckPolicy = "delivered"
	// AckStored does not wait once the message is stored.
	AckStored AckPolicy = "stored"
)

// Store is the db_proxy that stores messages.
type Store interface {
	// Up reports whether a request would be sent now, Withdrawn whether every db_proxy that
	// is up has withdrawn.
	Up() bool
	Withdrawn() bool
	// TryCall sends req and calls done where the answer arrives, in the order of the
	// answers of one key. done must not wait. TryCall returns an error when req was not
	// sent.
	TryCall(key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error
	// Call sends req and calls done with the answer or an error on loop l.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// ReadStore is the db_proxy that takes read acks.
type ReadStore interface {
	// Send sends m. It is not answered.
	Send(key uint64, seq uint16, m pb.Message) error
	// Call sends req and calls done with the answer or an error. With l nil, done runs
	// where the answer arrives, and must not wait.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// Route answers questions about devices on other message servers.
type Route interface {
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Up reports whether a request would be sent now.
	Up() bool
}

// Others is the other message servers. Any goroutine.
type Others interface {
	// Alone reports whether there can be none.
	Alone() bool
	// Forward gives m to the route server that passes it on. It reports whether it was
	// taken. A message between users that was stored a moment ago has Whereabouts, with
	// Options.Whereabouts and if they are known. Forward takes them out.
	Forward(m pb.Message) bool
	// ForwardRepeat is Forward for a message that was perhaps delivered before. Only
	// servers that deliver no message twice receive it.
	ForwardRepeat(m pb.Message) bool
	// HasReceipts reports whether a route server is connected that forwards acks.
	HasReceipts() bool
	// ForwardReceipt gives an ack to such a route server. It reports whether it was
	// taken.
	ForwardReceipt(m pb.Message) bool
	// AcksChanged tells the route servers whether the client of s acknowledges
	// deliveries.
	AcksChanged(s *session.Client)
}

// Groups delivers stored messages to the members of groups.
type Groups interface {
	// Deliver delivers m to the members here. from is the session that sent it, nil for
	// one of another message server. late says that it was stored some time ago. m must
	// not change any more. Any goroutine.
	Deliver(m *pb.MsgData, from *session.Client, late bool)
	// DeliverRepeat is Deliver for a message that was stored before, to the sessions with
	// ids below before.
	DeliverRepeat(m *pb.MsgData, from *session.Client, before uint64)
}

// Pushes sends notifications to phones that are not connected.
type Pushes interface {
	// Stored takes a message that was stored here. members is nil unless it is a group's.
	Stored(m *pb.MsgData, members []uint32)
}

// Contacts learns that two users exchange messages.
type Contacts interface {
	// AddContact makes the client of s hear of user. Loop only.
	AddContact(s *session.Client, user uint32)
}

// Options sets up a Handler. All fields but Rate, RequireCipher, Whereabouts, Trace and
// Registerer must be set.
type Options struct {
	Ack AckPolicy
	// AckWait is the longest an ack waits for the recipient's devices.
	AckWait time.Duration
	// RedeliverAfter is the age at which an unacked delivery is sent again; 0:
	// never.
	RedeliverAfter time.Duration
	// ResendWindow is how long a repeated message is recognised; 0: not at all.
	ResendWindow time.Duration
	// Hold is how long a message of a client that does not repeat it waits for a db_proxy;
	// 0: not at all.
	Hold time.Duration
	// Rate is how many messages a second one connection may send, RateBurst how many at
	// once. No limit if Rate is negative.
	Rate, RateBurst float64
	// RequireCipher drops texts that are not base64 of whole cipher blocks.
	RequireCipher bool
	// Whereabouts asks db_proxy on which message servers the users of a message have devices.
	// Others.Forward gets the answer with the message, see pb.MsgData.Whereabouts.
	Whereabouts bool

	// Client and Loop return what this package keeps for a session and for a loop.
	Client func(*session.Client) *Client
	Loop   func(*session.Loop) *Loop
	// Loops returns all loops.
	Loops func() []*session.Loop

	Online   *session.Registry
	Fanout   *fanout.Fanout
	Others   Others
	Groups   Groups
	Pushes   Pushes
	Contacts Contacts
	Missing  turns.Finder
	// NoEffect is told of a frame of s that changed nothing. Loop only.
	NoEffect func(s *session.Client)
	// Since returns a session id. Sessions with that id or a higher one connected less
	// than age ago, others before that.
	Since func(age time.Duration) uint64

	// Trace records the ways of messages. nil: none.
	Trace *trace.Tracer

	Now func() time.Time
	// AfterFunc calls f in d, see mono.AfterFunc.
	AfterFunc  func(d time.Duration, f func()) (stop func() bool)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

func (o *Options) check() error {
	switch o.Ack {
	case AckDelivered, AckStored:
		return nil
	}
	return fmt.Errorf("msg: unknown ack policy %q", o.Ack)
}

// Handler handles the commands of conversations.
type Handler struct {
	opt     Options
	log     *slog.Logger
	metrics metrics
	online  *session.Registry
	out     *fanout.Fanout
	others  Others
	turns   *turns.Turns
	repeats repeats

	store Store
	route Route

	// Receipts follows deliveries, Reads handles read acks.
	Receipts *Receipts
	Reads    *Reads

	rate     atomic.Pointer[messageRate]
	inFlight atomic.Int64
	outboxes *outbox.Outboxes[attempt]

	failures obs.Lasting
}

// New returns a handler. Connect must be called before the first client connects.
func New(opt Options) (*Handler, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	h := &Handler{opt: opt, log: opt.Log, metrics: newMetrics(opt.Registerer),
		online: opt.Online, out: opt.Fanout, others: opt.Others}
	h.SetRate(opt.Rate, opt.RateBurst)
	h.outboxes = newOutboxes(h)
	h.turns = turns.New(turns.Options{Deliver: h.deliver, Online: opt.Online,
		Missing: opt.Missing, Since: opt.Since, Now: opt.Now, AfterFunc: opt.AfterFunc,
		Registerer: opt.Registerer})
	h.repeats = repeats{h.turns, opt.Groups, opt.Others}
	h.Receipts = newReceipts(h)
	h.Reads = &Reads{opt: opt, metric: h.metrics.reads, received: h.Receipts.readUpTo}
	return h, nil
}

// Connect sets the peers: store stores messages, reads takes read acks, route answers
// questions about other message servers.
func (h *Handler) Connect(store Store, reads ReadStore, route Route) {
	h.store, h.Reads.store, h.route = store, reads, route
	h.Receipts.waits.Connect(route)
}

// Client is what the package keeps for one client connection. The zero value is ready.
// Loop only, except for Acks and Writes.
type Client struct {
	refuses bool // further messages
	sends   resends
	bucket  rate.Bucket
	reads   rate.Bucket
	unacked unacked
	outbox  outbox.Client[attempt]
}

// Acks reports whether senders wait for this client: it acknowledged a message from
// another user, and let no wait pass since. Any goroutine.
func (c *Client) Acks() bool { return c.unacked.answers.Load() }

// Writes reports whether the client has sent a message that may be stored, and that
// db_proxy has not answered. Any goroutine.
func (c *Client) Writes(now time.Time) bool { return c.outbox.Writes(now) }

// Loop is what the package keeps for one loop. The zero value is ready. Loop only.
type Loop struct {
	waits    waits.Loop
	waiting  []*session.Client // the sessions with unacked deliveries
	outboxes outbox.Loop
	rings    ringPool
	acked    ackCounts
	readLoop
}

// Due returns when Tick, or Receipts.Overdue, has something to do, see session.LoopHandler.
// Loop only.
func (h *Handler) Due(l *session.Loop) int64 {
	st := h.opt.Loop(l)
	if st.outboxes.Holds() || len(st.reads) > 0 {
		return 0
	}
	at := h.Receipts.waits.Due(l)
	if len(st.waiting) > 0 || st.acked != (ackCounts{}) {
		at = min(at, l.NextSecond())
	}
	return at
}

// Tick sends the acks that waited long enough and the read acks whose turn it is. Loop
// only.
func (h *Handler) Tick(l *session.Loop, now time.Time) {
	st := h.opt.Loop(l)
	h.Receipts.waits.Tick(l, now)
	h.outboxes.Tick(&st.outboxes)
	h.Reads.passReads(st, now)
	h.metrics.acked(&st.acked)
}

// End drops what the loop keeps for a client that is logged in and ends: senders that
// wait for it get their acks, and its read acks are passed on. Loop only.
func (h *Handler) End(s *session.Client) {
	c := h.opt.Client(s)
	h.Receipts.endWaits(s)
	h.metrics.unansweredLost(int(c.unacked.n))
	h.Receipts.unwatch(h.opt.Loop(s.Loop()), c)
	h.Reads.FlushReads(s)
}

// ReleaseAcks sends the acks that wait for devices: those are about to be disconnected. Loop
// only.
func (h *Handler) ReleaseAcks(l *session.Loop) {
	h.Receipts.waits.Release(l)
}

// Refuse makes the handler accept no more messages of the client. They get no ack, so that
// the sender repeats them to another server, or reports a failure. Loop only.
func (c *Client) Refuse() { c.refuses = true }

// InFlight returns the number of messages of the client that have no ack yet and are not
// refused. Acks that wait for devices do not count. Loop only.
func (c *Client) InFlight() int { return c.outbox.InFlight() }

// InFlight returns the number of messages that db_proxy has and did not answer, or that
// are held.
func (h *Handler) InFlight() int64 { return h.inFlight.Load() }

// Waiting returns the number of messages that are not delivered yet because one before
// them has not arrived.
func (h *Handler) Waiting() int64 { return h.turns.Waiting() }
