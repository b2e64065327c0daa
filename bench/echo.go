package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"teamtalk/bench/swarm"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// EchoOptions set up Echo: what a scenario's connections and frames are like, with nobody behind them who would look at a frame.
type EchoOptions struct {
	// Addr is a server that sends every frame back as it came: engine.Echo, `teamtalk bench echo`. Required.
	Addr string
	// Connections is how many are open. Default 400.
	Connections int
	// Senders is how many of them have frames on their way, Window each; the others are idle. Default: all of Connections, 16.
	Senders, Window int
	// Size is the length of the text in each frame, in bytes. Default 64.
	Size int
	// Loops is the number of event loops of the generator. Default: as a scenario's.
	Loops int
	// Warmup and Duration are the time before counting and the time counted. Default 500 ms and 3 s.
	Warmup, Duration time.Duration
}

func (o *EchoOptions) defaults() {
	pick := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	pick(&o.Connections, 400)
	pick(&o.Senders, o.Connections)
	o.Senders = min(o.Senders, o.Connections)
	pick(&o.Window, 16)
	pick(&o.Size, 64)
	pick(&o.Loops, (&Scenario{}).loopCount())
	if o.Warmup <= 0 {
		o.Warmup = 500 * time.Millisecond
	}
	if o.Duration <= 0 {
		o.Duration = 3 * time.Second
	}
}

// EchoOf is an echo with the connections, senders, windows and texts of a scenario, which Ceilings says it has. Of a group all members are senders, since all
// get frames.
func EchoOf(s *Scenario) EchoOptions {
	o := EchoOptions{Connections: s.Users(), Senders: s.Users(), Window: s.Window, Size: int(s.Size), Loops: s.Loops}
	if s.played() == KindSingle {
		o.Senders = s.Pairs
	}
	return o
}

// Ceilings says which total an echo of a scenario's frames bounds, and which storing its rows does: "acked" or "delivered". false for
// scenarios that are not about texts.
func (s *Scenario) Ceilings() (echo, stored string, ok bool) {
	switch s.played() {
	case KindGroup:
		return "delivered", "acked", true
	case KindSingle, KindMixed:
		return "acked", "acked", true
	}
	return "", "", false
}

// played is the kind of what is done: of a soak, what it does for hours.
func (s *Scenario) played() string {
	if s.Kind == KindSoak {
		return s.Of
	}
	return s.Kind
}

// ToGroups reports whether all texts of the scenario go to groups.
func (s *Scenario) ToGroups() bool { return s.played() == KindGroup }

// GeneratorLoops is how many event loops a generator of the scenario has.
func (s *Scenario) GeneratorLoops() int { return s.loopCount() }

// Bound completes a ceiling that was measured: what a result reached of it. Of a run on schedule that is what it was asked for, not what could
// be reached.
func (c *Ceiling) Bound(res *Result) {
	if c.Rate > 0 && res.Seconds > 0 {
		c.Percent = 100 * float64(res.Totals[c.Of]) / res.Seconds / c.Rate
	}
}

// Echo measures how many frames a second a bare echo sends back to the connections of a scenario: what the machine and its network carry when the server
// does nothing. It fails when a connection does, since a ceiling of fewer is none.
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
	frame, err := pdu.Append(nil, 1, &pb.MsgData{FromUserID: 10007, ToSessionID: 10011, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: filler(stampLen + o.Size)})
	if err != nil {
		return 0, err
	}
	e := &echo{frame: frame, window: o.Window, left: int64(o.Connections), open: make(chan struct{}), failed: make(chan error, 1)}
	e.connect(sw, addr, &o)
	if err := e.wait(ctx, e.open, 0); err != nil {
		return 0, err
	}
	e.start()
	if err := e.wait(ctx, nil, o.Warmup); err != nil {
		return 0, err
	}
	began, before := time.Now(), e.frames()
	if err := e.wait(ctx, nil, o.Duration); err != nil {
		return 0, err
	}
	return float64(e.frames()-before) / time.Since(began).Seconds(), nil
}

// echo is one measurement.
type echo struct {
	frame  []byte
	window int
	loops  []*echoLoop
	left   int64 // connections that are not open yet, of all loops
	open   chan struct{}
	failed chan error
}

// echoLoop is what belongs to one loop.
type echoLoop struct {
	*echo
	loop    *swarm.Loop
	senders []*swarm.Conn
	count   atomic.Int64 // frames that came back
	_       [64]byte     // the next loop's count has a cache line of its own
}

// atOnce is how many connections a loop makes at once.
const atOnce = 64

// connect has each loop make its share of the connections, some at a time, so that no listener's queue runs over.
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

// start has all senders send.
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

// wait waits for ready, or for a time, unless something fails first.
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

// echoConn is told what happens to a connection.
type echoConn struct {
	loop *echoLoop
	more func() // makes the next connection
}

// Open counts it.
func (h *echoConn) Open(*swarm.Conn) {
	h.more()
	if atomic.AddInt64(&h.loop.left, -1) == 0 {
		close(h.loop.open)
	}
}

// Frame sends the next in place of the one that came back.
func (h *echoConn) Frame(c *swarm.Conn, _ pdu.Header, _ []byte) {
	h.loop.count.Add(1)
	c.Write(h.loop.frame)
}

// Close ends the measurement.
func (h *echoConn) Close(_ *swarm.Conn, err error) {
	select {
	case h.loop.failed <- fmt.Errorf("a connection to the echo: %w", err):
	default:
	}
}
