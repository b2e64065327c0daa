package conversation

import (
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// HandleMessage takes a message from a client. accept decides whether it is stored.
func (h *Handler) HandleMessage(s *session.Client, seq uint16, m *pb.MsgData) error {
	m.FromUserID = s.User
	return h.handle(s, seq, m, s.Loop().Now())
}

// handle is HandleMessage for a message that was received at that time. It counts from
// then how long the sender of a repeat waits for the ack.
func (h *Handler) handle(s *session.Client, seq uint16, m *pb.MsgData, received time.Time) error {
	h.inFlight.Add(1)
	taken, err := h.accept(s, seq, m, received)
	if !taken {
		h.inFlight.Add(-1)
	}
	return err
}

// accept checks a message, recognises a repeated one, limits the rate of the connection,
// keeps the order of the conversation, and gives the message to db_proxy. It reports
// whether the message is in flight now. Loop only.
func (h *Handler) accept(s *session.Client, seq uint16, m *pb.MsgData, received time.Time) (
	taken bool, err error) {
	if h.opt.Client(s).refuses {
		h.metrics.dropped.WithLabelValues("shutdown").Inc()
		return false, im.Errorf(im.Closed, "message not taken: shutting down")
	}
	if reason := unfit(m, h.opt.RequireCipher); reason != "" {
		h.metrics.dropped.WithLabelValues(reason).Inc()
		f := attempt{Message: Message{from: s, target: targetOf(m), seq: seq}, wants: m.WantRefusal}
		f.refuse(pb.MsgRefusal_MSG_REFUSAL_REJECTED)
		return false, im.Errorf(im.Invalid, "message dropped: %s", reason)
	}
	c, now := h.opt.Client(s), s.Loop().Now()
	id, state := c.sends.look(seq, m, now, h.opt.ResendWindow)
	switch state {
	case sendStored:
		h.metrics.resends.Inc()
		return false, s.Send(seq, ackOf(m, id))
	case sendPending:
		h.metrics.resends.Inc()
		return false, nil // the answer to the first one is on its way
	}
	f := h.newAttempt(s, seq, m, now)
	if r := h.rate.Load(); r.aSecond > 0 && !c.bucket.TakeN(now, r.costOf(m), r.aSecond, r.burst) {
		h.metrics.dropped.WithLabelValues("rate").Inc()
		c.sends.order.failed(f, now) // a sender that repeats does, and later ones wait for that
		f.refuse(pb.MsgRefusal_MSG_REFUSAL_AGAIN)
		return false, im.Errorf(im.Denied, "message dropped: more than %g a second", r.aSecond)
	}
	behind := c.isBehind(&f)
	if behind {
		c.sends.order.comesAgain(&f)
	} else if !c.sends.order.admit(&f) {
		h.metrics.dropped.WithLabelValues("behind_failed").Inc()
		f.refuse(pb.MsgRefusal_MSG_REFUSAL_AGAIN)
		return false, nil
	}
	if !f.asked.IsZero() {
		f.asked = received
	}
	ownFields(m, h.opt.Now())
	h.number(s, seq, m, now)
	if state == sendUnknown {
		h.repeated(&f, received)
		if f.doubt = behind; !behind {
			h.storeAgain(f)
			return true, nil
		}
	} else {
		c.outbox.Accepted(now)
		c.sends.add(seq, f.hash, m, received, h.opt.ResendWindow)
		h.metrics.received.Inc()
	}
	h.pass(f, behind)
	return true, nil
}

// pass gives an accepted message to db_proxy, or holds it behind others.
func (h *Handler) pass(f attempt, behind bool) {
	switch c := h.opt.Client(f.from); {
	case behind:
		if !h.outboxes.Hold(&h.opt.Loop(f.from.Loop()).outboxes, f.from, f, nil) {
			h.giveUp(f, false, errBehind)
		}
	case c.sends.order.looking(f.target):
		h.storeAgain(f) // the history is searched for a message before it
	default:
		h.send(f)
	}
}

// repeated prepares the repeat of a message in doubt.
func (h *Handler) repeated(f *attempt, received time.Time) {
	c := h.opt.Client(f.from)
	f.asked = received
	c.outbox.Again(f.at)
	f.data.CreateTime = c.sends.retry(f.seq)
	if f.data.SentAs != 0 { // it may be committed after the history was searched
		f.data.ResentWithin = h.windowSeconds()
	}
}

// ownFields sets the fields of a client's message that are for servers.
func ownFields(m *pb.MsgData, now time.Time) {
	m.MsgID, m.CreateTime, m.AttachData, m.Duplicate = 0, uint32(now.Unix()), nil, false
	m.GroupVersion, m.HasGroupVersion = 0, m.Type.IsGroup()
	m.WantRefusal, m.Rejected, m.Round = false, false, 0
	m.SenderConn, m.Epoch = 0, 0 // send sets them
	m.Resent, m.Age = false, 0
	m.PrevID, m.HasPrevID = 0, !m.Type.IsGroup()  // asks for it
	m.WantWhereabouts, m.Whereabouts = false, nil // send sets the former
}

// number says how the client numbered a message. By that the store recognises a message
// that a client without client_msg_ids sends again on a new connection. It looks for one
// as long as the connection is young. Loop only.
func (h *Handler) number(s *session.Client, seq uint16, m *pb.MsgData, now time.Time) {
	m.SentAs, m.ResentWithin = 0, 0
	if len(m.ClientMsgID) > 0 || h.opt.ResendWindow <= 0 {
		return
	}
	m.SentAs = pb.SentAs(s.ClientType, seq)
	if m.SentAs != 0 && s.LoginAge(now) < h.opt.ResendWindow {
		m.ResentWithin = h.windowSeconds()
	}
}

// windowSeconds returns ResendWindow in seconds, rounded up.
func (h *Handler) windowSeconds() uint32 {
	return uint32((h.opt.ResendWindow + time.Second - 1) / time.Second)
}

// audioHead is the length of what precedes the sound in an audio message: its duration.
const audioHead = 4

// unfit returns why a message is not accepted, empty if it is. The decoder only lets the
// four message types through.
func unfit(m *pb.MsgData, requireCipher bool) string {
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
	case requireCipher && !audio && !im.IsCipherText(m.Data):
		return "no_cipher"
	}
	return ""
}

// send gives a message to db_proxy and continues with stored or notStored when db_proxy
// has answered. The answer is not taken on the sender's loop: deliveries must leave in
// the order of the answers. Loop only.
func (h *Handler) send(f attempt) {
	if c := h.opt.Client(f.from); f.repeats || f.holds {
		if f.holds && (!f.repeats || c.sends.order.find(f.target) == nil) {
			f.epoch = c.outbox.EpochAfter(f.epoch)
		}
		f.data.SenderConn, f.data.Epoch = c.sends.order.conn, f.epoch
	}
	f.data.WantWhereabouts = h.opt.Whereabouts && !f.group
	err := h.store.TryCall(OrderKey(f.data), f.seq, f.data, h.traced(f.from.Loop(), h.sent(f)))
	if err != nil {
		h.notStoredHere(f, false, err)
	}
}

// sent returns the function that takes db_proxy's answer.
func (h *Handler) sent(f attempt) func(pb.Message, error) {
	return func(rsp pb.Message, err error) {
		answer, ok := rsp.(*pb.MsgData)
		if err != nil || !ok || answer.MsgID == 0 {
			h.notStored(f, answer, err)
			h.awaitLate(f, err)
			return
		}
		defer h.inFlight.Add(-1)
		if f.doubt && answer.Duplicate { // stored by the attempt before, and not delivered
			answer.Duplicate = false
			h.storedBefore(f.answered(answer))
			return
		}
		h.stored(f.answered(answer))
	}
}

// refuse tells a client that wants to know it that its message was not stored. Loop only.
func (f *attempt) refuse(why pb.MsgRefusal) {
	if !f.wants || f.from.IsClosed() {
		return
	}
	ack := newAck(f.from.User, f.target, 0)
	ack.SetRefusal(why)
	_ = f.from.Send(f.seq, ack)
}

// messageBytes is how many bytes of a message cost as much as a short message. A sound of the
// field, of a minute, has less. Without this, twenty sounds of 1 MiB a second of each of some
// connections fill db_proxy's queue, and the messages of others are not stored.
const messageBytes = 64 << 10

// messageRate is Options.Rate with Options.RateBurst.
type messageRate struct{ aSecond, burst float64 }

// SetRate replaces Options.Rate and Options.RateBurst. Any goroutine.
func (h *Handler) SetRate(rate, burst float64) { h.rate.Store(&messageRate{rate, burst}) }

// costOf returns what a message costs of its connection's rate.
func (r *messageRate) costOf(m *pb.MsgData) float64 {
	return min(max(1, float64(len(m.Data))/messageBytes), max(1, r.burst))
}
