package client

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// outbox holds the messages of Send until their acks, and the read acks until they are sent.
type outbox struct {
	*session
	groups *Groups
	in     *inbox

	// session.mu guards the following fields.
	waiting []*outgoing // messages without ack, in order
	bytes   int         // of waiting
	lastID  uint64
	limit   *rate.Limiter
	pumping bool            // a timer will call pump
	reads   map[Peer]uint32 // MarkRead while there was no connection
	idle    *sync.Cond      // waiting became empty, or the Client ended
}

// newOutbox returns an empty outbox.
func newOutbox(s *session) *outbox {
	return &outbox{session: s, reads: make(map[Peer]uint32), idle: sync.NewCond(&s.mu),
		limit: rate.NewLimiter(rate.Limit(s.opts.SendRate), sendBurst)}
}

// outgoing is a message without ack.
type outgoing struct {
	id   uint64
	name [16]byte // client_msg_id, by which servers deduplicate the message, on any connection
	to   Peer
	kind pb.MsgType
	data []byte

	// See order.go.
	state    sendState
	seq      uint16    // on the present connection, after the first attempt
	awaited  bool      // the connection waits for an answer with seq
	repeat   bool      // sent before without success, perhaps on another connection
	attempts int       // on the present connection
	timeouts int       // attempts without an answer
	sentAt   time.Time // time of the latest attempt
	since    time.Time // time of the first attempt on the present connection
	timer    *time.Timer

	// stored is a copy of the message that arrived before its ack; nil without one.
	stored *Received
}

// Send queues a text and returns a number for it at once. Acked or SendFailed reports the
// result under that number. Without a connection the message waits. It is stored once,
// however often it is sent, and never before an older message of the same conversation
// that is neither acked nor given up. Messages of one conversation are pipelined while
// the server acks promptly; otherwise later ones wait in the Client. Invalid for a text
// that is empty or longer than im.MaxText, Busy when Options.MaxPending messages wait,
// Denied for a group that the user has left, Closed when the Client has ended.
func (c *Client) Send(to Peer, text string) (uint64, error) {
	if text == "" {
		return 0, im.Errorf(im.Invalid, "empty message")
	}
	if len(text) > im.MaxText {
		return 0, im.Errorf(im.Invalid, "message of %d bytes, at most %d fit", len(text),
			im.MaxText)
	}
	return c.out.queueMessage(to, to.textType(), c.opts.Cipher.Encrypt(text))
}

// SendAudio queues a sound with its length in seconds. Otherwise it is like Send. Invalid
// when the sound is empty or longer than im.MaxAudio.
func (c *Client) SendAudio(to Peer, seconds uint32, sound []byte) (uint64, error) {
	if len(sound) == 0 || len(sound) > im.MaxAudio {
		return 0, im.Errorf(im.Invalid, "sound of %d bytes, 1 to %d fit", len(sound), im.MaxAudio)
	}
	return c.out.queueMessage(to, to.audioType(),
		append(binary.BigEndian.AppendUint32(nil, seconds), sound...))
}

// Pending returns the number of messages without ack.
func (c *Client) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out.waiting)
}

// Flush waits until every message of Send is acked or given up. It returns Unavailable
// when ctx ends, and Closed when the Client ends.
func (c *Client) Flush(ctx context.Context) error { return c.out.flush(ctx) }

// MarkRead tells the server that the conversation was read up to a message. The server
// tells the user's other devices. Without a connection it is sent on the next one.
func (c *Client) MarkRead(p Peer, msgID uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.sendRead(p, msgID)
}

// maxOutBytes is the most bytes of messages that wait for their acks.
const maxOutBytes = 64 << 20

// queueMessage queues a message.
func (b *outbox) queueMessage(to Peer, kind pb.MsgType, data []byte) (uint64, error) {
	name := b.opts.NewID()
	b.mu.Lock()
	defer b.mu.Unlock()
	if to == (Peer{ID: b.self.ID}) {
		return 0, im.Errorf(im.Invalid, "message to oneself")
	}
	if g := b.groups.states[to.ID]; to.Group && g != nil && g.known && !g.Has(b.self.ID) {
		return 0, im.Errorf(im.Denied, "not in the group any more")
	}
	if b.closing || b.err != nil {
		return 0, im.Errorf(im.Closed, "client closed")
	}
	n := len(b.waiting)
	if n >= b.opts.MaxPending || b.bytes+len(data) > maxOutBytes && n > 0 {
		return 0, im.Errorf(im.Busy, "%d messages wait for the server", n)
	}
	b.lastID++
	b.waiting = append(b.waiting,
		&outgoing{id: b.lastID, name: name, to: to, kind: kind, data: data})
	b.bytes += len(data)
	b.pump()
	return b.lastID, nil
}

// flush is Client.Flush.
func (b *outbox) flush(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.idle.Broadcast()
	})()
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 {
		switch {
		case ctx.Err() != nil:
			return im.WithKind(im.Unavailable, "messages without ack", ctx.Err())
		case b.ctx.Err() != nil:
			return im.Errorf(im.Closed, "client closed, %d messages without ack", len(b.waiting))
		}
		b.idle.Wait()
	}
	return nil
}

// sendReads sends the waiting read acks on a new connection. The caller holds b.mu.
func (b *outbox) sendReads() {
	for p, id := range b.reads {
		delete(b.reads, p)
		b.sendRead(p, id)
	}
}

// sendRead sends a read ack, or keeps it for the next connection. The caller holds b.mu.
func (b *outbox) sendRead(p Peer, msgID uint32) {
	if b.conn != nil && b.conn.Send(pb.IMMsgDataReadAck_builder{
		UserId: new(b.self.ID), SessionId: new(p.ID), MsgId: new(msgID),
		SessionType: p.SessionType().Enum(),
	}.Build(), 0) == nil {
		return
	}
	b.reads[p] = msgID
}

// message returns the message for the server, which sets sender and time itself.
func (o *outgoing) message(self uint32) *pb.MsgData {
	return &pb.MsgData{FromUserID: self, ToSessionID: o.to.ID, Type: o.kind, Data: o.data,
		ClientMsgID: o.name[:],
		WantRefusal: true}
}

// pumpLater calls pump when SendRate allows the next message. The caller holds b.mu.
func (b *outbox) pumpLater() {
	if b.pumping {
		return
	}
	b.pumping = true
	time.AfterFunc(time.Duration(float64(time.Second)/b.opts.SendRate), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.pumping = false
		b.pump()
	})
}

// stopTimers stops the timers of all messages. The caller holds b.mu.
func (b *outbox) stopTimers() {
	for _, o := range b.waiting {
		if o.timer != nil {
			o.timer.Stop()
		}
	}
}

// index returns the position of a message among those without ack, -1 when it is not
// among them. The caller holds b.mu.
func (b *outbox) index(o *outgoing) int {
	for i, p := range b.waiting {
		if p == o {
			return i
		}
	}
	return -1
}

// remove removes a message. The caller holds b.mu.
func (b *outbox) remove(o *outgoing) {
	i := b.index(o)
	if i < 0 {
		return
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	b.bytes -= len(o.data)
	if len(b.waiting) == 0 {
		b.idle.Broadcast()
	}
}
