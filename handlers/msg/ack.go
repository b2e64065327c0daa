package msg

import (
	"time"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// The sender's side: with AckDelivered an ack waits for an answer of the recipient's devices, but never longer than AckWait, and not for
// devices known not to answer.

// waitKind says what an ack waits for.
type waitKind uint8

const (
	noWait     waitKind = iota
	waitLocal           // a device of the recipient here answers
	waitRemote          // the recipient may be connected elsewhere: ask, then wait
)

// waitFor says what an ack to a message for user has to wait for. From anywhere.
func (h *Server) waitFor(user uint32) waitKind {
	sessions := h.online.Of(user)
	for _, s := range sessions {
		if !clientOf(s).unacked.silent.Load() {
			return waitLocal
		}
	}
	if len(sessions) > 0 {
		return noWait // here, and known not to answer
	}
	return waitRemote
}

type waitKey struct{ from, to, id uint32 }

// wait is an ack held back.
type wait struct {
	s      *session.Session
	seq    uint16
	remote bool
}

// ackWaits is a loop's acks held back, for its own sessions.
type ackWaits struct {
	open map[waitKey]wait
	due  []dueWait // in order of time; may hold keys that are gone from open
	// deaf are users elsewhere whose devices let AckWait pass; they are not waited for until they answer something. Bounded: emptied when full.
	deaf map[uint32]struct{}
}

type dueWait struct {
	key waitKey
	at  time.Time
}

// maxDeaf bounds what a loop remembers of users elsewhere that do not answer.
const maxDeaf = 16384

func newAckWaits() ackWaits {
	return ackWaits{open: map[waitKey]wait{}, deaf: map[uint32]struct{}{}}
}

// acknowledge sends the ack of a stored message, now or when it is delivered. On the sender's loop.
func (h *Server) acknowledge(s *session.Session, seq uint16, m *pb.MsgData, kind waitKind) {
	clientOf(s).sends.stored(seq, m.MsgID)
	if s.IsClosed() {
		return
	}
	if !m.Type.IsGroup() {
		h.addContact(s, m.ToSessionID)
	}
	st := stateOf(s.Loop())
	_, deaf := st.waits.deaf[m.ToSessionID]
	if kind == noWait || (kind == waitRemote && (deaf || !h.route.Up())) {
		_ = s.Send(seq, ackOf(m, m.MsgID))
		return
	}
	key := waitKey{m.FromUserID, m.ToSessionID, m.MsgID}
	st.waits.open[key] = wait{s: s, seq: seq, remote: kind == waitRemote}
	st.waits.due = append(st.waits.due, dueWait{key, s.Loop().Now().Add(h.opt.AckWait)})
	if kind == waitLocal {
		return
	}
	req := &pb.IMUsersStatReq{}
	req.SetUserId(s.User)
	req.SetUserIdList([]uint32{m.ToSessionID})
	h.route.Call(s.Loop(), uint64(m.ToSessionID), 0, req, func(rsp pb.Message, err error) {
		stat, ok := rsp.(*pb.IMUsersStatRsp)
		if err != nil || !ok || !onlineIn(stat, key.to) {
			h.release(s.Loop(), key)
		}
	})
}

// release sends an ack that was held back, if it still is. On the loop.
func (h *Server) release(l *session.Loop, key waitKey) bool {
	st := stateOf(l)
	w, ok := st.waits.open[key]
	if !ok {
		return false
	}
	delete(st.waits.open, key)
	ack := &pb.IMMsgDataAck{}
	ack.SetUserId(key.from)
	ack.SetSessionId(key.to)
	ack.SetMsgId(key.id)
	ack.SetSessionType(pb.SessionType_SESSION_TYPE_SINGLE)
	_ = w.s.Send(w.seq, ack)
	return true
}

// expireAcks sends the acks that have waited long enough, and remembers who did not answer.
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
		if w.remote {
			if len(st.waits.deaf) >= maxDeaf {
				clear(st.waits.deaf)
			}
			st.waits.deaf[key.to] = struct{}{}
			continue
		}
		for _, o := range h.online.Of(key.to) {
			o.Loop().Post(func() {
				if u := &clientOf(o).unacked; u.find(session.Tag{Peer: key.from, ID: key.id}) >= 0 {
					u.silent.Store(true)
				}
			})
		}
	}
	if len(due) == 0 {
		due = nil // let go of what append has grown
	}
	st.waits.due = due
}

// handleMsgDataAck takes a device's answer to a delivery.
func (h *Server) handleMsgDataAck(s *session.Session, _ uint16, m *pb.IMMsgDataAck) error {
	c := clientOf(s)
	u := &c.unacked
	u.silent.Store(false)
	u.mute = false
	tag := session.Tag{Peer: m.GetSessionId(), ID: m.GetMsgId()}
	if m.GetSessionType() == pb.SessionType_SESSION_TYPE_GROUP {
		tag.Flags |= tagGroup
	}
	i := u.find(tag)
	if i < 0 {
		return nil // answered before, or no longer followed
	}
	remote := u.at(i).tag.Flags&tagRemote != 0
	u.remove(i)
	if u.n == 0 {
		stateOf(s.Loop()).unwatch(c)
	}
	if tag.Flags&tagGroup != 0 || tag.Peer == s.User {
		return nil
	}
	m.SetUserId(s.User)
	h.answered(s.Loop(), m)
	if remote {
		h.toRoute(0, m)
	}
	return nil
}

// answered releases the ack of the message that m answers, if its sender waits here. here is the loop this runs on, nil for none.
func (h *Server) answered(here *session.Loop, m *pb.IMMsgDataAck) {
	if h.opt.Ack != AckDelivered {
		return
	}
	key := waitKey{from: m.GetSessionId(), to: m.GetUserId(), id: m.GetMsgId()}
	sessions := h.online.Of(key.from)
	for i, o := range sessions {
		if postedBefore(sessions[:i], nil, o.Loop()) {
			continue
		}
		l := o.Loop()
		if l == here {
			h.heard(l, key)
			continue
		}
		l.Post(func() { h.heard(l, key) })
	}
}

func (h *Server) heard(l *session.Loop, key waitKey) {
	delete(stateOf(l).waits.deaf, key.to)
	h.release(l, key)
}

// handleRoutedAck takes the answer of a device on another message server.
func (h *Server) handleRoutedAck(_ *session.Session, _ uint16, m *pb.IMMsgDataAck) error {
	h.answered(nil, m)
	return nil
}
