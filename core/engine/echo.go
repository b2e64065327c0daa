package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"teamtalk/core/pdu"
)

// EchoOptions sets up an Echo. Zero values mean the defaults.
type EchoOptions struct {
	// Addr is the TCP address, as "host:port" or ":port". Port 0 takes a free one. Required.
	Addr string
	// Loops is the number of event loops. Default: the number of cores, as a Server has.
	Loops int
	// ReadBuffer is the buffer of each event loop, in bytes. Default 64 KiB, as a Server has.
	ReadBuffer int
	// MaxFrame is the longest frame sent back, in bytes; a longer one ends its connection. Default pdu.MaxClientFrame.
	MaxFrame int
	// Log gets what goes wrong. Default: discarded.
	Log *slog.Logger
}

// Echo is the ceiling of a Server, for measurements: gnet alone, which sends every frame back as it came. It has no sessions, no handlers, no
// mailbox, no deadlines and no bound on what waits for a client that does not read; whole frames are found by their length and leave in one
// write per connection per turn. What a message server carries in a second on the same machine, with the same clients, is some part of what
// this does, and never more. It is not for the open network.
type Echo struct {
	opt      EchoOptions
	engine   gnet.Engine
	addr     net.Addr
	booted   chan error
	done     chan struct{}
	failure  error // valid after done
	stopping atomic.Bool
	frames   atomic.Int64
}

// StartEcho listens and echoes until Close. When it returns, the port is open.
func StartEcho(opt EchoOptions) (*Echo, error) {
	if opt.ReadBuffer <= 0 {
		opt.ReadBuffer = 64 << 10
	}
	if opt.MaxFrame <= 0 {
		opt.MaxFrame = pdu.MaxClientFrame
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	e := &Echo{opt: opt, booted: make(chan error, 1), done: make(chan struct{})}
	// The options of Start, without its ticker: there is nothing to look at.
	options := []gnet.Option{
		gnet.WithReuseAddr(true), gnet.WithLoadBalancing(gnet.LeastConnections),
		gnet.WithReadBufferCap(opt.ReadBuffer), gnet.WithLogger(logger{opt.Log}),
	}
	if opt.Loops > 0 {
		options = append(options, gnet.WithNumEventLoop(opt.Loops))
	} else {
		options = append(options, gnet.WithMulticore(true))
	}
	go func() {
		err := gnet.Run(&echoEvents{echo: e}, "tcp://"+opt.Addr, options...)
		if err == nil && !e.stopping.Load() {
			err = errors.New("event engine ended by itself")
		}
		e.failure = err
		close(e.done)
	}()
	select {
	case err := <-e.booted:
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", opt.Addr, err)
		}
		return e, nil
	case <-e.done:
		return nil, fmt.Errorf("listen on %s: %w", opt.Addr, e.failure)
	}
}

// Addr is the address listened on, with the port that was taken.
func (e *Echo) Addr() net.Addr { return e.addr }

// Frames is how many frames were sent back.
func (e *Echo) Frames() int64 { return e.frames.Load() }

// Done is closed when the echo has ended; Err says why.
func (e *Echo) Done() <-chan struct{} { return e.done }

// Err is why the echo ended although nobody asked for it: nil after Close. It waits for the end.
func (e *Echo) Err() error {
	<-e.done
	return e.failure
}

// Close ends it, and every connection with it. A second Close does nothing.
func (e *Echo) Close() error {
	if e.stopping.Swap(true) {
		<-e.done
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	go func() { _ = e.engine.Stop(ctx) }()
	select {
	case <-e.done:
		return e.failure
	case <-ctx.Done():
		return fmt.Errorf("stop echo: %w", ctx.Err())
	}
}

// echoEvents receives gnet's callbacks.
type echoEvents struct {
	gnet.BuiltinEventEngine
	echo *Echo
}

// OnBoot learns the address.
func (h *echoEvents) OnBoot(eng gnet.Engine) gnet.Action {
	h.echo.engine = eng
	addr, err := prepare(eng)
	h.echo.addr = addr
	h.echo.booted <- err
	if err != nil {
		return gnet.Shutdown
	}
	return gnet.None
}

// OnTraffic sends the whole frames back that are there.
func (h *echoEvents) OnTraffic(c gnet.Conn) gnet.Action {
	buf, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	used, frames := 0, 0
	for {
		_, _, n, err := pdu.Next(buf[used:], h.echo.opt.MaxFrame)
		if err != nil {
			return gnet.Close
		}
		if n == 0 {
			break
		}
		used += n
		frames++
	}
	if used == 0 { // Discard(0) would throw away everything
		return gnet.None
	}
	h.echo.frames.Add(int64(frames)) // first, so that who has a frame back finds it counted
	if _, err := c.Write(buf[:used]); err != nil {
		return gnet.Close
	}
	_, _ = c.Discard(used)
	return gnet.None
}
