package msg

import (
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// The sender's side: with AckDelivered an ack waits for an answer of the receiver's
// devices, at most AckWait, and only while one of them is known to acknowledge
// deliveries. What is known of devices on other message servers is asked of a route
// server that forwards acks; C++ route servers drop them.

// waitKind says what an ack waits for.
type waitKind uint8

const (
	noWait     waitKind = iota
	waitLocal           // a device of the receiver here answers
	waitRemote          // the receiver may be connected elsewhere: ask, then wait
)

// waitFor says what an ack to a message for user has to wait for. From anywhere.
func (h *Server) waitFor(user uint32) waitKind {
	for _, s := range h.online.Of(user) {
		if clientOf(s).unacked.answers.Load() {
			return waitLocal
		}
	}
	if h.presence.hasReceipts.Load() {
		return waitRemote
	}
	return noWait
}

type waitKey struct{ from, to, id uint32 }

// wait is an ack held back.
type wait struct {
	s   *session.Session
	seq uint16
}

// ackWaits is a loop's acks held back, for its own sessions.
type ackWaits struct {
	open map[waitKey]wait
	due  []dueWait // in order of time; may hold keys that are gone from open
}

type dueWait struct {
	key waitKey
	at  time.Time
}

func newAckWaits() ackWaits { return ackWaits{open: map[waitKey]wait{}} }

// acknowledge sends the ack of a stored message, now or when it is delivered. On the
// sender's loop.
func (h *Server) acknowledge(s *session.Session, seq uint16, m *pb.MsgData, kind waitKind) {
	clientOf(s).sends.stored(seq, m.MsgID)
	if s.IsClosed() {
		return
	}
	if !m.Type.IsGroup() {
		h.addContact(s, m.ToSessionID)
	}
	if kind == noWait || (kind == waitRemote && !h.route.Up()) {
		_ = s.Send(seq, ackOf(m, m.MsgID))
		return
	}
	st := stateOf(s.Loop())
	key := waitKey{m.FromUserID, m.ToSessionID, m.MsgID}
	st.waits.open[key] = wait{s: s, seq: seq}
	st.waits.due = append(st.waits.due, dueWait{key, s.Loop().Now().Add(h.opt.AckWait)})
	if kind == waitLocal {
		h.metrics.waitsHere.Inc()
		return
	}
	h.askForAcks(s, key)
}

// askForAcks asks whether a device elsewhere acknowledges deliveries, and sends the ack
// at once when none does. An answer without the scope is that of a C++ route server,
// which does not know.
func (h *Server) askForAcks(s *session.Session, key waitKey) {
	scope := pb.DeviceScope_DEVICE_SCOPE_ACKS
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(key.from), UserIdList: []uint32{key.to},
		Scope: scope.Enum()}.Build()
	h.route.Call(s.Loop(), uint64(key.to), 0, req, func(rsp pb.Message, err error) {
		stat, ok := rsp.(*pb.IMUsersStatRsp)
		proven := err == nil && ok && stat.HasScope() && stat.GetScope() == scope
		if proven && onlineIn(stat, key.to) {
			h.metrics.waitsElsewhere.Inc()
			return
		}
		h.release(s.Loop(), key)
	})
}

// release sends an ack that was held back, if it still is. On the loop.
func (h *Server) release(l *session.Loop, key waitKey) {
	st := stateOf(l)
	w, ok := st.waits.open[key]
	if !ok {
		return
	}
	delete(st.waits.open, key)
	ack := &pb.IMMsgDataAck{}
	ack.SetUserId(key.from)
	ack.SetSessionId(key.to)
	ack.SetMsgId(key.id)
	ack.SetSessionType(pb.SessionType_SESSION_TYPE_SINGLE)
	_ = w.s.Send(w.seq, ack)
}

// expireAcks sends the acks that have waited long enough. The devices here that did not
// answer are not waited for until they do; those elsewhere are their own server's to
// judge, see overdueOf.
func (h *Server) expireAcks(st *loopState, now time.Time) {
	due := st.waits.due
	for len(due) > 0 && !now.Before(due[0].at) {
		key := due[0].key
		due = due[1:]
		w, ok := st.waits.open[key]
		if !ok {
			continue
		}
		h.release(w.s.Loop(), key)
		h.metrics.ackTimeouts.Inc()
		for _, o := range h.online.Of(key.to) {
			o.Loop().Post(func() {
				if clientOf(o).unacked.find(session.Tag{Peer: key.from, ID: key.id}) >= 0 {
					h.setAnswers(o, false)
				}
			})
		}
	}
	if len(due) == 0 {
		due = nil // release what append has grown
	}
	st.waits.due = due
}

// answered releases the ack of a message that a device of its receiver acknowledged, if
// its sender waits here. here is the loop this runs on, nil for none.
func (h *Server) answered(here *session.Loop, key waitKey) {
	if h.opt.Ack != AckDelivered {
		return
	}
	sessions := h.online.Of(key.from)
	for i, o := range sessions {
		if postedBefore(sessions[:i], nil, o.Loop()) {
			continue
		}
		l := o.Loop()
		if l == here {
			h.release(l, key)
			continue
		}
		l.Post(func() { h.release(l, key) })
	}
}

// handleRoutedAck takes the answer of a device on another message server.
func (h *Server) handleRoutedAck(_ *session.Session, _ uint16, m *pb.IMMsgDataAck) error {
	h.answered(nil, waitKey{from: m.GetSessionId(), to: m.GetUserId(), id: m.GetMsgId()})
	return nil
}
