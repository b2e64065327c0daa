//go:build !linux || swarm_portable

package swarm

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"
)

// poll is the waiting part of a Loop. On this system one goroutine per connection reads.
type poll struct {
	events chan func() // work that the goroutines pass to the loop
	awake  chan struct{}
	quit   chan struct{} // closed when the loop ends
	ctx    context.Context
	cancel context.CancelFunc
	conns  map[*Conn]struct{}
}

// sysConn is the system's part of a Conn.
type sysConn struct {
	conn    net.Conn // nil until established, and after lastWrite has taken it
	cancel  context.CancelFunc
	writing chan struct{} // closed when the write in flight has ended; nil: none is in flight
}

// noSocket is the value for a Conn without a socket.
var noSocket = sysConn{}

func (l *Loop) openPoll() error {
	l.events, l.awake, l.quit = make(chan func(), 128), make(chan struct{}, 1), make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.conns = map[*Conn]struct{}{}
	return nil
}

func (l *Loop) wake() {
	select {
	case l.awake <- struct{}{}:
	default:
	}
}

// tell runs f on the loop. It returns false when the loop has ended.
func (l *Loop) tell(f func()) bool {
	select {
	case l.events <- f:
		return true
	case <-l.quit:
		return false
	}
}

func (l *Loop) run() {
	defer close(l.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := l.patience()
		if wait < 0 {
			wait = int64(time.Hour)
		}
		timer.Reset(time.Duration(wait))
		select {
		case f := <-l.events:
			l.look()
			f()
			l.rest()
		case <-l.awake:
		case <-timer.C:
		}
		l.now = l.swarm.Now()
		if !l.turn() {
			break
		}
	}
	close(l.quit)
	l.cancel()
	for c := range l.conns {
		c.release()
	}
	for { // the goroutine that made a connection meanwhile closes it
		select {
		case f := <-l.events:
			f()
		default:
			return
		}
	}
}

// rest handles a bounded number of events that are queued already, so that writes are
// batched.
func (l *Loop) rest() {
	for range 128 {
		select {
		case f := <-l.events:
			l.look()
			f()
		default:
			return
		}
	}
}

func (l *Loop) dial(c *Conn, addr netip.AddrPort) error {
	ctx, cancel := context.WithCancel(l.ctx)
	c.sys.cancel = cancel
	l.conns[c] = struct{}{}
	go func() {
		defer cancel()
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", addr.String())
		known := l.tell(func() {
			switch {
			case c.state != connecting: // it took too long, or was closed
				if nc != nil {
					nc.Close()
				}
			case err != nil:
				c.fail(openFilesError(err))
			default:
				c.sys.conn = nc
				go c.readAll(nc)
				c.established()
			}
		})
		if !known && nc != nil {
			nc.Close()
		}
	}()
	return nil
}

// readAll reads until the connection ends. After each read it waits until the loop has
// handled the bytes.
func (c *Conn) readAll(nc net.Conn) {
	buf := make([]byte, 16<<10)
	taken := make(chan struct{}, 1)
	for {
		n, err := nc.Read(buf)
		known := c.loop.tell(func() {
			if n > 0 && c.live() {
				c.take(append(append([]byte(nil), c.in...), buf[:n]...))
			}
			switch {
			case err == nil || !c.live():
			case err == io.EOF:
				c.ended()
			default:
				c.fail(err)
			}
			taken <- struct{}{}
		})
		if !known {
			return
		}
		select {
		case <-taken:
		case <-c.loop.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// flush starts a goroutine that writes the queued bytes, unless a write is in flight.
func (c *Conn) flush() {
	if !c.live() || len(c.out) == 0 || c.sys.writing != nil {
		if c.live() {
			c.tooSlow()
		}
		return
	}
	b, nc, done := c.out, c.sys.conn, make(chan struct{})
	c.out, c.sys.writing = nil, done
	go func() {
		_, err := nc.Write(b)
		close(done)
		c.loop.tell(func() {
			c.sys.writing = nil
			c.loop.give(b)
			if !c.live() {
				return
			}
			if err != nil {
				c.fail(err)
				return
			}
			c.flush()
		})
	}()
}

// lastWrite writes the queued bytes in a goroutine, then closes the connection.
func (c *Conn) lastWrite() {
	b, nc, before := c.out, c.sys.conn, c.sys.writing
	c.out, c.sys.conn = nil, nil
	go func() {
		defer nc.Close()
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		if before != nil {
			<-before
		}
		_, _ = nc.Write(b)
	}()
}

func (c *Conn) closeSocket() {
	delete(c.loop.conns, c)
	if c.sys.cancel != nil {
		c.sys.cancel()
	}
	if c.sys.conn != nil {
		c.sys.conn.Close()
		c.sys.conn = nil
	}
}
