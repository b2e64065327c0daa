package engine

import (
	"context"
	"time"

	"github.com/panjf2000/gnet/v2"

	"teamtalk/core/mono"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// A heartbeat that arrives alone costs what waking its loop costs, which is far more than to read
// and to echo it. So a loop with many clients does not let heartbeats wake it: it reads those of
// quiet clients together, once a second. The kernel holds them back. A heartbeat has 16 bytes, and
// the socket of a quiet client does not become readable before it has 17, or ends.
//
// A client is quiet once it has sent two heartbeats in a row, each after a silence. The first other
// frame ends that. A frame with a body wakes the loop at once, also when a quiet client sends it.
// Only a frame without a body may wait for up to a second.

const (
	// gatherEvery is the time between two looks at the quiet clients. Stock clients wait for an
	// echo for 5 s or longer.
	gatherEvery = time.Second
	// gatherFrom is the number of sessions of a loop from which on clients become quiet, and
	// gatherBelow that below which none is. With fewer, heartbeats wake a loop less often than
	// the looks do.
	gatherFrom, gatherBelow = 48, 24
	// regularBeat is the shortest time between the heartbeats of a quiet client. A client that
	// sends them faster measures the time to the echo.
	regularBeat = 4 * time.Second
	// gatherTurn is the number of quiet clients that a loop looks at in one turn. To look at one
	// costs less than a microsecond (BenchmarkLook).
	gatherTurn = 4096
)

// traits are properties of a connection. Loop only.
type traits uint8

const (
	detected   traits = 1 << iota // the first byte has arrived
	proxiedTLS                    // the client has TLS, which the proxy ends
	steady                        // the last frame was a heartbeat, some time after the one before
	quiet                         // heartbeats do not make the socket readable
	listed                        // in loop.quiet
)

// quietClients are those of a loop. Loop only.
type quietClients struct {
	quiet  []*conn // and those that were, until the next look
	at     int     // the number of them that this look has seen
	most   int     // gatherTurn
	timed  bool    // a timer runs for the next look
	peeked [pdu.HeaderLen + 1]byte
}

// arrived notes a frame before it is delivered, and makes the connection quiet or ends that.
func (cn *conn) arrived(h pdu.Header) {
	regular := h.Command == pb.CmdHeartBeat && h.Length == pdu.HeaderLen
	if !regular && cn.traits&(steady|quiet) == 0 {
		return
	}
	switch {
	case !regular || cn.s.Silent() < regularBeat:
		cn.traits &^= steady
		cn.rouse()
	case cn.traits&steady == 0:
		cn.traits |= steady
	case cn.traits&quiet == 0 && cn.tls == nil && cn.ws == nil && cn.stranger == nil &&
		cn.loop.server.opt.Clients != nil && cn.loop.Sessions() >= gatherFrom:
		cn.hush()
	}
}

// hush makes the connection quiet.
func (cn *conn) hush() {
	if !lowWater(cn.c.Fd(), pdu.HeaderLen+1) {
		return
	}
	cn.traits |= quiet
	l := cn.loop
	if cn.traits&listed == 0 {
		cn.traits |= listed
		l.quiet = append(l.quiet, cn)
	}
	l.lookLater()
}

// rouse ends that the connection is quiet. The socket becomes readable if it has bytes.
func (cn *conn) rouse() {
	if cn.traits&quiet != 0 && !cn.closed {
		lowWater(cn.c.Fd(), 1)
	}
	cn.traits &^= quiet
}

// lookLater sets the timer of the next look at the quiet clients.
func (l *loop) lookLater() {
	if l.timed || len(l.quiet) == 0 {
		return
	}
	l.timed = true
	now := l.server.now()
	l.lookIn(mono.Next(now, gatherEvery).Sub(now))
}

// lookIn makes the loop look at the quiet clients in d.
func (l *loop) lookIn(d time.Duration) {
	l.server.opt.AfterFunc(d, func() {
		_ = l.wake(gnet.RunnableFunc(func(context.Context) error { // the engine ends
			l.look()
			return nil
		}))
	})
}

// look handles the heartbeats of quiet clients in a turn.
func (l *loop) look() {
	l.Begin()
	defer l.End()
	few := l.Sessions() < gatherBelow
	for left := l.most; l.at < len(l.quiet) && left > 0; left-- {
		cn := l.quiet[l.at]
		if few && !cn.closed {
			cn.rouse()
		}
		if cn.closed || cn.traits&quiet == 0 {
			last := len(l.quiet) - 1
			l.quiet[l.at], l.quiet[last] = l.quiet[last], nil
			l.quiet = l.quiet[:last]
			cn.traits &^= listed
			continue
		}
		l.at++
		cn.collect()
	}
	if l.at < len(l.quiet) {
		l.lookIn(againPause) // the sockets go first, see loopOf
		return
	}
	l.at, l.timed = 0, false
	l.lookLater()
}

// Gather implements session.Gatherer: the look at a quiet client and the end of its time may be due
// in the same second.
func (cn *conn) Gather() {
	if cn.traits&quiet != 0 && !cn.closed {
		cn.collect()
	}
}

// collect handles the heartbeat of a quiet client, if one has arrived. gnet holds no byte of it.
// More bytes than those of a heartbeat have made the socket readable, and fewer stay where they
// are.
func (cn *conn) collect() {
	fd, buf := cn.c.Fd(), cn.loop.peeked[:]
	if peek(fd, buf) != pdu.HeaderLen {
		return
	}
	h := pdu.ParseHeader(buf)
	switch {
	case h.Length < pdu.HeaderLen || int64(h.Length) > int64(cn.limit()) || cn.s.IsClosed():
		cn.rouse() // gnet reads it, and read closes the connection
	case h.Length > pdu.HeaderLen: // the begin of a frame
	case take(fd, buf[:pdu.HeaderLen]):
		cn.arrived(h)
		cn.loop.Deliver(cn.s, h, nil)
	}
}
