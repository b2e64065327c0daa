// Package swarm holds very many client connections on a few event loops, for a load
// generator that shares a machine with the servers it measures. An idle connection costs
// a few hundred bytes and no goroutine. Frames cost no allocation. Writes are batched and
// leave once a turn of the loop. Timers are as exact as the kernel's.
//
// A Swarm has Loops, each a goroutine with an epoll instance of its own. A Conn belongs
// to one Loop for life. Its methods, its Handler, the timers and the functions of Loop.Do
// are all called on that loop, one after another, so the state of a loop needs no lock.
// Nothing that runs on a loop may block.
//
// On systems other than Linux goroutines serve the same API, for convenience and not for
// speed.
package swarm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/opt"
	"teamtalk/core/pdu"
	"teamtalk/core/tlsconn"
)

// Handler receives the events of a connection. Loop only.
type Handler interface {
	// Open is called when the connection is established.
	Open(c *Conn)
	// Frame receives one frame. body is valid until Frame returns. A body longer than
	// Options.MaxBody is cut to that length; h.Length holds the full length.
	Frame(c *Conn, h pdu.Header, body []byte)
	// Close is called when the connection could not be established, broke, or was closed
	// by the other side (io.EOF). Conn.Close does not cause this call.
	Close(c *Conn, err error)
}

// Options configure a Swarm.
type Options struct {
	// Loops is the number of loops. Default: 1.
	Loops int
	// ConnectTimeout is the longest time to establish a connection. Default: 30 s.
	ConnectTimeout time.Duration
	// MaxBody is the part of a frame's body that the handler receives, in bytes. The rest
	// is discarded. Default: 64 KiB.
	MaxBody int
	// MaxFrame is the longest valid frame, in bytes. Default: 64 MiB, because some
	// answers to clients are long.
	MaxFrame int
	// MaxOut is the most bytes queued for a peer that does not read. With more the
	// connection is closed. Default: 16 MiB.
	MaxOut int
	// TLS encrypts all connections. Without a ServerName the certificates must hold the
	// address that is dialled. Default: no TLS.
	TLS *tls.Config
	// WebSocket makes each connection one of a browser: a request of HTTP, and one message for
	// each frame.
	WebSocket bool
}

func (o Options) withDefaults() Options {
	opt.Default(&o.Loops, 1)
	opt.Default(&o.ConnectTimeout, 30*time.Second)
	opt.Default(&o.MaxBody, 64<<10)
	opt.Default(&o.MaxFrame, pdu.MaxServerFrame)
	opt.Default(&o.MaxOut, 16<<20)
	return o
}

// maxHandshakes bounds the handshakes of TLS in progress. The generator bounds its logins itself.
const maxHandshakes = 1 << 20

// Errors with which a connection ends, besides io.EOF and those of the system.
var (
	ErrConnectTimeout = errors.New("no connection in time")
	ErrSlow           = errors.New("the other side does not read")
)

// Swarm is a set of event loops.
type Swarm struct {
	opt   Options
	loops []*Loop
	base  time.Time
	nanos int64
	tls   *tlsconn.Handshakes // nil: no TLS
}

// New starts the loops.
func New(opt Options) (*Swarm, error) {
	s := &Swarm{opt: opt.withDefaults(), base: time.Now()}
	s.nanos = s.base.UnixNano()
	if opt.TLS != nil {
		s.tls = tlsconn.NewHandshakes(tlsconn.Options{Config: opt.TLS, Most: maxHandshakes,
			Parallel: s.opt.Loops})
	}
	for i := range s.opt.Loops {
		l := &Loop{index: i, swarm: s, done: make(chan struct{})}
		l.buf = make([]byte, 2*(pdu.HeaderLen+s.opt.MaxBody)+64<<10)
		l.now = s.Now()
		if err := l.openPoll(); err != nil {
			s.Close()
			return nil, fmt.Errorf("start event loop: %w", err)
		}
		s.loops = append(s.loops, l)
		go l.run()
	}
	return s, nil
}

// Loops returns the loops.
func (s *Swarm) Loops() []*Loop { return s.loops }

// Now returns nanoseconds since 1970 by a clock that is never set: the wall clock when
// the swarm was made, and the monotonic time since.
func (s *Swarm) Now() int64 { return s.nanos + int64(time.Since(s.base)) }

// Close closes all connections without calling their handlers, and stops the loops. It
// returns when all loops have ended. It must not be called on a loop.
func (s *Swarm) Close() {
	for _, l := range s.loops {
		l.mu.Lock()
		if !l.stop {
			l.stop = true
			l.wake()
		}
		l.mu.Unlock()
	}
	for _, l := range s.loops {
		<-l.done
	}
}
