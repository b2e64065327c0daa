package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// The network moves whole frames. A connection keeps their order and delivers each after
// a random time, so frames of different connections overtake each other.

// latency is how long a frame takes.
const (
	minLatency = 50 * time.Microsecond
	maxLatency = 3 * time.Millisecond
)

var (
	errReset   = errors.New("connection reset by peer")
	errRefused = errors.New("connection refused")
)

// network is all connections. Scheduler only, except dial.
type network struct {
	*sched
	procs map[string]*proc
	conns []*connection // open ones, in the order of being opened
	dials map[string]int
	apart map[[2]string]bool // the first cannot dial the second

	stock string // the server of the first implementation

	// reorders and loses break the network, to test the checks: frames to clients
	// overtake each other, or are lost.
	reorders, loses bool
}

// end is one side of a connection. The scheduler calls it.
type end interface {
	deliver(frame []byte)
	// closed is called when the other side closed the connection (nil), or when it was
	// reset.
	closed(err error)
}

// connection is a connection from a process or a client to a process.
type connection struct {
	net      *network
	name     string
	from, to *proc // from is nil for a client's
	there    *pipe // to the accepting side
	back     *pipe
	dead     bool          // cut: nothing arrives any more
	half     bool          // nothing arrives, and nobody is told
	harmed   time.Duration // when the network broke it; 0: it did not
}

// pipe is one direction of a connection.
type pipe struct {
	conn *connection
	src  *source
	to   end
	last time.Duration // when the last frame arrives
	hold time.Duration // nothing arrives before
}

func (n *network) open(name string, from, to *proc) *connection {
	n.dials[name]++
	c := &connection{net: n, name: fmt.Sprintf("%s#%d", name, n.dials[name]), from: from, to: to}
	c.there = &pipe{conn: c, src: n.source(c.name + ">")}
	c.back = &pipe{conn: c, src: n.source(c.name + "<")}
	n.conns = append(n.conns, c)
	return c
}

// send sends frames. Any goroutine.
func (p *pipe) send(frames []byte) {
	for len(frames) > 0 {
		h, _, size, err := pdu.Next(frames, pdu.MaxServerFrame)
		if err != nil || size == 0 {
			panic(fmt.Sprintf("sim: %s wrote what is no frame", p.src.name))
		}
		frame := bytes.Clone(frames[:size])
		frames = frames[size:]
		if frame = p.conn.asStock(h, frame); frame == nil {
			continue
		}
		p.conn.net.post(p.src, func() {
			p.travel(p.conn.net.label(h, frame), func() { p.to.deliver(frame) })
		})
	}
}

// label names a frame in the trace, in full when the trace is kept as text.
func (n *network) label(h pdu.Header, frame []byte) string {
	if n.log == nil {
		return h.Command.String()
	}
	switch m, _ := pdu.Decode(h.Command, frame[pdu.HeaderLen:]); m := m.(type) {
	case *pb.MsgData:
		return fmt.Sprintf(" text %s id %d seq %d epoch %d", m.Data, m.MsgID, h.Seq, m.Epoch)
	case proto.Message:
		return fmt.Sprintf(" %s %v", h.Command, m)
	}
	return " " + h.Command.String()
}

// finish tells the other side that this one has closed. Any goroutine.
func (p *pipe) finish() {
	p.conn.net.post(p.src, func() {
		if p.conn.half {
			p.conn.drop()
			return
		}
		p.travel(" ends", func() {
			p.conn.drop()
			p.to.closed(nil)
		})
	})
}

// travel schedules the arrival of a frame.
func (p *pipe) travel(what string, arrive func()) {
	n := p.conn.net
	if toClient := p.conn.from == nil && p == p.conn.back; toClient && n.reorders {
		p.last = 0
	} else if toClient && n.loses && p.src.chance(0.5) {
		return
	}
	p.last = max(p.last+1, p.hold, n.now()+p.src.between(minLatency, maxLatency))
	n.at(p.last, p.src.name+what, func() {
		if !p.conn.dead && !p.conn.half {
			arrive()
		}
	})
}

// drop forgets a connection: nothing arrives on it any more.
func (c *connection) drop() {
	c.dead = true
	for i, o := range c.net.conns {
		if o == c {
			c.net.conns = append(c.net.conns[:i:i], c.net.conns[i+1:]...)
			return
		}
	}
}

// cut resets a connection: both sides learn it, each at a time of its own.
func (c *connection) cut() {
	if c.dead {
		return
	}
	c.harm()
	c.drop()
	c.reset(c.there)
	c.reset(c.back)
}

// silence makes a connection half-open: nothing arrives any more, and neither side is
// told.
func (c *connection) silence() {
	c.harm()
	c.half = true
}

// harm records that the connection does not work from now on.
func (c *connection) harm() {
	if c.harmed == 0 {
		c.harmed = c.net.now()
	}
}

// slow delays everything that is sent during d until then.
func (c *connection) slow(d time.Duration) {
	c.there.hold = c.net.now() + d
	c.back.hold = c.there.hold
}

// reset tells the side to which p leads.
func (c *connection) reset(p *pipe) {
	c.net.after(p.src.between(minLatency, maxLatency), p.src.name+" reset",
		func() { p.to.closed(errReset) })
}

// part cuts the connections of one process to another one, which cannot dial it until they
// are joined.
func (n *network) part(from, to string) {
	n.apart[[2]string{from, to}] = true
	for _, c := range slices.Clone(n.conns) {
		if c.from == n.procs[from] && c.to == n.procs[to] {
			c.cut()
		}
	}
}

// join ends part.
func (n *network) join(from, to string) { delete(n.apart, [2]string{from, to}) }

// kill cuts the connections of a process that has crashed: the other sides learn it. With
// silent, they do not, as when a machine loses its power.
func (n *network) kill(p *proc, silent bool) {
	for _, c := range append([]*connection(nil), n.conns...) {
		if c.from != p && c.to != p {
			continue
		}
		c.harm()
		c.drop()
		switch {
		case silent:
		case c.from == p:
			c.reset(c.there)
		default:
			c.reset(c.back)
		}
	}
}

// dial connects a process to another one. Any goroutine.
func (n *network) dial(ctx context.Context, src *source, from *proc, life *life,
	to string) (net.Conn, error) {
	answer := make(chan *socket, 1)
	n.post(src, func() {
		n.after(src.between(minLatency, maxLatency), src.name+" dials", func() {
			if life.dead.Load() {
				answer <- nil
				return
			}
			answer <- n.connect(from, n.procs[to], src.name)
		})
	})
	select {
	case s := <-answer:
		if s == nil {
			return nil, errRefused
		}
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect returns the dialing side of a new connection, nil when nobody listens.
func (n *network) connect(from, to *proc, name string) *socket {
	if !to.up || to.stopping || n.apart[[2]string{from.name, to.name}] {
		return nil
	}
	c := n.open(name, from, to)
	s := &socket{conn: c}
	s.wake = sync.NewCond(&s.mu)
	c.back.to = s
	if !c.accept(to.links) {
		return nil
	}
	return s
}

// accept makes the accepting side, on a loop of the process that is dialed.
func (c *connection) accept(l *loop) bool {
	a := &accepted{conn: c, loop: l}
	c.there.to = a
	l.Begin()
	defer l.End()
	a.s = l.Add(netip.MustParseAddrPort("192.0.2.7:1234"), a)
	if err := l.Open(a.s); err != nil {
		l.Remove(a.s, err)
		c.drop()
		return false
	}
	return true
}

// accepted is the accepting side: the carrier of a session on a loop. The loops run on
// the scheduler's goroutine, so all its methods do.
type accepted struct {
	conn  *connection
	loop  *loop
	s     *session.Conn
	ended bool
}

// Write sends frames.
func (a *accepted) Write(p []byte) error {
	a.conn.back.send(p)
	return nil
}

// Buffered returns 0: the network takes everything at once.
func (a *accepted) Buffered() int { return 0 }

// Close ends the connection, as the engine does.
func (a *accepted) Close() {
	if a.ended {
		return
	}
	a.ended = true
	a.conn.back.finish()
	a.loop.Ended(a.s, nil)
}

func (a *accepted) deliver(frame []byte) {
	if a.ended || a.loop.proc.dead.Load() {
		return
	}
	a.loop.Begin()
	if !a.s.IsClosed() || a.s.Lingers() {
		a.loop.Deliver(a.s, pdu.ParseHeader(frame), frame[pdu.HeaderLen:])
	}
	a.loop.End()
}

func (a *accepted) closed(err error) {
	if a.ended || a.loop.proc.dead.Load() {
		return
	}
	a.ended = true
	a.loop.Ended(a.s, err)
}

// socket is the dialing side of a link.
type socket struct {
	net.Conn // nil: a link uses no other method than those below
	conn     *connection

	mu     sync.Mutex
	wake   *sync.Cond
	in     []byte
	err    error
	ending bool
}

// Read waits for bytes.
func (s *socket) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.in) == 0 && s.err == nil {
		s.wake.Wait()
	}
	if len(s.in) == 0 {
		return 0, s.err
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

// Write sends frames. It never waits, so deadlines have no effect.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.conn.there.send(p)
	return len(p), nil
}

// Close ends the connection.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.ending = true
		s.conn.there.finish()
	}
	s.fail(net.ErrClosed)
	return nil
}

// SetDeadline does nothing.
func (s *socket) SetDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// fail ends the reads. The caller holds mu.
func (s *socket) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.wake.Broadcast()
}

func (s *socket) deliver(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = append(s.in, frame...)
	s.wake.Broadcast()
}

func (s *socket) closed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = io.EOF
	}
	s.fail(err)
}
