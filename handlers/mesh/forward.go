package mesh

import (
	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// handleForwards registers the commands that are forwarded, each with the users whose message
// servers receive it. What another mesh sends is for the clients here.
func (s *Server) handleForwards(r *router.Router[*session.Link]) {
	router.Handle(r, router.Public, s.handleMsgData)
	router.Handle(r, router.Public, s.handleMsgDataAck)
	forward(s, r, func(m *pb.IMP2PCmdMsg) []uint32 {
		return []uint32{m.GetFromUserId(), m.GetToUserId()}
	})
	forward(s, r, func(m *pb.IMMsgDataReadNotify) []uint32 { return []uint32{m.GetUserId()} })
	forward(s, r, func(m *pb.IMFileNotify) []uint32 { return []uint32{m.GetToUserId()} })
	forward(s, r, func(m *pb.IMRemoveSessionNotify) []uint32 { return []uint32{m.GetUserId()} })
	router.Handle(r, router.Public, s.groups.handleChange)
	router.Handle(r, router.Public, s.changes.handleSignInfo)
	router.Handle(r, router.Public, s.changes.handleAvatar)
}

// forward registers the command of M, which is forwarded to the other message servers that have one
// of the users; nil: to all.
func forward[M any, P interface {
	*M
	pb.Message
}](s *Server, r *router.Router[*session.Link], users func(m P) []uint32) {
	router.Handle(r, router.Public, func(l *session.Link, _ uint16, m P) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pass(of(l), users(m), m)
		return nil
	})
}

// handleMsgData forwards a text to the message servers that have one of its users. db_proxy may
// have said which these are; it has read that after it stored the text.
func (s *Server) handleMsgData(l *session.Link, _ uint16, m *pb.MsgData) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := m.Whereabouts
	if known != nil || m.WantWhereabouts {
		stripped := *m // the message server keeps m
		stripped.Whereabouts, stripped.WantWhereabouts = nil, false
		m = &stripped
	}
	if m.Type.IsGroup() {
		s.groups.text(of(l), m)
		return nil
	}
	users := []uint32{m.FromUserID, m.ToSessionID}
	self := whereabouts.Node{Name: s.opt.Name, Epoch: s.writer.epoch}
	o, err := whereabouts.ParseOfMessage(known)
	if err != nil || !of(l).local || !o.Trusted(self) {
		s.pass(of(l), users, m)
		return nil
	}
	s.metrics.lookups.WithLabelValues("message").Add(float64(len(users)))
	asked := s.lookups.lookup(lookup{size: outgoing.SizeOf(m),
		then: func(func(uint32) ([]whereabouts.Entry, error)) {
			s.sendToUsers(true, users, func(user uint32) ([]whereabouts.Entry, error) {
				if user == m.FromUserID {
					return s.lookups.alive(user, o.Sender), nil
				}
				return s.lookups.alive(user, o.Receiver), nil
			}, m)
		}})
	if !asked {
		s.lookups.dropped()
	}
	return nil
}

// handleMsgDataAck forwards the receiver's ack to the message servers that have the sender. Acks of
// group messages are not forwarded: senders do not wait for them.
func (s *Server) handleMsgDataAck(l *session.Link, _ uint16, m *pb.IMMsgDataAck) error {
	if m.GetSessionType() != pb.SessionType_SESSION_TYPE_SINGLE {
		return im.Errorf(im.Invalid,
			"ack of a message with session type %d: only acks of single messages are forwarded",
			m.GetSessionType())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass(of(l), []uint32{m.GetSessionId()}, m)
	return nil
}

// pass passes a message of a link on: to the local message server if another mesh sent it,
// otherwise to the message servers that have one of users; nil: to all.
func (s *Server) pass(from *end, users []uint32, m pb.Message) {
	if from.node.Name != "" {
		s.metrics.received.WithLabelValues(m.Command().String()).Inc()
		s.toLocal(m)
		return
	}
	s.forward(from.local, users, m)
}

// forward sends a message to the message servers that have one of users; nil: to all. The local one
// does not get what it sent. The messages of one link are forwarded in their order, except that
// those for all, which change what all show, do not wait for the others.
func (s *Server) forward(local bool, users []uint32, m pb.Message) {
	if users == nil {
		s.links.Spread(m)
		if !local {
			s.toLocal(m)
		}
		return
	}
	asked := s.lookups.lookup(lookup{users: users, size: outgoing.SizeOf(m),
		then: func(find func(uint32) ([]whereabouts.Entry, error)) {
			s.sendToUsers(local, users, find, m)
		}})
	if !asked {
		s.lookups.dropped()
	}
}

// sendToUsers sends a message to the message servers that have one of users. While the store fails,
// all message servers get the message: those without the users ignore it.
func (s *Server) sendToUsers(local bool, users []uint32,
	find func(uint32) ([]whereabouts.Entry, error), m pb.Message) {
	to := map[whereabouts.Node]struct{}{}
	here := false
	for _, user := range users {
		entries, err := find(user)
		if err != nil {
			s.metrics.floods.Inc()
			s.links.Spread(m)
			if !local {
				s.toLocal(m)
			}
			return
		}
		for _, e := range entries {
			to[e.Node] = struct{}{}
		}
		here = here || s.users[user] != nil
	}
	for node := range to {
		s.links.Peer(node).Send(m)
	}
	if here && !local {
		s.toLocal(m)
	} else if len(to) == 0 {
		s.metrics.nobody.WithLabelValues(m.Command().String()).Inc()
	}
}

// dropped records that a message was not forwarded. Texts are sent again a moment later.
func (s *lookups) dropped() {
	if !s.lookups.failing {
		s.lookups.failing, s.lookups.since = true, s.opt.Now()
	}
}
