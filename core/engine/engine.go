// Package engine carries sessions over TCP connections on gnet's event loops. Only this
// package imports gnet.
//
// It adds to gnet: frames, whose length is checked before they are buffered; a
// session.Loop on each event loop, with a mailbox and one write per connection per turn;
// a bound on connections below the limit of file descriptors; panics that close one
// connection only; and an error when gnet's engine ends without Close. DESIGN.md says why
// each is needed.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/budget"
	option "teamtalk/core/opt"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
)

// Options configure a Server. Zero fields mean the defaults.
type Options struct {
	// Name is the listener's name in logs and metrics.
	Name string
	// Addr is the TCP address, as "host:port" or ":port". Port 0 takes a free one.
	// Required.
	Addr string
	// Clients or Links handles the connections: those of clients, or those of other
	// servers. Exactly one is required.
	Clients session.ClientHandler
	Links   session.LinkHandler
	// Loops is the number of event loops. Default: the number of cores.
	Loops int
	// MaxFrame is the longest frame accepted, in bytes. Default pdu.MaxClientFrame.
	MaxFrame int
	// MaxConns bounds the open connections of this listener. A connection beyond the
	// bound is closed on arrival. Default: only Budget bounds them.
	MaxConns int
	// Budget is shared by all ports of the process that have many connections. Default: a
	// new one for this listener.
	Budget *budget.Budget
	// ReadBuffer is the read buffer of each event loop, in bytes. It bounds what one read
	// takes from a connection. Default 64 KiB.
	ReadBuffer int
	// MaxBuffered bounds the output that waits for a client that does not read, in bytes.
	// Default 1 MiB.
	MaxBuffered int
	// Now returns the time. Default mono.Now.
	Now func() time.Time
	// Log logs errors. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is a listener and its connections.
type Server struct {
	opt      Options
	log      *slog.Logger
	addr     net.Addr
	engine   gnet.Engine
	metrics  *session.Metrics
	refused  prometheus.Counter
	open     atomic.Int64
	refusing atomic.Bool
	stopping atomic.Bool
	done     chan struct{} // closed when the engine has ended
	failure  error         // why the engine ended without Close; valid after done

	mu    sync.Mutex
	loops map[gnet.EventLoop]*loop
}

// loop joins an event loop to its session.Loop.
type loop struct {
	*session.Loop
	el      gnet.EventLoop
	ticking atomic.Bool // a tick is posted and has not run
}

// conn is a session's carrier.
type conn struct {
	c       gnet.Conn
	s       *session.Conn
	loop    *loop
	need    int // bytes that must have arrived before the next frame is complete
	closed  bool
	refused bool
}

var (
	errClosed   = errors.New("engine: connection closed")
	errHandlers = errors.New("engine: Options need a handler of clients or one of links")
)

// setDefaults replaces the zero fields that have a default.
func (opt *Options) setDefaults() error {
	option.Default(&opt.MaxFrame, pdu.MaxClientFrame)
	option.Default(&opt.ReadBuffer, 64<<10)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Budget == nil {
		b, err := budget.New()
		if err != nil {
			return err
		}
		opt.Budget = b
	}
	return nil
}

// Start listens and serves until Close. The port is open when it returns.
func Start(opt Options) (*Server, error) {
	if (opt.Clients == nil) == (opt.Links == nil) {
		return nil, errHandlers
	}
	if err := opt.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{
		opt: opt, log: opt.Log.With("listener", opt.Name), done: make(chan struct{}),
		loops:   map[gnet.EventLoop]*loop{},
		metrics: session.NewMetrics(opt.Registerer, opt.Name),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_engine_refused_total",
			Help:        "Connections closed on arrival because of a limit or a shutdown.",
			ConstLabels: prometheus.Labels{"listener": opt.Name}}),
	}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(s.refused)
	}
	options := []gnet.Option{
		gnet.WithReuseAddr(true), gnet.WithLoadBalancing(gnet.LeastConnections),
		gnet.WithReadBufferCap(opt.ReadBuffer),
		gnet.WithTicker(true), gnet.WithLogger(logger{s.log}),
	}
	if opt.Loops > 0 {
		options = append(options, gnet.WithNumEventLoop(opt.Loops))
	} else {
		options = append(options, gnet.WithMulticore(true))
	}
	booted := make(chan error, 1)
	h := &events{server: s, booted: booted}
	go func() {
		err := gnet.Run(h, "tcp://"+opt.Addr, options...)
		if err == nil && !s.stopping.Load() {
			// gnet's engine ends without an error when accept fails, for example without
			// free file descriptors.
			err = errors.New("the event engine ended without Close")
		}
		s.failure = err
		close(s.done)
	}()
	select {
	case err := <-booted:
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", opt.Addr, err)
		}
		return s, nil
	case <-s.done:
		return nil, fmt.Errorf("listen on %s: %w", opt.Addr, s.failure)
	}
}

// Addr returns the listener's address, with the port that the system chose for port 0.
func (s *Server) Addr() net.Addr { return s.addr }

// Open returns the number of open connections.
func (s *Server) Open() int { return int(s.open.Load()) }

// Done is closed when the engine has ended. Err returns the reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err waits until the engine has ended. It returns the reason when it ended without
// Close, otherwise nil.
func (s *Server) Err() error {
	<-s.done
	return s.failure
}

// Loops posts f to each loop that has had a connection. It does not wait until f runs.
func (s *Server) Loops(f func(*session.Loop)) {
	for _, l := range s.all() {
		l.Post(func() { f(l.Loop) })
	}
}

// Refuse closes every connection that arrives from now on, and keeps the open ones.
func (s *Server) Refuse() { s.refusing.Store(true) }

// Close refuses new connections, closes each open one after its output has been sent, and
// ends the engine. When ctx ends first, it closes the other connections at once.
func (s *Server) Close(ctx context.Context) error {
	s.Refuse()
	s.Loops(func(l *session.Loop) {
		l.Each(func(c *session.Conn) { c.Close(session.ErrShutdown) })
	})
	// The loops need several turns to close all sessions, and no event reports the last
	// one, so poll.
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for s.open.Load() > 0 {
		select {
		case <-ctx.Done():
		case <-s.done:
		case <-poll.C:
			continue
		}
		break
	}
	if s.stopping.Swap(true) {
		<-s.done
		return nil
	}
	return s.stop(context.WithoutCancel(ctx))
}

// stop ends the engine. gnet's Stop checks for the end twice a second; s.done is closed
// at once.
func (s *Server) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	go func() { _ = s.engine.Stop(ctx) }()
	select {
	case <-s.done:
		return s.failure
	case <-ctx.Done():
		return fmt.Errorf("stop engine %s: %w", s.opt.Name, ctx.Err())
	}
}

// maxSend returns the longest frame that is sent, 0 for no bound. Servers agree on the
// longest frame that they accept.
func (s *Server) maxSend() int {
	if s.opt.Links == nil {
		return 0
	}
	return s.opt.MaxFrame
}

func (s *Server) all() []*loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*loop, 0, len(s.loops))
	for _, l := range s.loops {
		all = append(all, l)
	}
	return all
}

// againPause is the pause between two turns of a loop that has more work than fits into
// one turn. A loop looks at its sockets again within a few microseconds.
const againPause = 50 * time.Microsecond

// loopOf returns the loop of c, and makes it for the first connection. On that event loop
// only.
func (s *Server) loopOf(el gnet.EventLoop) *loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.loops[el]; l != nil {
		return l
	}
	l := &loop{el: el}
	turn := gnet.RunnableFunc(func(context.Context) error {
		l.Turn()
		return nil
	})
	l.Loop = session.NewLoop(session.LoopOptions{
		Clients: s.opt.Clients, Links: s.opt.Links, MaxBuffered: s.opt.MaxBuffered,
		MaxSend: s.maxSend(), Now: s.opt.Now, Log: s.log, Metrics: s.metrics,
		Wake: func(_ *session.Loop, again bool) {
			if again {
				// gnet runs a task that was posted by another task before it looks at the
				// sockets again. The pause lets the sockets go first.
				time.AfterFunc(againPause, func() { _ = el.Execute(context.Background(), turn) })
				return
			}
			_ = el.Execute(context.Background(), turn)
		},
	})
	s.loops[el] = l
	return l
}

// events receives gnet's callbacks.
type events struct {
	server *Server
	booted chan<- error
}

// OnBoot stores the address.
func (e *events) OnBoot(eng gnet.Engine) gnet.Action {
	e.server.engine = eng
	addr, err := prepare(eng)
	e.server.addr = addr
	e.booted <- err
	if err != nil {
		return gnet.Shutdown
	}
	return gnet.None
}

// OnShutdown does nothing, because Close has drained the connections by then.
func (e *events) OnShutdown(gnet.Engine) {}

// OnOpen makes the session, or refuses the connection.
func (e *events) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	s := e.server
	n := s.open.Add(1)
	cn := &conn{c: c}
	c.SetContext(cn)
	if !s.opt.Budget.Take() {
		return nil, s.refuse(cn, "file descriptors", false)
	}
	l := s.loopOf(c.EventLoop())
	// The check follows the count: Close sets refusing first and then counts.
	if s.refusing.Load() || (s.opt.MaxConns > 0 && n > int64(s.opt.MaxConns)) {
		return nil, s.refuse(cn, "limit or shutdown", true)
	}
	cn.loop = l
	l.Begin()
	defer l.End()
	cn.s = l.Add(remote(c), cn)
	if err := l.Open(cn.s); err != nil {
		l.Remove(cn.s, err)
		return nil, s.refuse(cn, err.Error(), true)
	}
	return nil, gnet.None
}

func (s *Server) refuse(cn *conn, why string, budgeted bool) gnet.Action {
	if budgeted {
		s.opt.Budget.Put()
	}
	cn.refused, cn.closed = true, true
	s.refused.Inc()
	s.log.Debug("connection refused", "err", why)
	return gnet.Close
}

func remote(c gnet.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// OnClose ends the session.
func (e *events) OnClose(c gnet.Conn, err error) gnet.Action {
	s := e.server
	s.open.Add(-1)
	cn, ok := c.Context().(*conn)
	if !ok || cn.refused {
		return gnet.None
	}
	cn.closed = true
	s.opt.Budget.Put()
	// When a write of the same turn closes the connection, Begin and End nest here.
	// closing says whether a turn is running already.
	l := cn.loop
	l.Ended(cn.s, cleanEOF(err))
	return gnet.None
}

// OnTraffic passes whole frames to the session.
func (e *events) OnTraffic(c gnet.Conn) gnet.Action {
	cn := c.Context().(*conn)
	if cn.refused {
		return gnet.Close
	}
	if c.InboundBuffered() < cn.need {
		return gnet.None
	}
	cn.loop.Begin()
	cn.read(e.server)
	cn.loop.End()
	return gnet.None
}

// OnTick posts a tick to each loop, which checks its deadlines. gnet calls it on a
// goroutine of its own.
func (e *events) OnTick() (time.Duration, gnet.Action) {
	for _, l := range e.server.all() {
		if l.ticking.Swap(true) {
			continue // the previous tick has not run yet
		}
		err := l.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
			l.ticking.Store(false)
			l.Tick()
			return nil
		}))
		if err != nil {
			l.ticking.Store(false)
		}
	}
	return session.TickInterval, gnet.None
}

// lengthBytes is the size of a frame's length field. The length is checked as soon as
// these bytes have arrived.
const lengthBytes = 4

// read passes all whole frames to the handler. Bodies alias gnet's buffer, which is valid
// until Discard.
func (cn *conn) read(s *Server) {
	// For gnet, Peek(-1) and Peek(0) both mean everything.
	buf, err := cn.c.Peek(-1)
	if err != nil {
		cn.s.Close(err)
		return
	}
	used := 0
	for {
		h, body, n, err := pdu.Next(buf[used:], s.opt.MaxFrame)
		if err != nil {
			cn.s.Close(s.tooLong(h, err))
		}
		if err != nil || cn.s.IsClosed() && !cn.s.Lingers() {
			used = len(buf) // the bytes after a closing frame are discarded
			cn.need = 0
			break
		}
		if n == 0 {
			cn.need = max(int(h.Length), lengthBytes)
			break
		}
		cn.loop.Deliver(cn.s, h, body)
		used += n
	}
	if used > 0 { // Discard(0) would discard everything
		_, _ = cn.c.Discard(used)
	}
}

// longestSetting is the highest value of the setting link.max_frame.
const longestSetting = 1 << 30

// tooLong adds to the error of a frame between servers the setting to change.
func (s *Server) tooLong(h pdu.Header, err error) error {
	if s.opt.Links == nil || int64(h.Length) <= int64(s.opt.MaxFrame) || h.Length > longestSetting {
		return err
	}
	return fmt.Errorf("%w; raise link.max_frame on all servers", err)
}

// Write sends p. gnet closes the connection when the write fails.
func (cn *conn) Write(p []byte) error {
	if cn.closed {
		return errClosed // the descriptor may belong to another connection by now
	}
	_, err := cn.c.Write(p)
	return err
}

// Writev sends ps in one system call. gnet copies the part that the kernel does not take.
func (cn *conn) Writev(ps [][]byte) error {
	if cn.closed {
		return errClosed
	}
	_, err := cn.c.Writev(ps)
	return err
}

// Buffered returns the number of bytes in gnet's outbound buffer.
func (cn *conn) Buffered() int {
	if cn.closed {
		return 0
	}
	return cn.c.OutboundBuffered()
}

// Close closes the connection now, which calls OnClose.
func (cn *conn) Close() {
	if !cn.closed {
		_ = cn.loop.el.Close(cn.c)
	}
}
