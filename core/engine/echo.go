package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	option "teamtalk/core/opt"
	"teamtalk/core/pdu"
)

// EchoOptions configure an Echo. Zero fields mean the defaults.
type EchoOptions struct {
	// Addr is the TCP address, as "host:port" or ":port". Port 0 takes a free one.
	// Required.
	Addr string
	// Loops is the number of event loops. Default: the number of cores, as for a Server.
	Loops int
	// ReadBuffer is the read buffer of each event loop, in bytes. Default 64 KiB, as for
	// a Server.
	ReadBuffer int
	// MaxFrame is the longest frame that is echoed, in bytes. A longer one closes its
	// connection. Default pdu.MaxClientFrame.
	MaxFrame int
	// Log logs errors. Default: discarded.
	Log *slog.Logger
}

// Echo measures the ceiling of a Server: gnet alone, which sends every frame back
// unchanged. It has no sessions, no handlers, no mailbox, no deadlines and no bound on
// the output of a client that does not read. It finds whole frames by their length, and
// sends them in one write per connection per turn. A message server on the same machine
// with the same clients carries a part of the frames that an Echo carries, and never
// more. An Echo must not listen on the open network.
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

// StartEcho listens and echoes until Close. The port is open when it returns.
func StartEcho(opt EchoOptions) (*Echo, error) {
	option.Default(&opt.ReadBuffer, 64<<10)
	option.Default(&opt.MaxFrame, pdu.MaxClientFrame)
	option.Default(&opt.Loops, runtime.GOMAXPROCS(0))
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	e := &Echo{opt: opt, booted: make(chan error, 1), done: make(chan struct{})}
	// The options of Start, without its ticker, since there are no deadlines.
	options := []gnet.Option{
		gnet.WithReuseAddr(true), gnet.WithLoadBalancing(gnet.LeastConnections),
		gnet.WithReadBufferCap(opt.ReadBuffer), gnet.WithLogger(logger{log: opt.Log}),
		gnet.WithNumEventLoop(opt.Loops),
	}
	go func() {
		err := gnet.Run(&echoEvents{echo: e}, "tcp://"+opt.Addr, options...)
		if err == nil && !e.stopping.Load() {
			err = errors.New("the event engine ended without Close")
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

// Addr returns the listener's address, with the port that the system chose for port 0.
func (e *Echo) Addr() net.Addr { return e.addr }

// Frames returns the number of frames sent back.
func (e *Echo) Frames() int64 { return e.frames.Load() }

// Done is closed when the echo has ended. Err returns the reason.
func (e *Echo) Done() <-chan struct{} { return e.done }

// Err waits until the echo has ended. It returns the reason when it ended without Close,
// otherwise nil.
func (e *Echo) Err() error {
	<-e.done
	return e.failure
}

// Close closes the listener and every connection. A second Close does nothing.
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

// OnBoot stores the address.
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

// OnTraffic sends back the whole frames that have arrived.
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
	if used == 0 { // Discard(0) would discard everything
		return gnet.None
	}
	// before the write, so that a client that has a frame back finds it counted
	h.echo.frames.Add(int64(frames))
	if _, err := c.Write(buf[:used]); err != nil {
		return gnet.Close
	}
	_, _ = c.Discard(used)
	return gnet.None
}
