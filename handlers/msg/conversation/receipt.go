package conversation

import (
	"log/slog"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/obs"
	"teamtalk/core/session"
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
	route   Route // set by Connect

	silent obs.Often
}

func newReceipts(h *Handler) *Receipts {
	return &Receipts{opt: &h.opt, log: h.log, metrics: &h.metrics, online: h.online,
		others: h.others}
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
	r.answered(s.Loop(), waitKey{from: tag.Peer, to: s.User, id: tag.ID})
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
