package session

import (
	"bytes"
	"net/netip"
	"sync/atomic"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Conn is this server's end of a connection that its loop owns: the frames that wait for
// it, its deadlines and its end. It does not depend on the kind of its session: a Client is
// built on a Conn, and so is a Link that another server dialed.
type Conn struct {
	id      uint64
	loop    *Loop
	carrier Carrier
	session any // *Client or *acceptedLink
	remote  netip.AddrPort

	out       []byte       // frames for the end of the turn; borrowed from the loop
	direct    *direct      // waiting frames that are not copied; borrowed too
	held      *backlog     // nil unless a large frame waits
	waiting   atomic.Int64 // bytes of large frames that the carrier has not got yet
	closeErr  error
	opened    int64 // milliseconds of the loop's clock, as all times here
	lastIn    int64 // when the last whole frame arrived
	lastOut   int64
	deadline  int64 // 0: none
	idleLimit int32 // milliseconds; 0: none
	keepAlive int32 // milliseconds; 0: no heartbeats of our own
	slot      int32 // place in loop.sessions
	flags     flags
	malformed uint8 // malformed frames in a row
}

type flags uint8

const (
	dirty     flags = 1 << iota // in loop.dirty
	closing                     // to be closed once flushed
	closed                      // the carrier is gone
	feeding                     // in loop.feeding
	lingering                   // closing, and waits until the peer closes
	leaving                     // lingering, and the peer does not see the end yet
	beaten                      // the last output was a heartbeat of our own
	loggedIn                    // of a Client
)

// ID returns a number that is unique within the process and never used again.
func (c *Conn) ID() uint64 { return c.id }

// Loop returns the loop that owns the connection. Any goroutine.
func (c *Conn) Loop() *Loop { return c.loop }

// Remote returns the address of the other side as text.
func (c *Conn) Remote() string { return c.remote.String() }

// RemoteAddr returns the address of the other side.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// IsClosed reports whether the session is closed or about to be closed. Loop only.
func (c *Conn) IsClosed() bool { return c.flags&(closing|closed) != 0 }

// SetDeadline makes the loop close the session with ErrLoginDeadline when d has passed
// since it was opened. The login of a Client removes the deadline. 0 means never. Loop
// only.
func (c *Conn) SetDeadline(d time.Duration) {
	c.deadline = 0
	if d > 0 {
		c.deadline = c.opened + d.Milliseconds()
		c.loop.sweepBy(c.deadline)
	}
}

// SetIdleLimit makes the loop close the session with ErrIdle when no whole frame arrives
// for d. 0 means never. Loop only.
func (c *Conn) SetIdleLimit(d time.Duration) {
	if c.idleLimit = int32(d.Milliseconds()); c.idleLimit != 0 {
		c.loop.sweepBy(c.lastIn + int64(c.idleLimit))
	}
}

// SetKeepAlive makes the loop send a heartbeat when nothing was sent for d. 0 means
// never. Loop only.
func (c *Conn) SetKeepAlive(d time.Duration) {
	if c.keepAlive = int32(d.Milliseconds()); c.keepAlive != 0 {
		c.loop.sweepBy(c.lastOut + int64(c.keepAlive))
	}
}

// Opened returns the time at which the session began. A later step of the wall clock does
// not change it.
func (c *Conn) Opened() time.Time {
	// Added to a time with a monotonic reading: differences to Loop.Now ignore steps.
	return c.loop.begun.Add(time.Duration(c.opened-c.loop.begunMs) * time.Millisecond)
}

// Silent returns the time since the last whole frame arrived. Loop only.
func (c *Conn) Silent() time.Duration {
	return time.Duration(c.loop.now-c.lastIn) * time.Millisecond
}

// Malformed counts a frame that did not decode. A call with ok, for a frame that did,
// resets the count. The third malformed frame in a row closes the session. Loop only.
func (c *Conn) Malformed(ok bool) {
	if ok {
		c.malformed = 0
		return
	}
	if c.malformed++; c.malformed >= pdu.MaxMalformed {
		c.Close(ErrMalformed)
	}
}

// Send sends m at the end of the loop's turn. Nothing is sent to a closed session, and the
// result is nil.
//
// An error means that m cannot be encoded, which is a fault of this program: Send counts
// it and returns it for the log. A large pb.Encoded is not copied. It is rejected with an
// error of kind im.Busy when too many bytes of large frames wait for the peer. Loop only.
func (c *Conn) Send(seq uint16, m pb.Message) error {
	if e, ok := m.(*pb.Encoded); ok && len(e.Shared()) >= largeFrame {
		return c.SendParts(seq, []*pb.Encoded{e})
	}
	if c.IsClosed() {
		return nil
	}
	c.loop.markDirty(c)
	before := len(c.out)
	out, err := pdu.Append(c.out, seq, m)
	c.out = out
	if err != nil {
		c.loop.metrics.encodeErrors.Inc()
	}
	n := len(out) - before
	c.loop.turnBytes += n
	if n >= largeFrame {
		c.out = out[:before:before]
		c.holdLarge(out[before:])
	}
	return err
}

// SendFrame sends a copy of one or more encoded frames, so the caller may change the slice
// afterwards. Loop only.
func (c *Conn) SendFrame(frame []byte) {
	if c.IsClosed() {
		return
	}
	c.loop.markDirty(c)
	c.loop.turnBytes += len(frame)
	if len(frame) >= largeFrame {
		c.holdLarge(bytes.Clone(frame))
		return
	}
	c.out = append(c.out, frame...)
}

// SendShared sends encoded frames whose bytes no longer change. Long ones are not copied,
// and other sessions may share them. Loop only.
func (c *Conn) SendShared(frame []byte) {
	switch {
	case len(frame) < directFrame:
		c.SendFrame(frame)
	case c.IsClosed():
	case len(frame) < largeFrame:
		c.sendDirect(frame)
	default:
		c.loop.markDirty(c)
		c.holdLarge(frame)
	}
}

// Push posts m to the session's loop, which sends it. Messages that one goroutine pushes
// arrive in that order.
//
// The error is of kind im.Busy when the mailbox is full or too many bytes of large frames
// wait. A full mailbox closes the session, so that its client reconnects and fetches the
// messages that it missed; waiting large frames do not close it. Any other error means
// that m cannot be encoded, or is longer than the other side accepts (pdu.ErrLength). Any
// goroutine.
func (c *Conn) Push(seq uint16, m pb.Message) error {
	if e, ok := m.(*pb.Encoded); ok && len(e.Shared()) >= largeFrame {
		return c.pushEncoded(seq, e)
	}
	room := usualBody
	if sized, ok := m.(interface{ BodySize() int }); ok {
		room = sized.BodySize()
	}
	frame, err := pdu.Append(make([]byte, 0, pdu.HeaderLen+room), seq, m)
	if err != nil {
		c.loop.metrics.encodeErrors.Inc()
		return err
	}
	if err := pdu.TooLong(m.Command(), len(frame), c.loop.opt.MaxSend); err != nil {
		return err
	}
	return c.PushShared(frame)
}

// usualBody is the capacity, in bytes, for the body of a message that does not report its
// size. Most bodies fit; a longer one costs a second slice.
const usualBody = 112

// PushShared posts encoded frames to the session's loop, which sends them as SendShared
// does. The bytes must not change afterwards. When the mailbox is full, the frames are
// dropped, the session is closed, and the error is of kind im.Busy. Any goroutine.
func (c *Conn) PushShared(frames []byte) error {
	return c.loop.post(item{c: c, frame: frames}, len(frames))
}

// Close ends the session when everything that was sent has left, at the latest after two
// seconds. The reason of the first call stands. Loop only.
func (c *Conn) Close(err error) {
	if c.flags&(closing|closed|lingering) == closing|lingering {
		c.loop.markDirty(c)
		c.flags &^= lingering // stop waiting for the peer; the first reason stands
		return
	}
	if c.IsClosed() {
		return
	}
	c.loop.markDirty(c)
	c.flags |= closing
	c.closeErr = err
}

// Linger ends the session as Close does, but lets the peer close the connection. Frames
// that were sent before still leave. Nothing is sent after them, and arriving frames are
// dropped and counted. The connection is closed when the peer closes it, by Close, or at
// the latest after two seconds. IsClosed reports true from now on. Loop only.
func (c *Conn) Linger(err error) {
	if c.IsClosed() {
		return
	}
	c.Close(err)
	c.flags |= lingering
}

// Lingers reports whether the session waits until its peer closes the connection. Loop
// only.
func (c *Conn) Lingers() bool { return c.flags&lingering != 0 }

// PushClose does what Close does. Any goroutine.
func (c *Conn) PushClose(err error) {
	c.loop.Post(func() { c.Close(err) })
}
