// Package swarm holds very many client connections on a few event loops: what a load generator needs that shares a machine with the servers it
// measures. A connection that is idle costs a few hundred bytes and no goroutine, frames cost no allocation, writes are collected and leave once per
// turn of the loop, and timers are as exact as the kernel's.
//
// A Swarm has Loops, each a goroutine with an epoll instance of its own. A Conn belongs to one Loop for life; its methods, its Handler, timers and
// what Loop.Do runs are all called on that loop, one after another, so that what belongs to a loop needs no lock. Nothing that runs there may wait.
//
// On systems other than Linux the same API is served by goroutines, for convenience and not for speed.
package swarm

import (
	"errors"
	"fmt"
	"time"

	"teamtalk/core/pdu"
)

// Handler is told what happens to a connection, on its loop.
type Handler interface {
	// Open is told that the connection is made.
	Open(c *Conn)
	// Frame gets one frame. body is valid until Frame returns; of a body longer than Options.MaxBody it is only the beginning, h.Length tells.
	Frame(c *Conn, h pdu.Header, body []byte)
	// Close is told that the connection could not be made, broke, or was closed by the other side (io.EOF). It is not told of Conn.Close.
	Close(c *Conn, err error)
}

// Options sets up a Swarm.
type Options struct {
	// Loops is how many there are. Default 1.
	Loops int
	// ConnectTimeout is how long making a connection may take. Default 30 s.
	ConnectTimeout time.Duration
	// MaxBody is how much of a frame's body the handler gets, in bytes; the rest is skipped. Default 64 KiB.
	MaxBody int
	// MaxFrame is the longest frame that is no error, in bytes. Default 64 MiB: some answers to clients are long.
	MaxFrame int
	// MaxOut is how many bytes may wait for one other side that does not read, before the connection is given up. Default 16 MiB.
	MaxOut int
}

func (o Options) withDefaults() Options {
	if o.Loops <= 0 {
		o.Loops = 1
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 30 * time.Second
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 64 << 10
	}
	if o.MaxFrame <= 0 {
		o.MaxFrame = pdu.MaxServerFrame
	}
	if o.MaxOut <= 0 {
		o.MaxOut = 16 << 20
	}
	return o
}

// What a connection ends with, beside io.EOF and what the system says.
var (
	ErrConnectTimeout = errors.New("no connection in time")
	ErrSlow           = errors.New("the other side does not read")
)

// Swarm is a set of loops.
type Swarm struct {
	opt   Options
	loops []*Loop
	base  time.Time
	nanos int64
}

// New starts the loops.
func New(opt Options) (*Swarm, error) {
	s := &Swarm{opt: opt.withDefaults(), base: time.Now()}
	s.nanos = s.base.UnixNano()
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

// Now is the time in nanoseconds since 1970, by a clock that is never set: it runs on from the time at which the swarm was made.
func (s *Swarm) Now() int64 { return s.nanos + int64(time.Since(s.base)) }

// Close closes all connections, without a word to their handlers, and ends the loops. It returns when all have ended; not to be called on a loop.
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
