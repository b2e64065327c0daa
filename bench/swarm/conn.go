package swarm

import (
	"fmt"
	"io"
	"net/netip"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Conn is one connection. Loop only: all methods are called on the loop that the
// connection belongs to.
type Conn struct {
	loop    *Loop
	handler Handler
	out     []byte // bytes to write; borrowed from the loop, nil when empty
	in      []byte // beginning of a frame or record; borrowed from the loop, nil when empty
	tls     *secure
	ws      *webSocket // nil without WebSocket
	peer    netip.AddrPort
	skip    int // bytes of a long frame still to discard
	sys     sysConn
	state   state
	dirty   bool // listed in loop.dirty
}

type state uint8

const (
	connecting state = iota
	shaking          // the handshake of TLS, or the request for a WebSocket, is in progress
	opened
	closed
)

// IsOpen reports whether the connection is established and not closed.
func (c *Conn) IsOpen() bool { return c.state == opened }

// Waiting returns the number of bytes that the system has not accepted yet.
func (c *Conn) Waiting() int {
	n := len(c.out)
	if c.tls != nil {
		n += len(c.tls.plain)
	}
	if c.ws != nil {
		n += len(c.ws.out)
	}
	return n
}

// live reports whether bytes may move.
func (c *Conn) live() bool { return c.state == opened || c.state == shaking }

// Write queues p, one or more frames, for the end of the loop's turn. It copies p. On a
// connection that is not open it does nothing.
func (c *Conn) Write(p []byte) {
	if c.state != opened {
		return
	}
	out := c.outgoing()
	*out = append(c.queue(*out), p...)
}

// Send queues the frame of m for the end of the loop's turn. It fails when m cannot be
// encoded. On a connection that is not open it does nothing.
func (c *Conn) Send(seq uint16, m pb.Message) error {
	if c.state != opened {
		return nil
	}
	out := c.outgoing()
	b, err := pdu.Append(c.queue(*out), seq, m)
	*out = b
	return err
}

// outgoing returns the place of the frames that wait.
func (c *Conn) outgoing() *[]byte {
	if c.ws != nil {
		return &c.ws.out
	}
	return c.sealed()
}

// sealed returns the place of the bytes that TLS encrypts, and without TLS of those that leave.
func (c *Conn) sealed() *[]byte {
	if c.tls != nil {
		return &c.tls.plain
	}
	return &c.out
}

// seal turns the queued frames into what leaves.
func (c *Conn) seal() {
	if c.ws != nil {
		c.ws.seal()
	}
	if c.tls != nil {
		c.tls.seal()
	}
}

// queue returns b, or a new buffer, and marks the connection for the next flush.
func (c *Conn) queue(b []byte) []byte {
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
	if b == nil {
		b = c.loop.borrow()
	}
	return b
}

// Close tries once to write the queued bytes, then closes the connection. It does not
// call the handler.
func (c *Conn) Close() {
	if c.state == closed {
		return
	}
	if c.state == opened {
		c.seal()
	}
	if c.state == opened && len(c.out) > 0 {
		c.lastWrite()
	}
	if c.state != closed {
		c.release()
	}
}

// fail closes the connection and passes the reason to the handler.
func (c *Conn) fail(err error) {
	if c.state == closed {
		return
	}
	c.release()
	c.handler.Close(c, err)
}

// release closes the socket and returns the buffers to the loop.
func (c *Conn) release() {
	if c.state == opened {
		c.loop.open--
	}
	c.state = closed
	c.closeSocket()
	if c.tls != nil {
		c.tls.release()
	}
	if c.ws != nil {
		c.ws.release()
	}
	c.loop.give(c.out)
	c.loop.give(c.in)
	c.out, c.in = nil, nil
}

// connected records that the connection is established.
func (c *Conn) connected() {
	c.state = opened
	c.loop.open++
	c.handler.Open(c)
}

// sent removes the first n queued bytes, which were written.
func (c *Conn) sent(n int) {
	if n == len(c.out) {
		c.loop.give(c.out)
		c.out = nil
		return
	}
	m := copy(c.out, c.out[n:])
	c.out = c.out[:m]
}

// ended takes the end of what the peer sends. A handshake of TLS tells its reason first.
func (c *Conn) ended() {
	if c.state == shaking && c.ws == nil {
		c.tls.EndInput()
		return
	}
	c.fail(io.EOF)
}

// tooSlow reports whether more than Options.MaxOut bytes are queued, and then closes the
// connection.
func (c *Conn) tooSlow() bool {
	if len(c.out) <= c.loop.swarm.opt.MaxOut {
		return false
	}
	c.fail(fmt.Errorf("%w: %d bytes wait", ErrSlow, len(c.out)))
	return true
}

// take cuts frames off b, which is the rest of the last read and the bytes read after it,
// and keeps what remains.
func (c *Conn) take(b []byte) {
	if c.tls != nil {
		c.tls.take(b)
		return
	}
	if c.ws != nil {
		c.ws.take(b)
		return
	}
	rest := c.cut(b)
	if c.state == opened {
		c.in = c.loop.keep(c.in, rest)
	}
}

// cut passes the frames in b to the handler and returns the rest, which is shorter than
// HeaderLen+MaxBody bytes.
func (c *Conn) cut(b []byte) []byte {
	opt := &c.loop.swarm.opt
	for c.state == opened {
		if c.skip > 0 {
			n := min(c.skip, len(b))
			c.skip -= n
			b = b[n:]
		}
		h, body, n, err := pdu.Next(b, opt.MaxFrame)
		switch {
		case err != nil:
			c.fail(err)
			return nil
		case n > 0 && len(body) <= opt.MaxBody:
		case int(h.Length) > pdu.HeaderLen+opt.MaxBody && len(b) >= pdu.HeaderLen+opt.MaxBody:
			n = pdu.HeaderLen + opt.MaxBody
			body = b[pdu.HeaderLen:n:n]
			c.skip = int(h.Length) - n
		default:
			return b
		}
		b = b[n:]
		c.handler.Frame(c, h, body)
	}
	return nil
}
