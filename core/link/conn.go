package link

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// lingerTime is how long a connection that is closing may take to write what it has.
const lingerTime = 2 * time.Second

// keepBuffer is the largest write buffer kept for the next write, in bytes.
const keepBuffer = 1 << 20

// maxMalformed is how many frames in a row may fail to decode before the connection is closed.
const maxMalformed = 3

// conn is one connection of a Remote.
type conn struct {
	r       *Remote
	nc      net.Conn
	session *session.Session
	calls   *calls

	stopped atomic.Bool  // the peer takes no more requests
	lastIn  atomic.Int64 // unix nanoseconds of the last byte read
	lastOut atomic.Int64 // of the last write's end

	mu      sync.Mutex
	out     []byte        // frames for the next write
	held    []byte        // frames of others while the handler's Open runs
	items   int           // frames in both
	opening bool          // Open runs
	ended   bool          // nothing is accepted any more
	flush   bool          // write what is there, then end; with ended
	err     error         // why it ended; nil when the peer closed
	wake    chan struct{} // one token: the writer has something to look at

	malformed int // in a row; the reader's
}

func newConn(r *Remote, nc net.Conn) *conn {
	c := &conn{r: r, nc: nc, opening: true, wake: make(chan struct{}, 1)}
	c.calls = newCalls(r.o.Name, uint32(r.o.Rand()), r.o.MaxPending, r.o.CallTimeout, r.o.Log, r.metrics)
	c.session = session.NewLink(session.NextID(), r.o.Name, c)
	now := time.Now().UnixNano()
	c.lastIn.Store(now)
	c.lastOut.Store(now)
	return c
}

// usable reports whether requests may go here. c may be nil.
func (c *conn) usable() bool {
	if c == nil || c.stopped.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended
}

// open lets the handler introduce this server, and then lets everybody send. It reports whether the handler took the session.
func (c *conn) open() bool {
	var refused error
	if h := c.r.o.Handler; h != nil {
		if err := guard(c.r.o.Log, c.r.metrics, func() { refused = h.Open(c.session) }); err != nil {
			refused = err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening = false
	if refused != nil {
		c.r.o.Log.Warn("link refused by its handler", "conn", c.session.ID(), "err", refused)
		c.end(refused, false)
		return false
	}
	c.out = append(c.out, c.held...)
	c.held = nil
	return true
}

// SendMessage sends what the handler says on its session.
func (c *conn) SendMessage(seq uint16, m pb.Message) error { return c.enqueue(seq, m, true) }

// Close ends the connection after what was sent has left. A new one follows.
func (c *conn) Close(err error) { c.close(err) }

// enqueue encodes m into the buffer of the next write. own is for the session's side: it may send while Open runs.
func (c *conn) enqueue(seq uint16, m pb.Message, own bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return c.r.down()
	}
	to := &c.out
	if c.opening && !own {
		to = &c.held
	}
	before := len(*to)
	waiting := len(c.out) + len(c.held)
	if c.items >= c.r.o.MaxQueueItems || waiting >= c.r.o.MaxQueueBytes {
		return c.full()
	}
	frame, err := pdu.Append(*to, seq, m)
	if err != nil {
		*to = frame
		return err
	}
	if waiting > 0 && waiting+len(frame)-before > c.r.o.MaxQueueBytes {
		*to = frame[:before]
		return c.full()
	}
	*to = frame
	c.items++
	c.r.metrics.out.Inc()
	c.wakeWriter()
	return nil
}

func (c *conn) full() error {
	c.r.metrics.busy.Inc()
	return queueFull(c.r.o.Name)
}

func (c *conn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// end stops accepting. With c.mu held. The first reason stands; a flush may still be cut short by a failure.
func (c *conn) end(err error, flush bool) {
	if !c.ended {
		c.ended, c.err, c.flush = true, err, flush
	} else if !flush {
		c.flush = false
	}
	if c.flush {
		_ = c.nc.SetDeadline(time.Now().Add(lingerTime)) // for the write under way too
	} else {
		_ = c.nc.Close()
	}
	c.wakeWriter()
}

// close ends the connection after what was sent has left.
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

// reason is why the connection ended.
func (c *conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// writeLoop writes what is sent until the connection ends.
func (c *conn) writeLoop() {
	var spare []byte
	for {
		out, last := c.takeOut(spare)
		if len(out) > 0 {
			if _, err := c.nc.Write(out); err != nil {
				c.fail(err)
				return
			}
			c.lastOut.Store(time.Now().UnixNano())
			c.r.metrics.writes.Inc()
			c.r.metrics.outBytes.Add(float64(len(out)))
		}
		if last {
			c.fail(nil) // flushed; the reason stands already
			return
		}
		if spare = out[:0]; cap(spare) > keepBuffer {
			spare = nil
		}
		if len(out) == 0 {
			<-c.wake
		}
	}
}

// takeOut takes the buffer, leaving spare in its place. last says that nothing will follow.
func (c *conn) takeOut(spare []byte) (out []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended && !c.flush {
		return nil, true
	}
	out, c.out, c.items = c.out, spare, 0
	if len(out) > 0 && !c.ended { // else the deadline of end holds
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.r.o.IdleLimit))
	}
	return out, c.ended
}

// check is called from time to time: heartbeats, silence, overdue calls.
func (c *conn) check(now time.Time) {
	c.calls.expire(now)
	if now.UnixNano()-c.lastIn.Load() >= int64(c.r.o.IdleLimit) {
		c.fail(session.ErrIdle)
		return
	}
	if now.UnixNano()-c.lastOut.Load() < int64(c.r.o.Heartbeat) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) == 0 && !c.ended && !c.opening { // a full buffer is on its way already
		c.out = pdu.AppendHeader(c.out, pb.CmdHeartBeat, 0)
		c.wakeWriter()
	}
}

// Read reads from the connection and keeps the time of it. The reader's.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.nc.Read(p)
	if n > 0 {
		c.lastIn.Store(time.Now().UnixNano())
		c.r.metrics.inBytes.Add(float64(n))
	}
	return n, err
}

// readLoop hands on what the peer sends until the connection ends, and returns why; nil when the peer closed it.
func (c *conn) readLoop() error {
	f := newFrameReader(c, c.r.o.MaxFrame)
	for {
		h, body, err := f.next()
		if err == nil {
			err = c.receive(h, body)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receive hands one frame on. An error ends the connection.
func (c *conn) receive(h pdu.Header, body []byte) error {
	switch h.Command {
	case pb.CmdHeartBeat:
		return nil
	case pb.CmdStopReceivePacket:
		c.stopped.Store(true)
		c.r.o.Log.Info("peer takes no more requests", "conn", c.session.ID())
		return nil
	}
	c.r.metrics.in.Inc()
	if c.calls.replyEncoded(h.Command, body) {
		c.malformed = 0
		return nil
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil && !errors.Is(err, pdu.ErrUnknown) {
		c.r.metrics.malformed.Inc()
		c.r.o.Log.Warn("malformed frame", "conn", c.session.ID(), "cmd", h.Command.String(), "seq", h.Seq, "err", err)
		if errors.Is(err, pb.ErrIncomplete) { // dropped and counted; the stream itself is sound
			c.malformed = 0
			return nil
		}
		if c.malformed++; c.malformed >= maxMalformed {
			return session.ErrMalformed
		}
		return nil
	}
	c.malformed = 0
	if m != nil && c.calls.reply(m) {
		return nil
	}
	handler := c.r.o.Handler
	if handler == nil {
		c.r.metrics.ignored.Inc()
		return nil
	}
	return guard(c.r.o.Log, c.r.metrics, func() {
		if m == nil {
			handler.Frame(c.session, h, body) // a command nobody knows: the role's table counts it
			return
		}
		handler.Message(c.session, h.Seq, m)
	})
}
