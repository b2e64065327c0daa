package conversation

import (
	"encoding/binary"
	"slices"
	"time"

	"teamtalk/core/session"
	"teamtalk/handlers/msg/turns"
	"teamtalk/handlers/msg/waits"
	"teamtalk/proto/pb"
)

// Flags of the tags of deliveries.
const (
	// TagGroup says that Peer is a group. Without it, Peer is the other user of the
	// conversation.
	TagGroup = 1 << iota
	// TagRemote says that the sender's message server waits for the ack.
	TagRemote
	// TagOwn says that the message is the receiver's own. Peer is the user that it is
	// for.
	TagOwn
)

// wantAck is the attach_data of a message forwarded to other message servers whose sender
// waits for the recipient's ack. It has the layout of the first implementation, with a
// type that it does not use. Its servers ignore it.
var wantAck = func() []byte {
	b := binary.BigEndian.AppendUint32(nil, 16)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 0), 0)
}()

// stored delivers a message that db_proxy has stored, acks it to the sender and forwards
// it to the other message servers. It runs where the answers of a conversation arrive, in
// their order. Messages of other message servers arrive between them: turns puts all of
// them into the order of their ids. Everything that a client gets of the conversation
// passes through the mailbox of the client's loop, which keeps that order.
func (h *Handler) stored(f Message) {
	m := f.data
	if m.Duplicate {
		strip(m)
		h.metrics.resends.Inc()
		h.repeats.take(m, f.from)
		f.from.Loop().Post(func() {
			h.opt.Client(f.from).sends.stored(f.seq, m.MsgID)
			h.outboxes.Landed(f.from, true)
			_ = f.from.Send(f.seq, ackOf(m, m.MsgID))
		})
		return
	}
	if m.Type.IsGroup() {
		h.groupStored(f, false)
		return
	}
	wait := waits.None
	if h.opt.Ack == AckDelivered {
		wait = h.Receipts.waits.For(m.ToSessionID)
	}
	h.userStored(f, wait)
}

// strip removes from a message what only db_proxy and the sender's message server know of it, and
// returns its whereabouts; nil: not known.
func strip(m *pb.MsgData) (whereabouts []byte) {
	whereabouts = m.Whereabouts
	m.AttachData, m.SenderConn, m.Epoch, m.Round = nil, 0, 0, 0
	m.SentAs, m.ResentWithin = 0, 0
	m.WantWhereabouts, m.Whereabouts = false, nil
	return whereabouts
}

// userStored is stored for a message to a user, whose ack waits as wait says.
func (h *Handler) userStored(f Message, wait waits.Kind) {
	m := f.data
	whereabouts := strip(m)
	// An ack that waits is registered before the delivery, so that no device can answer
	// before. One that does not wait is sent after the delivery: a client that logs in
	// once the sender has its ack finds the message in the history, and does not get it
	// delivered as well.
	if wait != waits.None {
		f.from.Loop().Post(func() { h.acknowledge(f, wait) })
	}
	h.turns.Take(turns.Turn{M: m, From: f.from,
		Tag: session.Tag{Peer: m.FromUserID, ID: m.MsgID}})
	if wait == waits.None {
		f.from.Loop().Post(func() { h.acknowledge(f, wait) })
	}
	if !h.others.Alone() {
		h.forward(m, wait, whereabouts)
	}
	h.opt.Pushes.Stored(m, nil)
}

// forward gives a message between users to the other message servers, with the whereabouts of its
// users if they are wanted.
func (h *Handler) forward(m *pb.MsgData, wait waits.Kind, whereabouts []byte) {
	forward := *m
	forward.ClientMsgID = nil
	if h.opt.Whereabouts {
		forward.Whereabouts = whereabouts
	}
	if wait != waits.None { // the ack of any device counts, also if the recipient has one here
		forward.AttachData = wantAck
	}
	h.giveOthers(&forward)
}

// groupStored is stored for a message to a group: the sender gets its ack at once. late
// says that the message was stored some time ago.
func (h *Handler) groupStored(f Message, late bool) {
	m := f.data
	m.ClientMsgID = nil
	strip(m)
	if m.GroupVersion == 0 { // a db_proxy that knows of no versions returns what it was sent
		m.HasGroupVersion = late // the other servers know then that it was stored some time ago
	}
	// Before the ack: a client that logs in once the sender has it finds the message in
	// the history, and does not get it delivered as well.
	if h.turns.First(OrderKey(m), m.MsgID) {
		h.opt.Groups.Deliver(m, f.from, late)
	}
	f.from.Loop().Post(func() { h.acknowledge(f, waits.None) })
	if !h.others.Alone() {
		forward := *m
		h.giveOthers(&forward)
	}
}

// deliver sends a message to all devices of both users here, except the one that it is
// from. Each conversation is delivered by one goroutine at a time.
func (h *Handler) deliver(t turns.Turn) {
	m, begin := t.M, h.traceBegin(t.M)
	to, mine := connectedBefore(t.Since, h.online.Of(m.ToSessionID)),
		connectedBefore(t.Since, h.online.Of(m.FromUserID))
	if t.Found {
		// One of the others may have sent it, and its message server may wait for the ack.
		mine = notWriting(mine, h.opt.Client, h.opt.Now())
		t.Tag.Flags |= TagRemote
	}
	if len(to) == 0 && (len(mine) == 0 || (len(mine) == 1 && mine[0] == t.From)) {
		return
	}
	frame := h.out.Frame(m)
	if frame == nil {
		return
	}
	h.out.Post(to, t.From, frame, t.Tag)
	h.out.Post(mine, t.From, frame, session.Tag{Peer: m.ToSessionID, ID: m.MsgID, Flags: TagOwn})
	h.traceDelivery(t, begin, len(to)+len(mine))
}

// connectedBefore returns the sessions with an id below since; all if since is 0.
func connectedBefore(since uint64, sessions []*session.Client) []*session.Client {
	after := func(s *session.Client) bool { return s.ID() >= since }
	if since == 0 || !slices.ContainsFunc(sessions, after) {
		return sessions
	}
	return slices.DeleteFunc(slices.Clone(sessions), after)
}

// notWriting returns the sessions that do not wait for the answer to a message of theirs.
func notWriting(sessions []*session.Client, client func(*session.Client) *Client,
	now time.Time) []*session.Client {
	return slices.DeleteFunc(slices.Clone(sessions),
		func(s *session.Client) bool { return client(s).Writes(now) })
}

// acknowledge sends the sender's ack of a stored message, or registers it to be sent when
// the message is delivered. Loop only.
func (h *Handler) acknowledge(f Message, kind waits.Kind) {
	s, m := f.from, f.data
	h.opt.Client(s).sends.stored(f.seq, m.MsgID)
	defer h.outboxes.Landed(s, true)
	if s.IsClosed() {
		return
	}
	if !m.Type.IsGroup() {
		h.opt.Contacts.AddContact(s, m.ToSessionID)
	}
	if kind == waits.None || (kind == waits.Elsewhere && !h.route.Up()) {
		h.Receipts.ack(s, f.seq, ackOf(m, m.MsgID), f.at)
		return
	}
	key := waits.Key{From: m.FromUserID, To: m.ToSessionID, ID: m.MsgID}
	h.Receipts.waits.Hold(s, f.seq, key, f.at, kind)
}

// HandleRouted delivers a message that another message server accepted.
func (h *Handler) HandleRouted(_ *session.Link, _ uint16, m *pb.MsgData) error {
	if m.Duplicate {
		h.repeats.deliver(m, nil)
		return nil
	}
	if m.Type.IsGroup() {
		if h.turns.First(OrderKey(m), m.MsgID) {
			h.opt.Groups.Deliver(m, nil, m.HasGroupVersion && m.GroupVersion == 0)
		}
		return nil
	}
	tag := session.Tag{Peer: m.FromUserID, ID: m.MsgID}
	if len(m.AttachData) == len(wantAck) &&
		binary.BigEndian.Uint32(m.AttachData) == binary.BigEndian.Uint32(wantAck) {
		tag.Flags |= TagRemote
	}
	h.turns.Take(turns.Turn{M: m, Tag: tag})
	return nil
}

// Found records that a search found a message, which its caller delivers. Any goroutine.
func (h *Handler) Found(m *pb.MsgData) { h.turns.First(OrderKey(m), m.MsgID) }
