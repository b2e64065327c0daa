package msg

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// handleMsgDataAck takes a device's ack of a delivery. One that matches no delivery
// changes nothing.
func (h *Server) handleMsgDataAck(s *session.Session, _ uint16, m *pb.IMMsgDataAck) error {
	c := clientOf(s)
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
		stateOf(s.Loop()).unwatch(c)
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
// id. It says nothing of how the client acknowledges: some that never do send read acks
// while the conversation is on the screen, and would be sent everything twice afterwards.
func (h *Server) readUpTo(s *session.Session, m *pb.IMMsgDataReadAck) {
	c := clientOf(s)
	if c.unacked.n == 0 {
		return
	}
	group := m.GetSessionType() == pb.SessionType_SESSION_TYPE_GROUP
	c.unacked.takeOut(func(d *delivery) bool {
		t := d.tag
		if t.Peer != m.GetSessionId() || t.ID > m.GetMsgId() || group != (t.Flags&tagGroup != 0) {
			return false
		}
		h.metrics.acksRead.Inc()
		if kindOf(t) == kindSingle {
			h.receipt(s, t)
		}
		return true
	})
	if c.unacked.n == 0 {
		stateOf(s.Loop()).unwatch(c)
	}
}

// receipt tells the sender's server that a message of another user has arrived.
func (h *Server) receipt(s *session.Session, tag session.Tag) {
	h.answered(s.Loop(), waitKey{from: tag.Peer, to: s.User, id: tag.ID})
	if tag.Flags&tagRemote == 0 {
		return
	}
	m := pb.IMMsgDataAck_builder{UserId: proto.Uint32(s.User), SessionId: proto.Uint32(tag.Peer),
		MsgId: proto.Uint32(tag.ID), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum()}.Build()
	p := &h.presence
	p.mu.Lock()
	var r *session.Session
	if len(p.receipts) > 0 {
		r = p.receipts[0]
	}
	p.mu.Unlock()
	if r == nil || r.Push(0, m) != nil {
		h.metrics.notForwarded.WithLabelValues(m.Command().String()).Inc()
	}
}

// endWaits sends the acks of senders that wait for a connection which ends, unless another
// device of its user here acknowledges deliveries: that one may still answer. Loop only.
func (h *Server) endWaits(s *session.Session) {
	u := &clientOf(s).unacked
	if !u.answers.Load() {
		return
	}
	for _, o := range h.online.Of(s.User) {
		if o != s && clientOf(o).unacked.answers.Load() {
			return
		}
	}
	for i := range int(u.n) {
		if t := u.at(i).tag; kindOf(t) == kindSingle {
			h.receipt(s, t)
		}
	}
}

// setAnswers notes whether senders wait for the connection, and tells the route servers.
// On the loop.
func (h *Server) setAnswers(s *session.Session, answers bool) {
	if clientOf(s).unacked.answers.Swap(answers) == answers {
		return
	}
	h.presence.mu.Lock()
	defer h.presence.mu.Unlock()
	h.tellAcks(s)
}

// tellAcks tells the route servers that forward acks whether a client of s's user and
// type here acknowledges deliveries. C++ route servers are not told: they would count one
// more client. With presence.mu held.
func (h *Server) tellAcks(s *session.Session) {
	there, acks := false, false
	for _, o := range h.online.Of(s.User) {
		if o.Client == s.Client {
			there, acks = true, acks || clientOf(o).unacked.answers.Load()
		}
	}
	if !there {
		return // the last one went, and the route servers know
	}
	m := statusUpdate(s.User, s.Client, online)
	m.SetAcks(acks)
	p := &h.presence
	for _, r := range p.routes {
		if slices.Contains(p.receipts, r) {
			p.tell(r, m)
		} else {
			p.early[r] = struct{}{}
		}
	}
}

// handleFeatures takes a route server's answer to what this server said of itself. One
// that has missed a change before it answered gets the whole state, see catchUp.
func (h *Server) handleFeatures(s *session.Session, _ uint16, m *pb.IMRoleSet) error {
	p := &h.presence
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_RECEIPTS) == 0 ||
		!slices.Contains(p.routes, s) || slices.Contains(p.receipts, s) {
		return nil
	}
	p.receipts = append(p.receipts, s)
	p.hasReceipts.Store(true)
	if _, missed := p.early[s]; missed {
		delete(p.early, s)
		p.behind[s] = struct{}{}
	}
	return nil
}

// forgetFeatures forgets what a route server that is gone understood. With mu held.
func (p *presence) forgetFeatures(s *session.Session) {
	delete(p.early, s)
	p.receipts = slices.DeleteFunc(p.receipts, func(o *session.Session) bool { return o == s })
	p.hasReceipts.Store(len(p.receipts) > 0)
}
