package swarm

import (
	"fmt"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Conn is one connection. Loop only: all methods are called on the loop that the
// connection belongs to.
type Conn struct {
	loop    *Loop
	handler Handler
	out     []byte // bytes to write; borrowed from the loop, nil when empty
	in      []byte // beginning of a frame; borrowed from the loop, nil when empty
	skip    int    // bytes of a long frame still to discard
	sys     sysConn
	state   state
	dirty   bool // listed in loop.dirty
}

type state uint8

const (
	connecting state = iota
	opened
	closed
)

// IsOpen reports whether the connection is established and not closed.
func (c *Conn) IsOpen() bool { return c.state == opened }

// Waiting returns the number of bytes that the system has not accepted yet.
func (c *Conn) Waiting() int { return len(c.out) }

// Write queues p, one or more frames, for the end of the loop's turn. It copies p. On a
// connection that is not open it does nothing.
func (c *Conn) Write(p []byte) {
	if c.state != opened {
		return
	}
	c.out = append(c.outgoing(), p...)
}

// Send queues the frame of m for the end of the loop's turn. It fails when m cannot be
// encoded. On a connection that is not open it does nothing.
func (c *Conn) Send(seq uint16, m pb.Message) error {
	if c.state != opened {
		return nil
	}
	b, err := pdu.Append(c.outgoing(), seq, m)
	c.out = b
	return err
}

// outgoing returns the buffer to append to, and marks the connection for the next flush.
func (c *Conn) outgoing() []byte {
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
	if c.out == nil {
		c.out = c.loop.borrow()
	}
	return c.out
}

// Close tries once to write the queued bytes, then closes the connection. It does not
// call the handler.
func (c *Conn) Close() {
	if c.state == closed {
		return
	}
	if c.state == opened && len(c.out) > 0 {
		c.lastWrite()
	}
	c.release()
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
	rest := c.cut(b)
	if c.state != opened {
		return
	}
	if len(rest) == 0 {
		if c.in != nil {
			c.loop.give(c.in)
			c.in = nil
		}
		return
	}
	if c.in == nil {
		c.in = c.loop.borrow()
	}
	c.in = append(c.in[:0], rest...)
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
