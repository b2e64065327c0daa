package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"teamtalk/bench/scenario"
	"teamtalk/bench/swarm"
	"teamtalk/core/opt"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// EchoOptions configure Echo: the connections and frames of a scenario, with a server
// that does not look at the frames.
type EchoOptions struct {
	// Addr is a server that returns each frame unchanged: engine.Echo, `teamtalk bench
	// echo`. Required.
	Addr string
	// Connections is the number of open connections. Default: 400.
	Connections int
	// Senders is the number of connections with Window frames in flight each. The others
	// are idle. Default: all of Connections, 16.
	Senders, Window int
	// Size is the length of the text in each frame, in bytes. Default: 64.
	Size int
	// Loops is the number of event loops of the generator. Default: that of a scenario.
	Loops int
	// Warmup and Duration are the time before counting and the time of counting. Default:
	// 500 ms and 3 s.
	Warmup, Duration time.Duration
}

func (o *EchoOptions) defaults() {
	opt.Default(&o.Connections, 400)
	opt.Default(&o.Senders, o.Connections)
	o.Senders = min(o.Senders, o.Connections)
	opt.Default(&o.Window, 16)
	opt.Default(&o.Size, 64)
	opt.Default(&o.Loops, (&scenario.Scenario{}).GeneratorLoops())
	opt.Default(&o.Warmup, 500*time.Millisecond)
	opt.Default(&o.Duration, 3*time.Second)
}

// EchoOf returns an echo with the connections, senders, windows and texts of a scenario
// for which Ceilings returns true. All members of a group are senders, because all
// receive frames.
func EchoOf(s *scenario.Scenario) EchoOptions {
	o := EchoOptions{Connections: s.Users(), Senders: s.Users(), Window: s.Window,
		Size: int(s.Size), Loops: s.Loops}
	if s.Played() == scenario.KindSingle {
		o.Senders = s.Pairs
	}
	return o
}

// Bound sets the part of a measured ceiling that a result reached. For a run with a
// schedule that is the part that was offered, not the most that was possible.
func (c *Ceiling) Bound(res *Result) {
	if c.Rate > 0 && res.Seconds > 0 {
		c.Percent = 100 * float64(res.Totals[c.Of]) / res.Seconds / c.Rate
	}
}

// Echo measures how many frames a second a bare echo returns to the connections of a
// scenario: the most that the machine and its network carry when the server does no work.
// It fails when a connection fails, because a ceiling with fewer connections would be too
// low.
func Echo(ctx context.Context, o EchoOptions) (rate float64, err error) {
	o.defaults()
	addr, err := lookup(ctx, o.Addr)
	if err != nil {
		return 0, fmt.Errorf("echo %q: %w", o.Addr, err)
	}
	swarm.OpenFiles(o.Connections + 256)
	sw, err := swarm.New(swarm.Options{Loops: o.Loops})
	if err != nil {
		return 0, err
	}
	defer sw.Close()
	frame, err := pdu.Append(nil, 1, &pb.MsgData{FromUserID: 10007, ToSessionID: 10011,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: filler(stampLen + o.Size)})
	if err != nil {
		return 0, err
	}
	e := &echo{frame: frame, window: o.Window, left: int64(o.Connections),
		open: make(chan struct{}), failed: make(chan error, 1)}
	e.connect(sw, addr, &o)
	if err := e.wait(ctx, e.open, 0); err != nil {
		return 0, err
	}
	e.start()
	if err := e.wait(ctx, nil, o.Warmup); err != nil {
		return 0, err
	}
	return e.measure(ctx, o.Duration)
}

// echoPatience is the longest time that measure waits for a first frame. A busy machine
// may return none within a short measurement; an echo that is silent for this long is out
// of order.
const echoPatience = 30 * time.Second

// measure returns the frames a second over a time d, which it prolongs until a frame came.
func (e *echo) measure(ctx context.Context, d time.Duration) (rate float64, err error) {
	began, before := time.Now(), e.frames()
	for {
		if err := e.wait(ctx, nil, d); err != nil {
			return 0, err
		}
		n, took := e.frames()-before, time.Since(began)
		if n > 0 {
			return float64(n) / took.Seconds(), nil
		}
		if took > d+echoPatience {
			return 0, fmt.Errorf("the echo returned no frame within %s", took.Round(time.Second))
		}
	}
}

// echo is one measurement.
type echo struct {
	frame  []byte
	window int
	loops  []*echoLoop
	left   int64 // connections of all loops that are not open yet
	open   chan struct{}
	failed chan error
}

// echoLoop is the part of a measurement on one loop.
type echoLoop struct {
	*echo
	loop    *swarm.Loop
	senders []*swarm.Conn
	count   atomic.Int64 // frames returned
	_       [64]byte     // gives the count of the next loop a cache line of its own
}

// atOnce is the number of connections that a loop establishes at the same time.
const atOnce = 64

// connect opens on each loop its share of the connections, some at a time, so that the
// backlog of the listener does not overflow.
func (e *echo) connect(sw *swarm.Swarm, addr netip.AddrPort, o *EchoOptions) {
	loops := sw.Loops()
	for i, l := range loops {
		el := &echoLoop{echo: e, loop: l}
		e.loops = append(e.loops, el)
		mine := make([]bool, 0, o.Connections/len(loops)+1) // whether each is a sender
		for c := i; c < o.Connections; c += len(loops) {
			mine = append(mine, c < o.Senders)
		}
		next := 0
		var dial func()
		dial = func() {
			if next < len(mine) {
				h := &echoConn{loop: el, more: dial}
				sends := mine[next]
				next++
				c := l.Dial(addr, h)
				if sends {
					el.senders = append(el.senders, c)
				}
			}
		}
		l.Do(func() {
			for range atOnce {
				dial()
			}
		})
	}
}

// start writes the first frames of all senders.
func (e *echo) start() {
	for _, el := range e.loops {
		el.loop.Do(func() {
			for _, c := range el.senders {
				for range e.window {
					c.Write(e.frame)
				}
			}
		})
	}
}

func (e *echo) frames() (n int64) {
	for _, el := range e.loops {
		n += el.count.Load()
	}
	return n
}

// wait waits for ready, or for a time, and returns early when a connection fails.
func (e *echo) wait(ctx context.Context, ready <-chan struct{}, d time.Duration) error {
	var timer <-chan time.Time
	if ready == nil {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ready:
		return nil
	case <-timer:
		return nil
	case err := <-e.failed:
		return err
	case <-ctx.Done():
		return errors.Join(errors.New("stopped"), context.Cause(ctx))
	}
}

// echoConn handles the events of a connection.
type echoConn struct {
	loop *echoLoop
	more func() // opens the next connection
}

// Open counts the connection and opens the next.
func (h *echoConn) Open(*swarm.Conn) {
	h.more()
	if atomic.AddInt64(&h.loop.left, -1) == 0 {
		close(h.loop.open)
	}
}

// Frame sends the next frame in place of the returned one.
func (h *echoConn) Frame(c *swarm.Conn, _ pdu.Header, _ []byte) {
	h.loop.count.Add(1)
	c.Write(h.loop.frame)
}

// Close ends the measurement with an error.
func (h *echoConn) Close(_ *swarm.Conn, err error) {
	select {
	case h.loop.failed <- fmt.Errorf("a connection to the echo: %w", err):
	default:
	}
}
