package client

import (
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// What Send queues leaves in order, and is stored in order, conversation by conversation.
//
// While a server acks promptly, messages of one conversation are pipelined: a server of this
// project does not store what is pipelined behind a message that it could not store. Other servers
// do not keep that rule, so a new message is held back here once an older one has been without ack
// for holdAfter. After a timeout, a refusal or a reconnect the oldest message of the conversation
// is sent again alone, and the others follow its ack.

// sendState is where an outgoing message is.
type sendState uint8

const (
	sendWaiting sendState = iota // it leaves when those before it allow
	sendFlying                   // sent, without an answer so far
	sendResting                  // refused for now; a timer sends it again
)

// holdAfter is how long a message may be without ack before later ones of its conversation wait.
// Servers ack within 300 ms while nothing is down.
const holdAfter = 300 * time.Millisecond

// pump sends what may leave, oldest first, as fast as SendRate allows; c.mu is held.
func (c *Client) pump() {
	if c.conn == nil {
		return
	}
	now := time.Now()
	var held map[Peer]bool // conversations whose later messages wait
	hold := func(p Peer) {
		if held == nil {
			held = make(map[Peer]bool)
		}
		held[p] = true
	}
	for i, o := range c.out {
		switch {
		case o.state == sendResting, o.state == sendFlying && (o.repeat || now.Sub(o.sentAt) > c.opts.holdAfter):
			hold(o.to)
		case o.repeat && c.oldest(o.to, i) != o:
			hold(o.to) // it is sent again alone
		case o.state == sendFlying || held[o.to]:
		case !c.limit.Allow():
			c.pumpLater()
			return
		default:
			if err := c.transmit(o, now); err != nil {
				if im.KindOf(err) == im.Busy {
					c.pumpLater()
				}
				return // else the connection ends, and the next one sends again
			}
			if o.repeat {
				hold(o.to)
			}
		}
	}
}

// transmit sends a message, again under the seq that it had on this connection; c.mu is held.
func (c *Client) transmit(o *outgoing, now time.Time) error {
	conn := c.conn
	answered := func(body []byte, err error) {
		if err == nil {
			c.answered(o, conn, body)
			c.throttle(conn)
		}
	}
	m := o.message(c.self.ID)
	var err error
	switch {
	case o.seq == 0:
		o.seq, err = conn.Go(m, pb.CmdMsgDataAck, answered)
	case o.awaited:
		err = conn.Send(m, o.seq)
	default:
		err = conn.again(o.seq, m, pb.CmdMsgDataAck, answered)
	}
	if err != nil {
		return err
	}
	if o.attempts++; o.attempts == 1 {
		o.since = now
	} else {
		c.resent.Add(1)
		c.emit(Resent{ID: o.id, Peer: o.to, Attempt: o.attempts})
	}
	o.awaited, o.state, o.sentAt = true, sendFlying, now
	o.after(c.opts.AckTimeout, func() { c.overdue(o, conn) })
	return nil
}

// after sets what happens next to a message, unless something else does before.
func (o *outgoing) after(d time.Duration, do func()) {
	if o.timer != nil {
		o.timer.Stop()
	}
	o.timer = time.AfterFunc(d, do)
}

// overdue takes back a message whose ack did not come, and those of its conversation that were sent
// behind it: they leave again after it.
func (c *Client) overdue(o *outgoing, conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.index(o)
	if c.conn != conn || i < 0 || o.state != sendFlying || time.Since(o.sentAt) < c.opts.AckTimeout {
		return
	}
	defer c.pump()
	if o.timeouts++; o.timeouts >= c.opts.Attempts {
		c.giveUp(o, im.Errorf(im.Unavailable, "the server did not take it in %d attempts", o.attempts))
		return
	}
	for _, later := range c.out[i:] {
		if later.to == o.to && later.state == sendFlying {
			later.state, later.repeat = sendWaiting, true
			later.timer.Stop()
		}
	}
}

// giveUp removes a message that is not stored, and tells; c.mu is held.
func (c *Client) giveUp(o *outgoing, err error) {
	c.remove(o)
	o.timer.Stop()
	if o.awaited && c.conn != nil {
		c.conn.forget(o.seq)
	}
	c.emit(SendFailed{ID: o.id, Peer: o.to, Err: err})
}

// answered takes the server's ack or refusal; the goroutine that reads calls it.
func (c *Client) answered(o *outgoing, conn *Conn, body []byte) {
	var ack pb.IMMsgDataAck
	err := ack.ParseBody(body)
	c.mu.Lock()
	defer c.mu.Unlock()
	o.awaited = false
	if c.index(o) < 0 {
		return
	}
	defer c.pump()
	switch {
	case err != nil || !ack.HasRefusal() && ack.GetMsgId() == 0:
		c.malformed.Add(1)
		c.giveUp(o, im.Errorf(im.Malformed, "the server's ack names no message"))
	case !ack.HasRefusal():
		c.acked(o, ack.GetMsgId())
	case c.conn != conn: // the present connection sends it again
	case ack.GetRefusal() == pb.MsgRefusal_MSG_REFUSAL_REJECTED:
		c.giveUp(o, im.Errorf(im.Denied, "the server does not store it"))
	default:
		c.refused(o, conn)
	}
}

// refused lets a message rest that was not stored for now; c.mu is held. Only the oldest of its
// conversation is sent again after a pause: the others follow it.
func (c *Client) refused(o *outgoing, conn *Conn) {
	o.timer.Stop()
	o.state, o.repeat = sendWaiting, true
	if c.oldest(o.to, c.index(o)) != o {
		return
	}
	away := time.Since(o.since)
	if limit := time.Duration(c.opts.Attempts) * c.opts.AckTimeout; away >= limit {
		c.giveUp(o, im.Errorf(im.Unavailable, "the server did not store it in %v", limit))
		return
	}
	o.state = sendResting
	o.after(c.opts.retries().Delay(o.attempts-1, away, c.opts.Rand()), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.conn == conn && o.state == sendResting && c.index(o) >= 0 {
			o.state = sendWaiting
			c.pump()
		}
	})
}

// oldest returns the oldest message of a conversation among the first last + 1; c.mu is held.
func (c *Client) oldest(p Peer, last int) *outgoing {
	for _, o := range c.out[:last] {
		if o.to == p {
			return o
		}
	}
	return c.out[last]
}

// retries is the schedule of attempts to send a message again that the server could not store. A
// message sent while a db_proxy restarts is stored within 400 ms of its return.
func (o *Options) retries() backoff.Policy {
	return backoff.Policy{First: 100 * time.Millisecond, Recent: 400 * time.Millisecond,
		Fresh: freshOutage, Max: max(o.AckTimeout, 400*time.Millisecond), Spread: 0.5}
}

// acked takes a message's id; c.mu is held.
func (c *Client) acked(o *outgoing, id uint32) {
	o.timer.Stop()
	c.remove(o)
	c.emit(Acked{ID: o.id, Peer: o.to, MsgID: id})
	if o.stored != nil && o.stored.Message.ID != id {
		c.received(*o.stored) // what looked like a copy of it was the same text from another device
	}
	v := c.conv(o.to)
	v.sentOwn(id)
	c.watch(o.to, v)
}

// sendAgain makes all messages without ack leave on a new connection, oldest first; c.mu is held.
func (c *Client) sendAgain() {
	for _, o := range c.out {
		o.repeat = o.repeat || o.attempts > 0
		o.state, o.seq, o.awaited, o.attempts, o.timeouts = sendWaiting, 0, false, 0, 0
	}
	c.pump()
}
