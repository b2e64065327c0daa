package client

import (
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Messages of Send leave in order, and are stored in order, conversation by conversation.
//
// While the server acks promptly, messages of one conversation are pipelined: servers of
// this project store no message that is pipelined behind one that they could not store.
// Other servers do not have this rule, so the Client holds back new messages when an
// older one of the conversation has waited longer than holdAfter for its ack. After a
// timeout, a refusal or a reconnect, the oldest message of the conversation is sent again
// alone, and the others follow its ack.

// sendState is the state of an outgoing message.
type sendState uint8

const (
	sendWaiting sendState = iota // to be sent when the messages before it allow
	sendFlying                   // in flight: sent and without an answer
	sendResting                  // refused for now; a timer sends it again
)

// holdAfter is the time that a message may wait for its ack before later messages of its
// conversation are held back. Servers ack within 300 ms unless a part of them is down.
const holdAfter = 300 * time.Millisecond

// pump sends the messages that may leave, oldest first, as fast as SendRate allows. The
// caller holds b.mu.
func (b *outbox) pump() {
	if b.conn == nil {
		return
	}
	now := time.Now()
	var held map[Peer]bool // conversations whose later messages are held back
	hold := func(p Peer) {
		if held == nil {
			held = make(map[Peer]bool)
		}
		held[p] = true
	}
	for i, o := range b.waiting {
		switch {
		case o.state == sendResting, o.state == sendFlying &&
			(o.repeat || now.Sub(o.sentAt) > b.opts.holdAfter):
			hold(o.to)
		case o.repeat && b.oldest(o.to, i) != o:
			hold(o.to) // only the oldest is sent again
		case o.state == sendFlying || held[o.to]:
		case !b.limit.Allow():
			b.pumpLater()
			return
		default:
			if err := b.transmit(o, now); err != nil {
				if im.KindOf(err) == im.Busy {
					b.pumpLater()
				}
				// After other errors the connection ends, and the next one sends the
				// messages again.
				return
			}
			if o.repeat {
				hold(o.to)
			}
		}
	}
}

// transmit sends a message, or sends it again with its seq on this connection. The caller
// holds b.mu.
func (b *outbox) transmit(o *outgoing, now time.Time) error {
	conn := b.conn
	answered := func(body []byte, err error) {
		if err == nil {
			b.answered(o, conn, body)
			b.throttle(conn)
		}
	}
	m := o.message(b.self.ID)
	var err error
	switch {
	case o.seq == 0:
		o.seq, err = conn.Go(m, pb.CmdMsgDataAck, answered)
	case o.awaited:
		err = conn.Send(m, o.seq)
	default:
		err = conn.Resend(o.seq, m, pb.CmdMsgDataAck, answered)
	}
	if err != nil {
		return err
	}
	if o.attempts++; o.attempts == 1 {
		o.since = now
	} else {
		b.resent.Add(1)
		b.emit(Resent{ID: o.id, Peer: o.to, Attempt: o.attempts})
	}
	o.awaited, o.state, o.sentAt = true, sendFlying, now
	o.after(b.opts.AckTimeout, func() { b.overdue(o, conn) })
	return nil
}

// after starts the message's timer in place of its last one.
func (o *outgoing) after(d time.Duration, do func()) {
	if o.timer != nil {
		o.timer.Stop()
	}
	o.timer = time.AfterFunc(d, do)
}

// overdue handles a missing ack. The message and the later ones of its conversation that
// are in flight are sent again, in order.
func (b *outbox) overdue(o *outgoing, conn *tcp.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.index(o)
	if b.conn != conn || i < 0 || o.state != sendFlying ||
		time.Since(o.sentAt) < b.opts.AckTimeout {
		return
	}
	defer b.pump()
	if o.timeouts++; o.timeouts >= b.opts.Attempts {
		b.giveUp(o, im.Errorf(im.Unavailable, "the server did not ack it in %d attempts",
			o.attempts))
		return
	}
	for _, later := range b.waiting[i:] {
		if later.to == o.to && later.state == sendFlying {
			later.state, later.repeat = sendWaiting, true
			later.timer.Stop()
		}
	}
}

// giveUp removes a message that is not stored, and reports it. The caller holds b.mu.
func (b *outbox) giveUp(o *outgoing, err error) {
	b.remove(o)
	o.timer.Stop()
	if o.awaited && b.conn != nil {
		b.conn.Forget(o.seq)
	}
	b.emit(SendFailed{ID: o.id, Peer: o.to, Err: err})
}

// answered handles the server's ack or refusal. The goroutine that reads calls it.
func (b *outbox) answered(o *outgoing, conn *tcp.Conn, body []byte) {
	var ack pb.IMMsgDataAck
	err := ack.ParseBody(body)
	b.mu.Lock()
	defer b.mu.Unlock()
	o.awaited = false
	if b.index(o) < 0 {
		return
	}
	defer b.pump()
	switch {
	case err != nil || !ack.HasRefusal() && ack.GetMsgId() == 0:
		b.malformed.Add(1)
		b.giveUp(o, im.Errorf(im.Malformed, "the server's ack names no message"))
	case !ack.HasRefusal():
		b.acked(o, ack.GetMsgId())
	case b.conn != conn: // the present connection sends it again
	case ack.GetRefusal() == pb.MsgRefusal_MSG_REFUSAL_REJECTED:
		b.giveUp(o, im.Errorf(im.Denied, "the server refuses the message"))
	default:
		b.refused(o, conn)
	}
}

// refused handles a message that was not stored for now. Only the oldest of its
// conversation is sent again after a pause, and the others follow its ack. The caller
// holds b.mu.
func (b *outbox) refused(o *outgoing, conn *tcp.Conn) {
	o.timer.Stop()
	o.state, o.repeat = sendWaiting, true
	if b.oldest(o.to, b.index(o)) != o {
		return
	}
	away := time.Since(o.since)
	if limit := time.Duration(b.opts.Attempts) * b.opts.AckTimeout; away >= limit {
		b.giveUp(o, im.Errorf(im.Unavailable, "the server did not store it in %v", limit))
		return
	}
	o.state = sendResting
	o.after(b.opts.retries().Delay(o.attempts-1, away, b.opts.Rand()), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.conn == conn && o.state == sendResting && b.index(o) >= 0 {
			o.state = sendWaiting
			b.pump()
		}
	})
}

// oldest returns the oldest message of a conversation among the first last + 1. The
// caller holds b.mu.
func (b *outbox) oldest(p Peer, last int) *outgoing {
	for _, o := range b.waiting[:last] {
		if o.to == p {
			return o
		}
	}
	return b.waiting[last]
}

// retries returns the schedule of attempts for a message that the server could not store.
// A message sent during a restart of a db_proxy is stored within 400 ms of its return.
func (o *Options) retries() backoff.Policy {
	return backoff.Policy{First: 100 * time.Millisecond, Recent: 400 * time.Millisecond,
		Fresh: freshOutage, Max: max(o.AckTimeout, 400*time.Millisecond), Spread: 0.5}
}

// acked records a message's id. The caller holds b.mu.
func (b *outbox) acked(o *outgoing, id uint32) {
	o.timer.Stop()
	b.remove(o)
	b.emit(Acked{ID: o.id, Peer: o.to, MsgID: id})
	if o.stored != nil && o.stored.Message.ID != id {
		// Another device sent an equal text, which was taken for this message.
		b.groups.received(*o.stored)
	}
	v := b.in.conv(o.to)
	v.sentOwn(id)
	b.in.watch(o.to, v)
}

// sendAgain makes all messages without ack leave on a new connection, oldest first. The
// caller holds b.mu.
func (b *outbox) sendAgain() {
	for _, o := range b.waiting {
		o.repeat = o.repeat || o.attempts > 0
		o.state, o.seq, o.awaited, o.attempts, o.timeouts = sendWaiting, 0, false, 0, 0
	}
	b.pump()
}
