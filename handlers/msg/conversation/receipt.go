package conversation

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/handlers/msg/waits"
	"teamtalk/proto/pb"
)

// HandleAck takes a device's ack of a delivery. An ack that matches no delivery changes
// nothing.
func (h *Handler) HandleAck(s *session.Client, _ uint16, m *pb.IMMsgDataAck) error {
	c := h.opt.Client(s)
	u := &c.unacked
	i := u.match(s.User, ack{user: m.GetUserId(), session: m.GetSessionId(), id: m.GetMsgId(),
		group: m.GetSessionType() == pb.SessionType_SESSION_TYPE_GROUP})
	if i < 0 {
		h.metrics.acksUnmatched.Inc()
		return nil // acknowledged before, no longer followed, or never delivered
	}
	tag := u.at(i).tag
	kind := kindOf(tag)
	u.remove(i)
	if u.n == 0 {
		h.unwatch(h.opt.Loop(s.Loop()), c)
	}
	u.acks |= kind
	h.metrics.acked(kind)
	if kind == kindSingle {
		h.setAnswers(s, true)
		h.receipt(s, tag)
	}
	return nil
}

// readUpTo takes a read ack as the ack of every delivery of its conversation up to its
// id. It says nothing of how the client acknowledges: some clients that never acknowledge
// send read acks while the conversation is on the screen, and would get everything twice
// afterwards.
func (h *Handler) readUpTo(s *session.Client, m *pb.IMMsgDataReadAck) {
	c := h.opt.Client(s)
	if c.unacked.n == 0 {
		return
	}
	group := m.GetSessionType() == pb.SessionType_SESSION_TYPE_GROUP
	c.unacked.takeOut(func(d *delivery) bool {
		t := d.tag
		if t.Peer != m.GetSessionId() || t.ID > m.GetMsgId() || group != (t.Flags&TagGroup != 0) {
			return false
		}
		h.metrics.acksRead.Inc()
		if kindOf(t) == kindSingle {
			h.receipt(s, t)
		}
		return true
	})
	if c.unacked.n == 0 {
		h.unwatch(h.opt.Loop(s.Loop()), c)
	}
}

// receipt tells the sender's server that a message from another user has arrived.
func (h *Handler) receipt(s *session.Client, tag session.Tag) {
	h.answered(s.Loop(), waits.Key{From: tag.Peer, To: s.User, ID: tag.ID})
	if tag.Flags&TagRemote == 0 {
		return
	}
	h.others.ForwardReceipt(pb.IMMsgDataAck_builder{UserId: proto.Uint32(s.User),
		SessionId: proto.Uint32(tag.Peer), MsgId: proto.Uint32(tag.ID),
		SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum()}.Build())
}

// endWaits sends the acks of senders that wait for a connection that ends, unless another
// device of its user here acknowledges deliveries: that one may still acknowledge. Loop
// only.
func (h *Handler) endWaits(s *session.Client) {
	u := &h.opt.Client(s).unacked
	if !u.answers.Load() || h.othersAnswer(s) {
		return
	}
	for i := range int(u.n) {
		if t := u.at(i).tag; kindOf(t) == kindSingle {
			h.receipt(s, t)
		}
	}
}

// othersAnswer reports whether another device here of the user of s acknowledges
// deliveries.
func (h *Handler) othersAnswer(s *session.Client) bool {
	return slices.ContainsFunc(h.online.Of(s.User), func(o *session.Client) bool {
		return o != s && h.opt.Client(o).Acks()
	})
}

// setAnswers records whether senders wait for the connection, and tells the route
// servers. Loop only.
func (h *Handler) setAnswers(s *session.Client, answers bool) {
	if h.opt.Client(s).unacked.answers.Swap(answers) == answers {
		return
	}
	h.others.AcksChanged(s)
}

// newWaits returns the acks of senders that wait for the devices of receivers.
func newWaits(h *Handler) *waits.Waits {
	return waits.New(waits.Options{Wait: h.opt.AckWait, Loops: h.opt.Loops, Online: h.online,
		Loop:        func(l *session.Loop) *waits.Loop { return &h.opt.Loop(l).waits },
		Acks:        func(s *session.Client) bool { return h.opt.Client(s).Acks() },
		HasReceipts: h.others.HasReceipts,
		Ack: func(s *session.Client, seq uint16, key waits.Key, came time.Time) {
			h.ack(s, seq, newAck(key.From, target{id: key.To}, key.ID), came)
		},
		Overdue: func(s *session.Client, key waits.Key) {
			tag := session.Tag{Peer: key.From, ID: key.ID}
			if h.opt.Client(s).unacked.find(tag) >= 0 {
				h.fellSilent(s, "from", key.From, "msg", key.ID)
			}
		},
		Registerer: h.opt.Registerer})
}

// RouteLost sends the acks that wait for devices on other message servers: a route server
// that forwards acks is no longer connected. Any goroutine.
func (h *Handler) RouteLost() { h.waits.RouteLost() }

// PCLeft tells that a user has no pc online any more. Any goroutine.
func (h *Handler) PCLeft(user uint32) { h.waits.PCLeft(user) }

// fellSilent records that a sender waited for the device of s for the whole AckWait, or
// that a redelivery was in vain. No sender waits for it any more until it acknowledges
// again. args are added to the log. Loop only.
func (h *Handler) fellSilent(s *session.Client, args ...any) {
	if h.opt.Client(s).Acks() {
		args = append(args, "waited", h.opt.AckWait, "conn", s.ID(), "user", s.User,
			"client", s.ClientType.String())
		h.often.silent.Warn(h.log, h.opt.Now(),
			"device stopped acknowledging, senders no longer wait for it", args...)
	}
	h.setAnswers(s, false)
}

// answered releases the ack of a message that a device of its receiver acknowledged, if
// its sender waits here. here is the loop that the caller runs on, nil if it runs on
// none.
func (h *Handler) answered(here *session.Loop, key waits.Key) {
	if h.opt.Ack == AckDelivered {
		h.waits.Acknowledged(here, key)
	}
}

// HandleRoutedAck takes the ack of a device on another message server.
func (h *Handler) HandleRoutedAck(_ *session.Link, _ uint16, m *pb.IMMsgDataAck) error {
	h.answered(nil, waits.Key{From: m.GetSessionId(), To: m.GetUserId(), ID: m.GetMsgId()})
	return nil
}
