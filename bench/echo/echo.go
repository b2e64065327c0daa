// Package echo measures a server that returns each frame unchanged (engine.Echo, `teamtalk
// bench echo`), with the connections and frames of a scenario. Its rate is the most that the
// machine and its network carry when the server does no work.
package echo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"teamtalk/bench/scenario"
	"teamtalk/bench/swarm"
	"teamtalk/core/opt"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Options are the connections and frames. Zero fields mean the defaults.
type Options struct {
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
	// Rate, when above 0, is the number of frames a second, of all senders in turn at even
	// intervals. The measurement is not the highest rate then, but the times of Result.
	Rate float64
	// Begin and End, when set, are called when counting begins and ends.
	Begin, End func()
	// Warmup and Duration are the time before counting and the time of counting. Default:
	// 500 ms and 3 s.
	Warmup, Duration time.Duration
}

func (o *Options) defaults() {
	opt.Default(&o.Connections, 400)
	opt.Default(&o.Senders, o.Connections)
	o.Senders = min(o.Senders, o.Connections)
	opt.Default(&o.Window, 16)
	opt.Default(&o.Size, 64)
	opt.Default(&o.Loops, (&scenario.Scenario{}).GeneratorLoops())
	opt.Default(&o.Warmup, 500*time.Millisecond)
	opt.Default(&o.Duration, 3*time.Second)
}

// Of returns options with the connections, senders, windows and texts of a scenario
// for which Ceilings returns true. All members of a group are senders, because all
// receive frames.
func Of(s *scenario.Scenario) Options {
	o := Options{Connections: s.Users(), Senders: s.Users(), Window: s.Window,
		Size: int(s.Size), Loops: s.Loops}
	if s.Played() == scenario.KindSingle {
		o.Senders = s.Pairs
	}
	return o
}

// Result is what Measure measured.
type Result struct {
	Rate float64 // frames that came back, a second
	// With Options.Rate: the number of frames that came back, those of the warm-up
	// included, and the time from when a frame was due until it came back, of half of them
	// and of 99 in a hundred.
	Frames   int64
	P50, P99 time.Duration
}

// Measure measures how many frames a second come back, or how long each takes. It fails when
// a connection fails, because a ceiling with fewer connections would be too low.
func Measure(ctx context.Context, o Options) (Result, error) {
	o.defaults()
	resolved, err := net.ResolveTCPAddr("tcp", o.Addr)
	if err != nil {
		return Result{}, fmt.Errorf("echo %q: %w", o.Addr, err)
	}
	addr, ok := netip.AddrFromSlice(resolved.IP)
	if !ok {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // ":port" listens there too
	}
	addr = addr.Unmap()
	swarm.OpenFiles(o.Connections + 256)
	sw, err := swarm.New(swarm.Options{Loops: o.Loops})
	if err != nil {
		return Result{}, err
	}
	defer sw.Close()
	frame, err := pdu.Append(nil, 1, &pb.MsgData{FromUserID: 10007, ToSessionID: 10011,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: bytes.Repeat([]byte("x"), o.Size)})
	if err != nil {
		return Result{}, err
	}
	e := &echo{frame: frame, window: o.Window, paced: o.Rate > 0, left: int64(o.Connections),
		open: make(chan struct{}), failed: make(chan error, 1)}
	e.connect(sw, netip.AddrPortFrom(addr, uint16(resolved.Port)), &o)
	if err := e.wait(ctx, e.open, 0); err != nil {
		return Result{}, err
	}
	if e.paced {
		e.schedule(o.Rate / float64(o.Senders))
	} else {
		e.start()
	}
	if err := e.wait(ctx, nil, o.Warmup); err != nil {
		return Result{}, err
	}
	if o.Begin != nil {
		o.Begin()
	}
	rate, err := e.measure(ctx, o.Duration)
	if o.End != nil {
		o.End()
	}
	if err != nil || !e.paced {
		return Result{Rate: rate}, err
	}
	waits := e.waited()
	at := func(q float64) time.Duration { return time.Duration(waits.ValueAtQuantile(q)) * micro }
	return Result{Rate: rate, Frames: waits.TotalCount(), P50: at(50), P99: at(99)}, nil
}

// micro is the unit of the histograms, maxWait the longest time in them.
const (
	micro   = time.Microsecond
	maxWait = int64(10 * time.Minute / micro)
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxWait, 3) }

// patience is the longest time that measure waits for a first frame. A busy machine
// may return none within a short measurement; an echo that is silent for this long is out
// of order.
const patience = 30 * time.Second

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
		if took > d+patience {
			return 0, fmt.Errorf("the echo returned no frame within %s", took.Round(time.Second))
		}
	}
}

// echo is one measurement.
type echo struct {
	frame  []byte
	window int
	paced  bool
	loops  []*echoLoop
	left   int64 // connections of all loops that are not open yet
	open   chan struct{}
	failed chan error
}

// echoLoop is the part of a measurement on one loop.
type echoLoop struct {
	*echo
	loop    *swarm.Loop
	senders []echoSender
	count   atomic.Int64 // frames returned
	waits   *hdrhistogram.Histogram
	_       [64]byte // gives the count of the next loop a cache line of its own
}

// echoSender is a connection that sends.
type echoSender struct {
	*swarm.Conn
	echo *echoConn
}

// atOnce is the number of connections that a loop establishes at the same time.
const atOnce = 64

// connect opens on each loop its share of the connections, some at a time, so that the
// backlog of the listener does not overflow.
func (e *echo) connect(sw *swarm.Swarm, addr netip.AddrPort, o *Options) {
	loops := sw.Loops()
	for i, l := range loops {
		el := &echoLoop{echo: e, loop: l, waits: newHistogram()}
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
					el.senders = append(el.senders, echoSender{c, h})
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

// schedule has the senders of each loop write in turn, at a rate of each sender.
func (e *echo) schedule(rate float64) {
	for _, el := range e.loops {
		el.loop.Do(func() {
			if len(el.senders) == 0 {
				return
			}
			every := max(1, int64(float64(time.Second)/rate/float64(len(el.senders))))
			due, next := el.loop.Now(), 0
			el.loop.At(due, func(now int64) int64 {
				for ; due <= now; due += every {
					s := el.senders[next]
					next = (next + 1) % len(el.senders)
					s.echo.due = append(s.echo.due, due)
					s.Write(e.frame)
				}
				return due
			})
		})
	}
}

// waited returns the times of the frames that came back on a schedule, those of the
// warm-up included.
func (e *echo) waited() *hdrhistogram.Histogram {
	sum := newHistogram()
	for _, el := range e.loops {
		done := make(chan struct{})
		if el.loop.Do(func() { sum.Merge(el.waits); close(done) }) {
			<-done
		}
	}
	return sum
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
	more func()  // opens the next connection
	due  []int64 // when the frames that have not come back were due, with a schedule
}

// Open counts the connection and opens the next.
func (h *echoConn) Open(*swarm.Conn) {
	h.more()
	if atomic.AddInt64(&h.loop.left, -1) == 0 {
		close(h.loop.open)
	}
}

// Frame sends the next frame in place of the returned one, unless there is a schedule.
func (h *echoConn) Frame(c *swarm.Conn, _ pdu.Header, _ []byte) {
	h.loop.count.Add(1)
	if h.loop.paced && len(h.due) > 0 {
		wait := time.Duration(h.loop.loop.Now() - h.due[0])
		h.due = slices.Delete(h.due, 0, 1)
		_ = h.loop.waits.RecordValue(min(wait.Microseconds(), maxWait)) // within its range
	}
	if !h.loop.paced {
		c.Write(h.loop.frame)
	}
}

// Close ends the measurement with an error.
func (h *echoConn) Close(_ *swarm.Conn, err error) {
	select {
	case h.loop.failed <- fmt.Errorf("a connection to the echo: %w", err):
	default:
	}
}
