package client

import (
	"bytes"
	"slices"
	"time"

	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// inbox orders the messages from the server, fetches missed ones, and reports each once.
type inbox struct {
	*session
	groups *Groups
	out    *outbox

	// session.mu guards the following fields.
	convs    map[Peer]*conv
	syncing  *syncing
	loginAt  uint32 // server time of the first login, unix seconds
	again    bool   // this connection is not the first
	syncedAt uint32 // server time of the login before the last complete sync; 0 before
}

// conv is a Client's knowledge of a conversation. The ids of a conversation count up by
// one, so a missing message leaves a gap. Both sides use the same numbers, so the Client
// must know the ids of its own messages to tell a gap from a message that it just sent.
type conv struct {
	// base: every id up to here is settled: delivered, the user's own, or older than the
	// Client.
	base      uint32
	delivered uint32              // highest id delivered; ids up to it are duplicates
	own       map[uint32]struct{} // acked ids of own messages above base
	// missing holds ids below delivered that the server did not return. A message with
	// such an id is not a duplicate.
	missing  map[uint32]struct{}
	held     []im.Message // pushed, and waiting for the gap before them
	overflow bool         // more messages were pushed than may be held
	fetch    *fetch       // fills the gap; nil without one
	watched  bool         // a timer will check a gap below own messages
	dirty    bool         // a gap was open when the connection was lost
}

// Limits per conversation. Above maxOwn own ids the Client fetches the history between
// them. Above the other limits, and above sixteen times maxOwn during the fetch, a gap
// may stay unnoticed, or a late message is taken for a duplicate.
const (
	maxOwn     = 256
	maxMissing = 256
	maxHeld    = 1000
)

// conv returns the entry of a conversation, which it creates if necessary. The caller
// holds b.mu.
func (b *inbox) conv(p Peer) *conv {
	v := b.convs[p]
	if v == nil {
		v = &conv{}
		b.convs[p] = v
	}
	return v
}

// sentOwn records the id of an own message.
func (v *conv) sentOwn(id uint32) {
	if id <= v.base {
		return
	}
	if v.own == nil {
		v.own = make(map[uint32]struct{})
	}
	v.own[id] = struct{}{}
	if len(v.own) > 16*maxOwn {
		for id := range v.own {
			v.base = max(v.base, id)
		}
	}
	if v.fetch == nil { // during a fetch the fetched copy must still be known as own
		v.advance()
	}
}

// watch starts a check of a gap below own messages that does not close. A message in the
// gap was stored and not pushed, as happens when the sender's message server has no route
// server. Without the check only a later push would reveal the gap. The caller holds
// b.mu.
func (b *inbox) watch(p Peer, v *conv) {
	switch {
	case len(v.own) == 0 || v.fetch != nil || !b.baseline || b.conn == nil:
	case len(v.own) > maxOwn:
		b.startFetch(b.conn, p, v, 0)
	case !v.watched:
		v.watched = true
		time.AfterFunc(b.opts.SyncTimeout, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			v.watched = false
			if len(v.own) > 0 && v.fetch == nil && b.conn != nil {
				b.startFetch(b.conn, p, v, 0)
			}
		})
	}
}

// advance moves base over own ids.
func (v *conv) advance() {
	for {
		if _, ok := v.own[v.base+1]; !ok {
			break
		}
		v.base++
	}
	for id := range v.own {
		if id <= v.base {
			delete(v.own, id)
		}
	}
}

// message handles a pushed message and acks it. It also acks a duplicate, because its ack
// may have been lost.
func (b *inbox) message(conn *tcp.Conn, d *pb.MsgData) {
	m := im.Message{ID: d.MsgID, From: d.FromUserID, To: d.ToSessionID, Created: d.CreateTime,
		Type: d.Type, Data: d.Data}
	self := conn.UserID()
	peer, session := Peer{ID: m.From}, m.From
	switch {
	case m.Type.IsGroup():
		peer = Peer{ID: m.To, Group: true}
		session = m.To
	case m.From == self:
		peer = Peer{ID: m.To}
	}
	b.mu.Lock()
	b.take(conn, peer, m)
	b.mu.Unlock()
	// A failed write ends the connection, and the message is fetched after the next one.
	_ = conn.Send(pb.IMMsgDataAck_builder{
		UserId: new(self), SessionId: new(session), MsgId: new(m.ID),
		SessionType: peer.SessionType().Enum(),
	}.Build(), 0)
}

// take delivers a pushed message, or holds it until the gap before it is filled. The
// caller holds b.mu.
func (b *inbox) take(conn *tcp.Conn, p Peer, m im.Message) {
	v := b.conv(p)
	switch {
	case m.ID <= v.delivered:
		if _, late := v.missing[m.ID]; !late {
			b.duplicates.Add(1)
			return
		}
		delete(v.missing, m.ID)
		if !b.claim(p, m) {
			b.groups.received(Received{Peer: p, Message: m})
		}
	case v.fetch != nil:
		if len(v.held) < maxHeld {
			v.held = append(v.held, m)
		} else {
			v.overflow = true
		}
	case m.ID > v.base+1 && (b.baseline || b.again || v.base > 0):
		v.held = append(v.held[:0], m)
		b.startFetch(conn, p, v, m.ID)
	default:
		b.hand(p, v, m, false)
	}
}

// hand reports a message as the newest of its conversation, unless it is a message of
// Send. The caller holds b.mu.
func (b *inbox) hand(p Peer, v *conv, m im.Message, missed bool) {
	_, own := v.own[m.ID]
	// Only advance moves base over ids that were not delivered.
	own = own || m.From == b.self.ID && m.ID <= v.base
	if !own && !b.claim(p, m) {
		b.groups.received(Received{Peer: p, Message: m, Missed: missed})
	}
	v.delivered = m.ID
	v.base = max(v.base, m.ID)
	v.advance()
}

// claim reports whether m is a copy of a message that this Client sent and that has no
// ack yet. Servers push a message to the sender's other connections, and the connection
// after a reconnect is another one. The copy has no client_msg_id, so a message with
// equal content is taken for it. The ack corrects a mistake.
func (b *inbox) claim(p Peer, m im.Message) bool {
	if m.From != b.self.ID {
		return false
	}
	for _, o := range b.out.waiting {
		if o.to == p && o.stored == nil && bytes.Equal(o.data, m.Data) {
			o.stored = &Received{Peer: p, Message: m}
			return true
		}
	}
	return false
}

// settle delivers, in order, the messages of a fetch and those pushed meanwhile. Ids that
// the server did not return are given up. The caller holds b.mu.
func (b *inbox) settle(p Peer, v *conv, fetched []im.Message) {
	live := make(map[uint32]bool, len(v.held))
	all := slices.Clone(v.held)
	for _, m := range v.held {
		live[m.ID] = true
	}
	for _, m := range fetched {
		if !live[m.ID] {
			all = append(all, m)
			b.fetched.Add(1)
		}
	}
	slices.SortStableFunc(all, func(a, b im.Message) int { return int(int64(a.ID) - int64(b.ID)) })
	v.held, v.fetch, v.dirty = nil, nil, false
	for _, m := range all {
		if m.ID <= v.delivered {
			continue
		}
		if v.base > 0 {
			v.skip(m.ID)
		}
		b.hand(p, v, m, !live[m.ID])
	}
}

// skip records the ids between base and the next message as missing.
func (v *conv) skip(next uint32) {
	for id := v.base + 1; id < next && len(v.missing) < maxMissing; id++ {
		if _, own := v.own[id]; own {
			continue
		}
		if v.missing == nil {
			v.missing = make(map[uint32]struct{})
		}
		v.missing[id] = struct{}{}
	}
}
