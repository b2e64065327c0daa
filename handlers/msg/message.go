package msg

import (
	"encoding/binary"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Tag flags of deliveries.
const (
	tagGroup  = 1 << iota // Peer is a group; without it, the other user of the conversation
	tagRemote             // the sender's message server wants to know of the answer
	tagOwn                // the receiver's own message: Peer is the user that it is for
)

// handleMsgData takes a message from a client: check, have it stored. It is acked and delivered in msgStored, when db_proxy has answered.
func (h *Server) handleMsgData(s *session.Session, seq uint16, m *pb.MsgData) error {
	m.FromUserID = s.User
	h.inFlight.Add(1) // before looking, so that Drain cannot miss it
	taken := false
	defer func() {
		if !taken {
			h.inFlight.Add(-1)
		}
	}()
	if h.draining.Load() {
		h.metrics.dropped.WithLabelValues("shutdown").Inc()
		return im.Errorf(im.Closed, "message not taken: shutting down")
	}
	if reason := h.unfit(m); reason != "" {
		h.metrics.dropped.WithLabelValues(reason).Inc()
		return im.Errorf(im.Invalid, "message dropped: %s", reason)
	}
	c, now := clientOf(s), s.Loop().Now()
	id, state := c.sends.look(seq, m, now, h.opt.ResendWindow)
	switch state {
	case sendStored:
		h.metrics.resends.Inc()
		return s.Send(seq, ackOf(m, id))
	case sendPending:
		h.metrics.resends.Inc()
		return nil // the answer to the first one is on its way
	}
	g := h.sendingOf(s, seq, m, now)
	if h.opt.Rate > 0 && !c.bucket.take(now, h.opt.Rate, h.opt.RateBurst) {
		h.metrics.dropped.WithLabelValues("rate").Inc()
		if g.wants { // it repeats the message: what it sends after it waits for that
			c.sends.order.failed(g)
			h.refuseMessage(s, &g, pb.MsgRefusal_MSG_REFUSAL_AGAIN)
		}
		return im.Errorf(im.Denied, "message dropped: more than %g a second", h.opt.Rate)
	}
	if !c.sends.order.admit(&g) {
		h.behindFailed(s, &g)
		return nil
	}
	m.MsgID, m.CreateTime, m.AttachData, m.Duplicate = 0, h.unix(), nil, false
	m.GroupVersion, m.HasGroupVersion = 0, m.Type.IsGroup()
	m.WantRefusal, m.Rejected = false, false
	taken = true
	if state == sendUnknown {
		m.CreateTime = c.sends.retry(seq)
		h.storeAgain(s, g, m)
		return nil
	}
	c.sends.add(seq, g.hash, m, now, h.opt.ResendWindow)
	h.metrics.received.Inc()
	if c.sends.order.looking(g.target) {
		h.storeAgain(s, g, m) // behind one that is searched for
		return nil
	}
	h.store(s, g, m)
	return nil
}

// store has db_proxy store m, a message in flight. On the sender's loop.
func (h *Server) store(s *session.Session, g sending, m *pb.MsgData) {
	if g.repeats {
		m.SenderConn, m.Epoch = clientOf(s).sends.order.conn, g.epoch
	}
	// Not on the sender's loop: what is delivered must leave in the order of the answers, see msgStored.
	err := h.db.TryCall(orderKey(m), g.seq, m, func(rsp pb.Message, err error) {
		defer h.inFlight.Add(-1)
		stored, ok := rsp.(*pb.MsgData)
		if err != nil || !ok || stored.MsgID == 0 {
			h.notStored(s, g, stored, err)
			return
		}
		h.msgStored(s, g.seq, stored)
	})
	if err != nil {
		h.inFlight.Add(-1)
		h.notStoredHere(s, g, false, err)
	}
}

// orderKey is what m's order is kept by.
func orderKey(m *pb.MsgData) uint64 {
	if m.Type.IsGroup() {
		return im.GroupKey(m.ToSessionID)
	}
	return im.ConversationKey(m.FromUserID, m.ToSessionID)
}

func sessionType(m *pb.MsgData) pb.SessionType {
	if m.Type.IsGroup() {
		return pb.SessionType_SESSION_TYPE_GROUP
	}
	return pb.SessionType_SESSION_TYPE_SINGLE
}

// audioHead is the length of what precedes the sound in an audio message: its duration.
const audioHead = 4

// unfit says why a message is not taken; empty when it is. A decoded message has one of the four types.
func (h *Server) unfit(m *pb.MsgData) string {
	audio := m.Type == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || m.Type == pb.MsgType_MSG_TYPE_GROUP_AUDIO
	switch {
	case len(m.Data) == 0, audio && len(m.Data) <= audioHead:
		return "empty"
	case m.ToSessionID == m.FromUserID && !m.Type.IsGroup():
		return "to_self"
	case audio && len(m.Data) > im.MaxAudio+audioHead, !audio && len(m.Data) > im.MaxContent:
		return "too_long"
	case len(m.ClientMsgID) > im.MaxClientID:
		return "client_msg_id"
	case h.opt.RequireCipher && !audio && !im.IsCipherText(m.Data):
		return "no_cipher"
	}
	return ""
}

func ackOf(m *pb.MsgData, id uint32) *pb.IMMsgDataAck {
	ack := &pb.IMMsgDataAck{}
	ack.SetUserId(m.FromUserID)
	ack.SetSessionId(m.ToSessionID)
	ack.SetMsgId(id)
	ack.SetSessionType(sessionType(m))
	return ack
}

// msgStored goes on once db_proxy has answered. It runs where the answers of a conversation arrive, in their order, and everything a client gets of it
// goes through the mailbox of the client's loop: so each client sees a conversation in the order of its ids.
func (h *Server) msgStored(s *session.Session, seq uint16, m *pb.MsgData) {
	m.AttachData, m.SenderConn, m.Epoch = nil, 0, 0
	if m.Duplicate {
		h.metrics.resends.Inc()
		s.Loop().Post(func() {
			clientOf(s).sends.stored(seq, m.MsgID)
			_ = s.Send(seq, ackOf(m, m.MsgID))
		})
		return
	}
	if m.Type.IsGroup() {
		h.groupStored(s, seq, m, false)
		return
	}
	wait := noWait
	if h.opt.Ack == AckDelivered {
		wait = h.waitFor(m.ToSessionID)
	}
	// An ack that waits is there before anything is delivered, so that no answer can come before what waits for it. One that does not wait comes after:
	// who logs in once the sender has its ack finds the message in the history, and does not get it pushed as well.
	if wait != noWait {
		s.Loop().Post(func() { h.acknowledge(s, seq, m, wait) })
	}
	h.deliver(m, s, session.Tag{Peer: m.FromUserID, ID: m.MsgID})
	if wait == noWait {
		s.Loop().Post(func() { h.acknowledge(s, seq, m, wait) })
	}

	forward := *m
	forward.ClientMsgID = nil
	if wait != noWait { // any device's answer will do, also where the recipient has one here
		forward.AttachData = wantAck
	}
	h.toRoute(0, &forward)
	h.pushes.Stored(m, nil)
}

// wantAck is the attach_data of a message passed on to other message servers whose sender waits for the recipient's answer. It has the layout of
// the first implementation, with a type that it does not use; its servers ignore it.
var wantAck = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 16), 0), 0)

// deliver gives m to all devices of both users here, except the session it came from. Each conversation is delivered by one goroutine at a time.
func (h *Server) deliver(m *pb.MsgData, from *session.Session, tag session.Tag) {
	to, mine := h.online.Of(m.ToSessionID), h.online.Of(m.FromUserID)
	if len(to) == 0 && (len(mine) == 0 || (len(mine) == 1 && mine[0] == from)) {
		return
	}
	frame := h.clientFrame(m)
	if frame == nil {
		return
	}
	h.post(to, from, frame, tag)
	h.post(mine, from, frame, session.Tag{Peer: m.ToSessionID, ID: m.MsgID, Flags: tagOwn})
}

// clientFrame is m as clients get it: without what servers tell each other. nil when it does not encode.
func (h *Server) clientFrame(m *pb.MsgData) []byte {
	out := pb.MsgData{FromUserID: m.FromUserID, ToSessionID: m.ToSessionID, MsgID: m.MsgID, CreateTime: m.CreateTime, Type: m.Type, Data: m.Data}
	frame, err := pdu.Append(make([]byte, 0, pdu.HeaderLen+out.BodySize()), 0, &out)
	if err != nil {
		h.log.Error("message not encoded", "user", m.FromUserID, "err", err)
		return nil
	}
	return frame
}

// post gives one frame to all sessions but one, with one note to each of their loops.
func (h *Server) post(sessions []*session.Session, but *session.Session, frame []byte, tag session.Tag) {
	if len(frame) > androidFrame {
		var android []*session.Session
		if android, sessions = apart(sessions); len(android) > 0 {
			if short := h.shortFrame(frame); short != nil {
				h.post(android, but, short, tag)
			}
		}
	}
	for i, s := range sessions {
		if s == but || postedBefore(sessions[:i], but, s.Loop()) {
			continue
		}
		var group []*session.Session
		for _, o := range sessions[i:] {
			if o != but && o.Loop() == s.Loop() {
				group = append(group, o)
			}
		}
		h.metrics.deliveries.Add(float64(len(group)))
		if err := s.Loop().PostTagged(group, frame, tag); err != nil {
			h.warn(&h.often.delivery, "delivery dropped, sessions closed", "user", s.User, "err", err)
		}
	}
}

func postedBefore(sessions []*session.Session, but *session.Session, l *session.Loop) bool {
	for _, s := range sessions {
		if s != but && s.Loop() == l {
			return true
		}
	}
	return false
}

// handleRoutedMsgData delivers a message that came in on another message server.
func (h *Server) handleRoutedMsgData(_ *session.Session, _ uint16, m *pb.MsgData) error {
	if m.Type.IsGroup() {
		h.groups.deliver(m, nil, false)
		return nil
	}
	tag := session.Tag{Peer: m.FromUserID, ID: m.MsgID}
	if len(m.AttachData) == len(wantAck) && binary.BigEndian.Uint32(m.AttachData) == binary.BigEndian.Uint32(wantAck) {
		tag.Flags |= tagRemote
	}
	h.deliver(m, nil, tag)
	return nil
}
