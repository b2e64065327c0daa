package link

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"teamtalk/core/batch"
	"teamtalk/core/im"
	"teamtalk/core/link/frames"
	"teamtalk/core/mono"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// lingerTime is the longest time that a closing connection takes to write its buffer.
const lingerTime = 2 * time.Second

// keepBuffer is the largest write buffer kept after a write, in bytes.
const keepBuffer = 1 << 20

// conn is one connection of a Remote.
type conn struct {
	r       *Remote
	nc      net.Conn
	raw     syscall.RawConn // for writeNow; nil: not used
	session *session.Link
	calls   *calls

	ready   atomic.Uint32 // readiness; changed by the reader only
	lastIn  atomic.Int64  // mono.Of of the last byte read
	lastOut atomic.Int64  // of the end of the last write
	beaten  atomic.Bool   // the last write was a heartbeat

	mu        sync.Mutex
	out       batch.Buffer[byte] // frames for the next write
	held      []byte             // frames of others while the handler's Open runs
	items     int                // frames in both
	opening   bool               // Open runs
	writing   bool               // the writer has taken frames and is writing them
	ended     bool               // no further frames are accepted
	flush     bool               // with ended: write the buffer, then close
	err       error              // the reason of the end; nil when the peer closed
	wake      chan struct{}      // holds one token when the writer has work
	malformed int                // in a row; used by the reader only
	heard     bool               // the peer has sent something; used by the reader only

	parts map[uint32]*assembly // of answers, by call; used by the reader only
}

func newConn(r *Remote, nc net.Conn) *conn {
	c := &conn{r: r, nc: nc, raw: rawOf(nc), opening: true, wake: make(chan struct{}, 1)}
	c.calls = newCalls(r.o.Name, uint32(r.o.Rand()), r.o.MaxPending, r.o.CallTimeout,
		r.o.Log, r.metrics)
	c.session = session.NewLink(session.NextID(), r.o.Name, c)
	now := mono.Of(time.Now())
	c.lastIn.Store(now)
	c.lastOut.Store(now)
	return c
}

// readiness returns what the peer said last.
func (c *conn) readiness() readiness { return readiness(c.ready.Load()) }

// usable reports whether requests may be sent on c, which may be nil.
func (c *conn) usable() bool {
	if c == nil || c.readiness() == stopped {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended
}

// open runs the handler's Open, which introduces this server, and then releases the
// frames of others. It reports whether the handler accepted the session.
func (c *conn) open() bool {
	var refused error
	if h := c.r.o.Handler; h != nil {
		err := guard(c.r.o.Log, c.r.metrics, func() { refused = h.Open(c.session) })
		if err != nil {
			refused = err
		}
	}
	if refused == nil {
		refused = introduce(c.session, c.r.o.Features, c.r.o.Self)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening = false
	if refused != nil {
		c.r.o.Log.Warn("link refused by its handler", "conn", c.session.ID(), "err", refused)
		c.end(refused, false)
		return false
	}
	c.out.Waiting = append(c.out.Waiting, c.held...)
	c.held = nil
	return true
}

// SendMessage sends a message of the handler on its session.
func (c *conn) SendMessage(seq uint16, m pb.Message) error { return c.enqueue(seq, m, byHandler) }

// Close ends the connection after the accepted frames are written. A new connection
// follows.
func (c *conn) Close(err error) { c.close(err) }

// origin says where a message comes from.
type origin int

const (
	byHandler origin = iota // of the session, which may send while Open runs
	bySend
	byCall
)

// enqueue encodes m into the buffer of the next write. Only a call is written at once: messages
// that are sent one after the other stay in one write, so that a peer does not act on the first
// long before it reads the second.
func (c *conn) enqueue(seq uint16, m pb.Message, from origin) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return c.r.down()
	}
	to := &c.out.Waiting
	if c.opening && from != byHandler {
		to = &c.held
	}
	before := len(*to)
	waiting := len(c.out.Waiting) + len(c.held)
	if c.items >= c.r.o.MaxQueueItems || waiting >= c.r.o.MaxQueueBytes {
		return c.full()
	}
	frame, err := pdu.Append(*to, seq, m)
	if err != nil {
		*to = frame
		return err
	}
	if err := pdu.TooLong(m.Command(), len(frame)-before, c.r.o.MaxFrame); err != nil {
		*to = frame[:before] // the peer would close the connection
		return tooLong(im.WithKind(im.Invalid, "longer than the setting link.max_frame", err))
	}
	if waiting > 0 && waiting+len(frame)-before > c.r.o.MaxQueueBytes {
		*to = frame[:before]
		return c.full()
	}
	*to = frame
	c.items++
	c.r.metrics.out.Inc()
	if from != byCall || !c.writeNow() {
		c.wakeWriter()
	}
	return nil
}

func (c *conn) full() error {
	c.r.metrics.busy.Inc()
	return queueFull(c.r.o.Name)
}

func (c *conn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default: // it holds a token already
	}
}

// end stops accepting frames. The caller holds c.mu. The first reason is kept. A later
// failure ends a flush.
func (c *conn) end(err error, flush bool) {
	if !c.ended {
		c.ended, c.err, c.flush = true, err, flush
	} else if !flush {
		c.flush = false
	}
	if c.flush {
		_ = c.nc.SetDeadline(time.Now().Add(lingerTime)) // also ends a write in progress
	} else {
		_ = c.nc.Close()
	}
	c.wakeWriter()
}

// close ends the connection after the accepted frames are written.
func (c *conn) close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err, true)
}

// fail ends the connection at once.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err, false)
}

// reason returns the reason why the connection ended.
func (c *conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// writeLoop writes the accepted frames until the connection ends.
func (c *conn) writeLoop() {
	for {
		out, last := c.takeOut()
		if len(out) > 0 {
			if _, err := c.nc.Write(out); err != nil {
				c.fail(err)
				return
			}
			c.lastOut.Store(mono.Of(time.Now()))
			c.beaten.Store(len(out) == pdu.HeaderLen)
			c.r.metrics.writes.Inc()
			c.r.metrics.outBytes.Add(float64(len(out)))
		}
		if last {
			c.fail(nil) // flushed; the first reason is kept
			return
		}
		if len(out) == 0 {
			<-c.wake
		}
	}
}

// takeOut returns the buffer; last reports that no further frames follow.
func (c *conn) takeOut() (out []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended && !c.flush {
		return nil, true
	}
	out, c.items = c.out.Take(keepBuffer), 0
	c.writing = len(out) > 0
	if len(out) > 0 && !c.ended { // after end its deadline holds
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.r.o.IdleLimit))
	}
	return out, c.ended
}

// check sends heartbeats, closes a silent connection and fails overdue calls. It returns
// when it has to be called again.
func (c *conn) check(now time.Time) (next time.Time) {
	next = c.calls.expire(now)
	if c.leave() {
		return now
	}
	o, at := &c.r.o, mono.Of(now)
	idle := time.Duration(c.lastIn.Load()-at) + o.IdleLimit
	if idle <= 0 {
		c.fail(session.ErrIdle)
		return next
	}
	beat := time.Duration(mono.Beat(c.lastOut.Load(), int64(o.Heartbeat), c.beaten.Load()) - at)
	if beat <= 0 {
		beat = mono.Next(now, o.Heartbeat).Sub(now)
		c.mu.Lock()
		// Frames in the buffer are written soon and need no heartbeat beside them.
		if len(c.out.Waiting) == 0 && !c.ended && !c.opening {
			c.out.Waiting = pdu.AppendHeader(c.out.Waiting, pb.CmdHeartBeat, 0)
			c.wakeWriter()
		}
		c.mu.Unlock()
	}
	return now.Add(min(idle, beat, next.Sub(now)))
}

// Read reads from the connection and records the time. Used by the reader only.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.nc.Read(p)
	if n > 0 {
		c.heard = true
		c.lastIn.Store(mono.Of(time.Now()))
		c.r.metrics.inBytes.Add(float64(n))
	}
	return n, err
}

// readLoop receives frames until the connection ends. It returns the reason, nil when the
// peer closed the connection.
func (c *conn) readLoop() error {
	defer c.dropAllParts()
	f := frames.New(c, c.r.o.MaxFrame)
	for {
		h, body, err := f.Next()
		switch {
		case err == nil:
			err = c.receive(h, body)
		case errors.Is(err, pdu.ErrLength) && h.Length > uint32(c.r.o.MaxFrame) &&
			h.Length <= pdu.MaxFrame:
			err = c.skip(f)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receive handles one frame. An error ends the connection.
func (c *conn) receive(h pdu.Header, body []byte) error {
	switch h.Command {
	case pb.CmdHeartBeat:
		return nil
	case pb.CmdStopReceivePacket:
		c.stop(body)
		return nil
	}
	c.r.metrics.in.Inc()
	if h.Command != pb.CmdAnswerPart && c.calls.replyEncoded(h.Command, body) {
		c.malformed = 0
		c.leave()
		return nil
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil && !errors.Is(err, pdu.ErrUnknown) {
		c.r.metrics.malformed.Inc()
		c.r.o.Log.Warn("malformed frame", "conn", c.session.ID(),
			"cmd", h.Command.String(), "seq", h.Seq, "err", err)
		if errors.Is(err, pb.ErrIncomplete) { // a field is missing, and the stream itself is sound
			c.malformed = 0
			return nil
		}
		if c.malformed++; c.malformed >= pdu.MaxMalformed {
			return session.ErrMalformed
		}
		return nil
	}
	c.malformed = 0
	if p, ok := m.(*pb.IMAnswerPart); ok {
		return c.part(h.Seq, p)
	}
	if m != nil && c.calls.reply(m) {
		c.leave()
		return nil
	}
	handler := c.r.o.Handler
	if handler == nil {
		c.r.metrics.ignored.Inc()
		return nil
	}
	return guard(c.r.o.Log, c.r.metrics, func() {
		if m == nil {
			// The command is unknown: the role's table counts it.
			handler.Frame(c.session, h, body)
			return
		}
		handler.Message(c.session, h.Seq, m)
	})
}

// stop takes an IMStopReceivePacket, also one that does not decode.
func (c *conn) stop(body []byte) {
	m := &pb.IMStopReceivePacket{}
	_ = m.ParseBody(body) // without its fields it is that of a C++ server
	next := c.readiness().after(m)
	c.ready.Store(uint32(next))
	c.r.o.Log.Info("peer "+next.String(), "conn", c.session.ID())
	c.leave()
}

// leave closes the connection to a peer that takes no more requests, or is to get none, when
// no call is open. The peer can then end without a request in flight. A call that begins
// meanwhile is not sent. leave reports whether the connection is to end in this way.
func (c *conn) leave() (ends bool) {
	ends = c.r.leaving.Load() || c.r.o.Features != 0 && c.readiness() == stopped
	if ends && c.calls.endIfNone(c.r.down()) {
		c.close(nil)
	}
	return ends
}
