//go:build linux

package engine

import (
	"errors"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

var beat = frameOf(pb.CmdHeartBeat, 3, nil)

// crowd is a loop with many clients that send heartbeats, under a clock that the test sets.
type crowd struct {
	*role
	t       testing.TB
	clock   *clock
	server  *Server
	clients []*client
	beats   atomic.Int64 // heartbeats that the role got
	turns   atomic.Int64
	shared  atomic.Int64 // heartbeats that the role got in a turn that had one before
	last    int64        // the turn of the last heartbeat; loop only
	ran     atomic.Int64 // timers
}

// newCrowd connects n clients, which are quiet when n is large enough, and one that is not.
func newCrowd(t testing.TB, n int) (c *crowd, other *client) {
	c = &crowd{role: newRole(), t: t, clock: newClock()}
	c.frame = func(s *session.Client, h pdu.Header, body []byte) {
		if h.Command == pb.CmdHeartBeat {
			c.beats.Add(1)
			if turn := c.turns.Load() + 1; turn == c.last {
				c.shared.Add(1)
			} else {
				c.last = turn
			}
		}
		s.SendFrame(frameOf(h.Command, h.Seq, body))
	}
	c.server = start(t, Options{Clients: c, Loops: 1, Now: c.clock.now,
		AfterFunc: func(d time.Duration, f func()) func() bool {
			return c.clock.afterFunc(d, func() {
				f()
				c.ran.Add(1)
			})
		}, Ended: func(time.Time) { c.turns.Add(1) }})
	for range n {
		c.clients = append(c.clients, dial(t, c.server))
	}
	other = dial(t, c.server)
	other.echo(hello)
	for range n + 1 {
		next(t, c.sessions)
	}
	for range 2 {
		c.pass(regularBeat)
		for _, x := range c.clients {
			x.echo(beat)
		}
	}
	return c, other
}

// beat makes each client send a heartbeat, and fails if one of them wakes the loop.
func (c *crowd) beat(other *client) {
	c.t.Helper()
	c.pass(regularBeat)
	before := c.beats.Load()
	for _, x := range c.clients {
		x.send(beat)
	}
	c.carried(c.clients...)
	other.echo(hello)
	settle(c.server)
	if n := c.beats.Load() - before; n != 0 {
		c.t.Fatalf("%d heartbeats woke the loop", n)
	}
}

// pass lets d pass, and waits for what is due then.
func (c *crowd) pass(d time.Duration) {
	c.clock.advance(d)
	for _, fired := c.clock.timersOf(); c.ran.Load() < int64(fired); {
		runtime.Gosched()
	}
	settle(c.server)
}

// echoes lets the loop look once, and reads the echoes of heartbeats.
func (c *crowd) echoes() {
	c.t.Helper()
	c.look()
	for _, x := range c.clients {
		x.want(beat)
	}
}

// look lets the loop look at the quiet clients.
func (c *crowd) look() { c.pass(gatherEvery) }

// carried waits until the server's kernel has what the clients have sent.
func (c *crowd) carried(clients ...*client) {
	c.t.Helper()
	for _, x := range clients {
		raw, err := x.Conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			c.t.Fatal(err)
		}
		for left := 1; left > 0; runtime.Gosched() {
			if err := raw.Control(func(fd uintptr) {
				left, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) // 0 after an error
			}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// TestHeartbeatsAreReadTogether: the heartbeats of many quiet clients take one turn, and each gets
// its echo.
func TestHeartbeatsAreReadTogether(t *testing.T) {
	c, other := newCrowd(t, gatherFrom)
	for range 3 {
		before := c.shared.Load()
		c.beat(other)
		c.echoes()
		if n := c.shared.Load() - before; n < gatherFrom/2 {
			t.Errorf("%d of %d heartbeats shared a turn with others", n, len(c.clients))
		}
	}
	if run, _ := c.clock.timersOf(); run != 1 {
		t.Errorf("%d timers, want 1", run)
	}
}

// TestFewClientsAreAnsweredAtOnce: below the bound nothing is held back, nor after most clients of
// a large crowd have left.
func TestFewClientsAreAnsweredAtOnce(t *testing.T) {
	echoed := func(c *crowd) {
		c.pass(regularBeat)
		for _, x := range c.clients {
			x.echo(beat)
		}
	}
	c, _ := newCrowd(t, gatherFrom-2)
	echoed(c)
	c, other := newCrowd(t, gatherFrom)
	c.beat(other)
	c.echoes()
	for _, x := range c.clients[gatherBelow/2:] {
		x.Close()
		next(t, c.closed)
	}
	c.clients = c.clients[:gatherBelow/2]
	echoed(c) // the time that passes makes the loop look
	if run, _ := c.clock.timersOf(); run != 0 {
		t.Errorf("%d timers, want none", run)
	}
}

// TestQuietClientsAreServedAtOnce: a text of a quiet client wakes the loop, whole or in parts, and
// so does the end of its connection.
func TestQuietClientsAreServedAtOnce(t *testing.T) {
	for name, test := range atOnce {
		t.Run(name, func(t *testing.T) {
			c, other := newCrowd(t, gatherFrom)
			c.beat(other)
			c.echoes()
			c.pass(regularBeat)
			test(c, c.clients[7])
			c.clients = slices.Delete(c.clients, 7, 8)
			c.beat(other) // the others are not affected
			c.echoes()
		})
	}
}

// atOnce are things that a quiet client does, with what the server does then.
var atOnce = map[string]func(c *crowd, x *client){
	"text":            func(_ *crowd, x *client) { x.echo(hello) },
	"shortest text":   func(_ *crowd, x *client) { x.echo(frameOf(pb.CmdMsgData, 5, []byte{1})) },
	"beat, then text": func(_ *crowd, x *client) { x.echo(append(beat[:16:16], hello...)) },
	"two beats":       func(_ *crowd, x *client) { x.echo(append(beat[:16:16], beat...)) },
	"header, then body": func(_ *crowd, x *client) {
		x.send(hello[:16])
		x.send(hello[16:])
		x.want(hello)
	},
	"the rest is short": func(_ *crowd, x *client) {
		x.send(append(beat[:16:16], hello[:len(hello)-2]...))
		x.want(beat)
		x.send(hello[len(hello)-2:])
		x.want(hello)
	},
	"after a look at a header": func(c *crowd, x *client) {
		x.send(hello[:16])
		c.carried(x)
		c.look()
		x.send(hello[16:])
		x.want(hello)
	},
	"after a look at less": func(c *crowd, x *client) {
		x.send(hello[:3])
		c.carried(x)
		c.look()
		x.send(hello[3:])
		x.want(hello)
	},
	"end": func(c *crowd, x *client) {
		x.Close()
		if e := next(x.t, c.closed); e.err != nil {
			x.t.Errorf("closed: %v", e.err)
		}
	},
	"end after a beat": func(c *crowd, x *client) {
		x.send(beat)
		x.Close()
		next(x.t, c.closed)
	},
	"length below a header": func(c *crowd, x *client) {
		x.send(make([]byte, 16))
		c.carried(x)
		c.look()
		if e := next(x.t, c.closed); !errors.Is(e.err, pdu.ErrLength) {
			x.t.Errorf("closed: %v", e.err)
		}
	},
	"length above the limit": func(c *crowd, x *client) {
		x.send([]byte{0x7f, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0})
		c.carried(x)
		c.look()
		if e := next(x.t, c.closed); !errors.Is(e.err, pdu.ErrLength) {
			x.t.Errorf("closed: %v", e.err)
		}
	},
	"no heartbeat, without a body": func(c *crowd, x *client) {
		frame := frameOf(pb.CmdClientTimeReq, 8, nil)
		x.send(frame)
		c.carried(x)
		c.look()
		x.want(frame)
		x.echo(frame) // no longer held back
	},
}

// TestALookTakesSeveralTurns: clients beyond the bound of a turn are looked at soon, in the next.
func TestALookTakesSeveralTurns(t *testing.T) {
	c, other := newCrowd(t, gatherFrom)
	for _, l := range c.server.all() {
		l.Post(func() { l.most = gatherFrom / 3 })
	}
	c.beat(other)
	before := c.beats.Load()
	c.look()
	if n := c.beats.Load() - before; n == 0 || n > gatherFrom/3 {
		t.Errorf("%d heartbeats in a turn", n)
	}
	for range 2 { // the look that has begun, and another one
		c.pass(againPause)
		c.pass(againPause)
		c.look()
	}
	for _, x := range c.clients {
		x.want(beat)
	}
}

// TestAClientThatMeasuresIsNotHeldBack: heartbeats in a row get their echoes at once.
func TestAClientThatMeasuresIsNotHeldBack(t *testing.T) {
	c, other := newCrowd(t, gatherFrom)
	c.beat(other)
	c.echoes()
	x := c.clients[0]
	x.send(beat)
	c.carried(x)
	c.look() // the first one waits
	x.want(beat)
	for range 5 {
		x.echo(beat)
	}
}

// TestAHeartbeatThatWaitsKeepsTheSession: the tick that looks for silent clients may run before the
// look at the quiet ones. A client that has sent nothing is closed.
func TestAHeartbeatThatWaitsKeepsTheSession(t *testing.T) {
	c, other := newCrowd(t, gatherFrom)
	other.echo(hello)
	c.server.Loops(func(l *session.Loop) {
		l.Each(func(x *session.Conn) { x.SetIdleLimit(2 * regularBeat) })
	})
	silent := c.clients[7]
	c.clients = slices.Delete(c.clients, 7, 8)
	c.beat(other)
	c.clock.mu.Lock()
	c.clock.t = c.clock.t.Add(regularBeat) // no timer ends
	c.clock.mu.Unlock()
	for _, l := range c.server.all() {
		l.postTick()
	}
	settle(c.server)
	for _, x := range c.clients {
		x.want(beat)
	}
	silent.wantEnd()
	if e := next(t, c.closed); !errors.Is(e.err, session.ErrIdle) {
		t.Errorf("the silent client: %v", e.err)
	}
	other.echo(hello)
	c.beat(other) // the others are still held back
	c.echoes()
}

// BenchmarkLook looks at a thousand quiet clients that have sent nothing.
func BenchmarkLook(b *testing.B) {
	c, _ := newCrowd(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		c.look()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/client")
}
