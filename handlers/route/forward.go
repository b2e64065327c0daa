package route

import (
	"slices"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// handleForwards enters the commands that are sent on, each with the users it concerns.
func (r *Server) handleForwards() {
	router.Handle(r.Router, router.Public, r.handleServerKickUser)
	router.Handle(r.Router, router.Public, r.handleMsgData)
	router.Handle(r.Router, router.Public, r.handleMsgDataAck)
	forward(r, func(m *pb.IMP2PCmdMsg) []uint32 { return []uint32{m.GetFromUserId(), m.GetToUserId()} })
	forward(r, func(m *pb.IMMsgDataReadNotify) []uint32 { return []uint32{m.GetUserId()} })
	forward(r, func(m *pb.IMFileNotify) []uint32 { return []uint32{m.GetToUserId()} })
	forward(r, func(m *pb.IMRemoveSessionNotify) []uint32 { return []uint32{m.GetUserId()} })
	// Message servers keep memberships of groups whose members are elsewhere at the moment: all of them hear of changes.
	router.Handle(r.Router, router.Public, func(s *session.Session, seq uint16, m *pb.IMGroupChangeMemberNotify) error {
		r.forwardTo(r.all(of(s).node), seq, m)
		return nil
	})
	everybody[pb.IMSignInfoChangedNotify](r)
	everybody[pb.IMAvatarChangedNotify](r)
}

// forward sends commands of M's kind on to the other message servers that hold one of the users.
func forward[M any, P interface {
	*M
	pb.Message
}](r *Server, users func(m P) []uint32) {
	router.Handle(r.Router, router.Public, func(s *session.Session, seq uint16, m P) error {
		r.forwardTo(r.holders(of(s).node, users(m)...), seq, m)
		return nil
	})
}

// everybody sends commands of M's kind to all message servers, the sending one included: it tells its own clients when it comes back.
func everybody[M any, P interface {
	*M
	pb.Message
}](r *Server) {
	router.Handle(r.Router, router.Public, func(_ *session.Session, seq uint16, m P) error {
		r.forwardTo(r.all(0), seq, m)
		return nil
	})
}

// handleMsgData sends a message on for the recipient's clients and the sender's other ones.
func (r *Server) handleMsgData(s *session.Session, seq uint16, m *pb.MsgData) error {
	from := of(s).node
	if m.Type.IsGroup() { // who is a member is for the message servers to know
		r.forwardTo(r.all(from), seq, m)
		return nil
	}
	r.forwardTo(r.holders(from, m.FromUserID, m.ToSessionID), seq, m)
	return nil
}

// handleMsgDataAck tells the message server of a message's sender that it was delivered. Of group messages nobody waits for that.
func (r *Server) handleMsgDataAck(s *session.Session, seq uint16, m *pb.IMMsgDataAck) error {
	if m.GetSessionType() != pb.SessionType_SESSION_TYPE_SINGLE {
		return im.Errorf(im.Invalid, "ack of session type %d is not forwarded", m.GetSessionType())
	}
	r.forwardTo(r.holders(of(s).node, m.GetSessionId()), seq, m)
	return nil
}

// handleServerKickUser ends a user's clients of a class on the other message servers.
func (r *Server) handleServerKickUser(s *session.Session, seq uint16, m *pb.IMServerKickUser) error {
	sv, user := of(s), m.GetUserId()
	st := r.stripe(user)
	st.mu.Lock()
	defer st.mu.Unlock()
	if m.GetReason() == uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER) {
		st.claim(sv.node, m)
	}
	r.forwardTo(r.holders(sv.node, user), seq, m)
	return nil
}

// holders returns the other servers that hold one of users; with Options.Flood all others.
func (r *Server) holders(from Node, users ...uint32) []*server {
	if r.opt.Flood {
		return r.all(from)
	}
	var nodes []Node
	for _, user := range users {
		if nodes == nil {
			nodes = slices.Clip(r.where.Holders(user))
			continue
		}
		nodes = append(nodes, r.where.Holders(user)...)
	}
	return r.find(nodes, from)
}

// forwardTo sends m on as it came, seq and attach_data included.
func (r *Server) forwardTo(to []*server, seq uint16, m pb.Message) {
	if len(to) == 0 {
		r.metrics.nobody.WithLabelValues(m.Command().String()).Inc()
		return
	}
	r.metrics.forwards.Add(float64(len(to)))
	r.send(to, seq, m)
}

// send pushes messages to servers, in order. They are encoded once for all servers that are on the wire; those in this process share
// them, and nobody changes them.
func (r *Server) send(to []*server, seq uint16, ms ...pb.Message) {
	frames, err := encode(to, seq, ms)
	if err != nil {
		r.metrics.drops.Add(float64(len(to) * len(ms)))
		r.log.Error("message not encoded", "role", "route", "cmd", ms[0].Command().String(), "err", err)
		return
	}
	for _, sv := range to {
		if err := sv.push(seq, ms, frames); err != nil { // the link is full or closed: it ends, and its server asks anew
			r.metrics.drops.Add(float64(len(ms)))
			r.log.Warn("message not sent", "role", "route", "conn", sv.session.ID(), "cmd", ms[0].Command().String(), "err", err)
		}
	}
}

// encode returns the frames of ms, nil when nobody needs them.
func encode(to []*server, seq uint16, ms []pb.Message) ([]byte, error) {
	if !slices.ContainsFunc(to, (*server).remote) {
		return nil, nil
	}
	var frames []byte
	for _, m := range ms {
		var err error
		if frames, err = pdu.Append(frames, seq, m); err != nil {
			return nil, err
		}
	}
	return frames, nil
}

// remote reports whether frames are what the server understands; the others are in this process.
func (sv *server) remote() bool { return sv.session.Loop() != nil }

func (sv *server) push(seq uint16, ms []pb.Message, frames []byte) error {
	if sv.remote() {
		return sv.session.PushFrame(frames)
	}
	for _, m := range ms {
		if err := sv.session.Push(seq, m); err != nil {
			return err
		}
	}
	return nil
}
