package route

import (
	"slices"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/core/trace"
	"teamtalk/proto/pb"
)

// handleForwards registers the commands that are forwarded, each with the users whose
// servers receive it.
func (r *Server) handleForwards() {
	router.Handle(r.Router, router.Public, r.handleServerKickUser)
	router.Handle(r.Router, router.Public, r.handleMsgData)
	router.Handle(r.Router, router.Public, r.handleMsgDataAck)
	forward(r, func(m *pb.IMP2PCmdMsg) []uint32 {
		return []uint32{m.GetFromUserId(),
			m.GetToUserId()}
	})
	forward(r, func(m *pb.IMMsgDataReadNotify) []uint32 { return []uint32{m.GetUserId()} })
	router.Handle(r.Router, router.Public, r.handleFileNotify)
	forward(r, func(m *pb.IMRemoveSessionNotify) []uint32 { return []uint32{m.GetUserId()} })
	// Every message server caches the members of groups, also of groups without a member
	// online on it. So all of them receive changes of members.
	router.Handle(r.Router, router.Public,
		func(s *session.Link, seq uint16, m *pb.IMGroupChangeMemberNotify) error {
			r.forwardTo(r.all(of(s).node), seq, m)
			return nil
		})
	everybody[pb.IMSignInfoChangedNotify](r)
	everybody[pb.IMAvatarChangedNotify](r)
}

// forward registers the command of M, which is forwarded to the other message servers
// that hold one of the users.
func forward[M any, P interface {
	*M
	pb.Message
}](r *Server, users func(m P) []uint32) {
	router.Handle(r.Router, router.Public, func(s *session.Link, seq uint16, m P) error {
		r.forwardTo(r.holders(of(s).node, users(m)...), seq, m)
		return nil
	})
}

// everybody registers the command of M, which is forwarded to all message servers. The
// sending server is included: it notifies its own clients when the message returns.
func everybody[M any, P interface {
	*M
	pb.Message
}](r *Server) {
	router.Handle(r.Router, router.Public, func(_ *session.Link, seq uint16, m P) error {
		r.forwardTo(r.all(0), seq, m)
		return nil
	})
}

// handleMsgData forwards a message to the servers that hold the recipient, and to those
// that hold other clients of the sender. A message that is sent again goes only to those
// that recognise one that they have, a repeated one only to those that remember what they
// have delivered: others would deliver it twice.
func (r *Server) handleMsgData(s *session.Link, seq uint16, m *pb.MsgData) error {
	from := of(s).node
	var to []*server
	if m.Type.IsGroup() { // only the message servers know the members
		to = r.all(from)
	} else {
		to = r.holders(from, m.FromUserID, m.ToSessionID)
	}
	if m.Resent || m.Duplicate {
		to = slices.DeleteFunc(slices.Clone(to), func(sv *server) bool {
			return m.Resent && !sv.resent.Load() || m.Duplicate && !sv.repeats.Load()
		})
	}
	span := trace.Span{Stage: trace.Route, Count: len(to),
		Message: trace.Of(m.FromUserID, m.ToSessionID, m.Type.IsGroup(), m.MsgID)}
	if !r.opt.Trace.Samples(span.Message) || m.Resent || m.Duplicate {
		r.forwardTo(to, seq, m)
		return nil
	}
	span.Begin = r.opt.Now()
	r.forwardTo(to, seq, m)
	span.End = r.opt.Now()
	r.opt.Trace.Record(span)
	return nil
}

// handleFileNotify forwards a notify of a file to the servers that hold the receiver. One
// that is repeated goes only to those that recognise it: the others would show the file
// twice.
func (r *Server) handleFileNotify(s *session.Link, seq uint16, m *pb.IMFileNotify) error {
	to := r.holders(of(s).node, m.GetToUserId())
	if m.HasAge() {
		to = slices.DeleteFunc(slices.Clone(to), func(sv *server) bool { return !sv.files.Load() })
	}
	r.forwardTo(to, seq, m)
	return nil
}

// handleMsgDataAck forwards the receiver's ack to the message servers that hold the
// sender. Acks of group messages are not forwarded: senders do not wait for them.
func (r *Server) handleMsgDataAck(s *session.Link, seq uint16, m *pb.IMMsgDataAck) error {
	if m.GetSessionType() != pb.SessionType_SESSION_TYPE_SINGLE {
		return im.Errorf(im.Invalid,
			"ack of a message with session type %d: only acks of single messages are forwarded",
			m.GetSessionType())
	}
	r.forwardTo(r.holders(of(s).node, m.GetSessionId()), seq, m)
	return nil
}

// handleServerKickUser forwards a kick to the other message servers that hold the user,
// and records the login that sent it. The login of a kick that is sent late is known. One
// with a number has no login, see handleNumberedKick.
func (r *Server) handleServerKickUser(s *session.Link, seq uint16,
	m *pb.IMServerKickUser) error {
	if m.HasNumber() {
		return r.handleNumberedKick(s, seq, m)
	}
	sv, user := of(s), m.GetUserId()
	st := r.stripe(user)
	st.mu.Lock()
	defer st.mu.Unlock()
	if m.GetReason() == uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER) && !m.HasAge() {
		st.claim(sv.node, m)
	}
	r.forwardTo(r.holders(sv.node, user), seq, m)
	return nil
}

// holders returns the other servers that hold one of users; with Options.Flood all other
// servers.
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

// forwardTo forwards m unchanged, with its seq and attach_data.
func (r *Server) forwardTo(to []*server, seq uint16, m pb.Message) {
	if len(to) == 0 {
		r.metrics.nobody.WithLabelValues(m.Command().String()).Inc()
		return
	}
	r.metrics.forwards.Add(float64(len(to)))
	r.send(to, seq, m)
}

// send pushes ms to servers, in order. The messages are encoded once for all servers that
// are connected over TCP. Servers in this process receive the same message values and
// must not change them.
func (r *Server) send(to []*server, seq uint16, ms ...pb.Message) {
	frames, err := encode(to, seq, ms)
	if err != nil {
		r.metrics.drops.Add(float64(len(to) * len(ms)))
		r.log.Error("message not encoded", "role", "route", "cmd", ms[0].Command().String(), "err",
			err)
		return
	}
	for _, sv := range to {
		// A push fails when the link is full or closed. The link ends, and its server
		// reports its users again when it has reconnected.
		if err := sv.push(seq, ms, frames); err != nil {
			r.metrics.drops.Add(float64(len(ms)))
			r.log.Warn("message not sent", "role", "route", "conn", sv.session.ID(), "cmd",
				ms[0].Command().String(), "err", err)
		}
	}
}

// encode returns the frames of ms; nil when every server in to is in this process.
func encode(to []*server, seq uint16, ms []pb.Message) ([]byte, error) {
	if !slices.ContainsFunc(to, func(sv *server) bool { return sv.session.TakesFrames() }) {
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

func (sv *server) push(seq uint16, ms []pb.Message, frames []byte) error {
	if sv.session.TakesFrames() {
		return sv.session.SendFrames(frames)
	}
	for _, m := range ms {
		if err := sv.session.Send(seq, m); err != nil {
			return err
		}
	}
	return nil
}
