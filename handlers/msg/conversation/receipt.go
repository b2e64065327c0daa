package conversation

import (
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/core/trace"
	"teamtalk/handlers/msg/waits"
	"teamtalk/proto/pb"
)

// Receipts follows the deliveries to the clients here, and holds the acks of senders back
// until the receivers have acknowledged.
type Receipts struct {
	opt     *Options
	log     *slog.Logger
	metrics *metrics
	online  *session.Registry
	others  Others
	waits   *waits.Waits

	silent obs.Often
}

func newReceipts(h *Handler) *Receipts {
	r := &Receipts{opt: &h.opt, log: h.log, metrics: &h.metrics, online: h.online,
		others: h.others}
	r.waits = newWaits(r)
	return r
}

// HandleAck takes a device's ack of a delivery. An ack that matches no delivery changes
// nothing.
func (r *Receipts) HandleAck(s *session.Client, _ uint16, m *pb.IMMsgDataAck) error {
	c := r.opt.Client(s)
	u := &c.unacked
	i := u.match(s.User, ack{user: m.GetUserId(), session: m.GetSessionId(), id: m.GetMsgId(),
		group: m.GetSessionType() == pb.SessionType_SESSION_TYPE_GROUP})
	if i < 0 {
		r.metrics.acksUnmatched.Inc()
		return nil // acknowledged before, no longer followed, or never delivered
	}
	tag, st := u.at(i).tag, r.opt.Loop(s.Loop())
	kind := kindOf(tag)
	if r.opt.Trace.On() {
		r.traceDevice(s, u.at(i))
	}
	u.remove(i)
	if u.n == 0 {
		r.unwatch(st, c)
	}
	u.acks |= kind
	st.acked.add(kind)
	if kind == kindSingle {
		r.setAnswers(s, true)
		r.receipt(s, tag)
	}
	return nil
}

// readUpTo takes a read ack as the ack of every delivery of its conversation up to its
// id. It says nothing of how the client acknowledges: some clients that never acknowledge
// send read acks while the conversation is on the screen, and would get everything twice
// afterwards.
func (r *Receipts) readUpTo(s *session.Client, m *pb.IMMsgDataReadAck) {
	c := r.opt.Client(s)
	if c.unacked.n == 0 {
		return
	}
	group := m.GetSessionType() == pb.SessionType_SESSION_TYPE_GROUP
	c.unacked.takeOut(func(d *delivery) bool {
		t := d.tag
		if t.Peer != m.GetSessionId() || t.ID > m.GetMsgId() || group != (t.Flags&TagGroup != 0) {
			return false
		}
		r.metrics.acksRead.Inc()
		if kindOf(t) == kindSingle {
			r.receipt(s, t)
		}
		return true
	})
	if c.unacked.n == 0 {
		r.unwatch(r.opt.Loop(s.Loop()), c)
	}
}

// receipt tells the sender's server that a message from another user has arrived.
func (r *Receipts) receipt(s *session.Client, tag session.Tag) {
	r.answered(s.Loop(), waits.Key{From: tag.Peer, To: s.User, ID: tag.ID})
	if tag.Flags&TagRemote == 0 {
		return
	}
	r.others.ForwardReceipt(pb.IMMsgDataAck_builder{UserId: proto.Uint32(s.User),
		SessionId: proto.Uint32(tag.Peer), MsgId: proto.Uint32(tag.ID),
		SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum()}.Build())
}

// endWaits sends the acks of senders that wait for a connection that ends, unless another
// device of its user here acknowledges deliveries: that one may still acknowledge. Loop
// only.
func (r *Receipts) endWaits(s *session.Client) {
	u := &r.opt.Client(s).unacked
	if !u.answers.Load() || r.othersAnswer(s) {
		return
	}
	for i := range int(u.n) {
		if t := u.at(i).tag; kindOf(t) == kindSingle {
			r.receipt(s, t)
		}
	}
}

// othersAnswer reports whether another device here of the user of s acknowledges
// deliveries.
func (r *Receipts) othersAnswer(s *session.Client) bool {
	return slices.ContainsFunc(r.online.Of(s.User), func(o *session.Client) bool {
		return o != s && r.opt.Client(o).Acks()
	})
}

// setAnswers records whether senders wait for the connection, and tells the route
// servers. Loop only.
func (r *Receipts) setAnswers(s *session.Client, answers bool) {
	if r.opt.Client(s).unacked.answers.Swap(answers) == answers {
		return
	}
	r.others.AcksChanged(s)
}

// newWaits returns the acks of senders that wait for the devices of receivers.
func newWaits(r *Receipts) *waits.Waits {
	return waits.New(waits.Options{Wait: r.opt.AckWait, Loops: r.opt.Loops, Online: r.online,
		Loop:        func(l *session.Loop) *waits.Loop { return &r.opt.Loop(l).waits },
		Acks:        func(s *session.Client) bool { return r.opt.Client(s).Acks() },
		HasReceipts: r.others.HasReceipts,
		Ack: func(s *session.Client, seq uint16, key waits.Key, came time.Time) {
			r.ack(s, seq, newAck(key.From, target{id: key.To}, key.ID), came)
		},
		Overdue: func(s *session.Client, key waits.Key) {
			tag := session.Tag{Peer: key.From, ID: key.ID}
			if r.opt.Client(s).unacked.find(tag) >= 0 {
				r.fellSilent(s, "from", key.From, "msg", key.ID)
			}
		},
		Registerer: r.opt.Registerer})
}

// ack sends the ack of a message that arrived at came. Loop only.
func (r *Receipts) ack(s *session.Client, seq uint16, m *pb.IMMsgDataAck, came time.Time) {
	now := s.Loop().Now()
	r.metrics.ackSeconds.Observe(now.Sub(came).Seconds())
	if r.opt.Trace.On() {
		r.opt.Trace.Record(trace.Span{Stage: trace.Whole, Message: tracedAck(m), Begin: came,
			End: now})
	}
	_ = s.Send(seq, m)
}

// RouteLost sends the acks that wait for devices on other message servers: a route server
// that forwards acks is no longer connected. Any goroutine.
func (r *Receipts) RouteLost() { r.waits.RouteLost() }

// PCLeft tells that a user has no pc online any more. Any goroutine.
func (r *Receipts) PCLeft(user uint32) { r.waits.PCLeft(user) }

// fellSilent records that a sender waited for the device of s for the whole AckWait, or
// that a redelivery was in vain. No sender waits for it any more until it acknowledges
// again. args are added to the log. Loop only.
func (r *Receipts) fellSilent(s *session.Client, args ...any) {
	if r.opt.Client(s).Acks() {
		args = append(args, "waited", r.opt.AckWait, "conn", s.ID(), "user", s.User,
			"client", s.ClientType.String())
		r.silent.Warn(r.log, r.opt.Now(),
			"device stopped acknowledging, senders no longer wait for it", args...)
	}
	r.setAnswers(s, false)
}

// answered releases the ack of a message that a device of its receiver acknowledged, if
// its sender waits here. here is the loop that the caller runs on, nil if it runs on
// none.
func (r *Receipts) answered(here *session.Loop, key waits.Key) {
	if r.opt.Ack == AckDelivered {
		r.waits.Acknowledged(here, key)
	}
}

// HandleRoutedAck takes the ack of a device on another message server.
func (r *Receipts) HandleRoutedAck(_ *session.Link, _ uint16, m *pb.IMMsgDataAck) error {
	r.answered(nil, waits.Key{From: m.GetSessionId(), To: m.GetUserId(), ID: m.GetMsgId()})
	return nil
}
