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
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/budget"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	option "teamtalk/core/opt"
	"teamtalk/core/pdu"
	"teamtalk/core/proxyproto"
	"teamtalk/core/session"
	"teamtalk/core/tlsconn"
)

// Options configure a Server. Zero fields mean the defaults.
type Options struct {
	// Name is the listener's name in logs and metrics.
	Name string
	// Addr is the TCP address, as "host:port" or ":port". Port 0 takes a free one. Empty: the
	// server has no port, and Attach makes its connections.
	Addr string
	// Clients or Links handles the connections: those of clients, or those of other
	// servers. Exactly one is required.
	Clients session.ClientHandler
	Links   session.LinkHandler
	// Loops is the number of event loops. Default: the value of runtime.GOMAXPROCS, which
	// respects the quota of a container. gnet's own default is the number of the machine's
	// cores.
	Loops int
	// MaxFrame is the longest frame accepted, in bytes. Default pdu.MaxClientFrame.
	MaxFrame int
	// MaxConns bounds the open connections of this listener. A connection beyond the
	// bound is closed on arrival. Default: only Budget bounds them.
	MaxConns int
	// Budget is shared by all ports of the process that have many connections. Default: a
	// new one for this listener.
	Budget *budget.Budget
	// Strangers bounds the connections without a login of a port for clients. Ports share
	// it. Default: connections beyond MaxConns and Budget are refused.
	Strangers *Strangers
	// TLS serves the connections that begin with a TLS handshake, and bounds their
	// handshakes. Listeners may share it. Default: the port is not encrypted.
	TLS *tlsconn.Handshakes
	// Plain reports whether a connection from an address may do without TLS. Default: with
	// TLS none may.
	Plain func(from netip.Addr) bool
	// Proxies are the proxies that name the clients whose connections they forward. Default:
	// none.
	Proxies *proxyproto.Proxies
	// WebSocket makes a port for clients one for WebSocket. Default: PDUs follow each other on
	// TCP.
	WebSocket *WebSocket
	// ReadBuffer is the read buffer of each event loop, in bytes. It bounds what one read
	// takes from a connection. Default 64 KiB.
	ReadBuffer int
	// MaxBuffered bounds the output that waits for a client that does not read, in bytes.
	// Default 1 MiB.
	MaxBuffered int
	// Now returns the time. Default mono.Now.
	Now func() time.Time
	// AfterFunc calls f in d, see mono.AfterFunc. A test that sets Now sets it too. Default
	// mono.AfterFunc.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// Ended is called at the end of each turn of a loop, with the time at which it began, on
	// the loop. It must not wait. Default: nobody is told.
	Ended func(began time.Time)
	// Log logs errors. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is a listener and its connections.
type Server struct {
	opt       Options
	log       *slog.Logger
	listener  *net.TCPListener // nil: no port
	engine    *gnet.Client
	metrics   *session.Metrics
	refused   *prometheus.CounterVec
	displaced *prometheus.CounterVec
	webSocket *webSocketMetrics // nil without WebSocket
	often     obs.Often
	waiting   waiting      // with Options.Strangers' lock held
	leaving   atomic.Int64 // open connections whose place another one has
	open      atomic.Int64
	maxConns  atomic.Int64 // Options.MaxConns, or that of SetMaxConns
	proxied   *proxyproto.Port
	enrolling sync.WaitGroup // connections on their way to a loop
	refusing  atomic.Bool
	stopping  atomic.Bool
	done      chan struct{}         // closed when the engine has ended
	failure   error                 // why the engine ended without Close; valid after done
	waking    sync.RWMutex          // held while a timer wakes a loop, and to set ending
	ending    atomic.Bool           // run ends the loops
	lost      atomic.Pointer[error] // the loop that ended by itself; nil: none

	portless     chan struct{} // closed when run ends, without a listener
	portlessOnce sync.Once
	attaching    sync.RWMutex // held while Attach enrolls a connection, and to set unattachable
	unattachable bool         // run ends

	mu    sync.Mutex
	loops map[gnet.EventLoop]*loop
}

// loop joins an event loop to its session.Loop.
type loop struct {
	*session.Loop
	server  *Server
	el      gnet.EventLoop
	ticking atomic.Bool      // a tick is posted and has not run
	unarm   func() bool      // stops the timer of the next tick; nil: none runs; loop only
	buffers *tlsconn.Buffers // nil without TLS; loop only
	framed  []byte           // see conn.framed; loop only
	slices  [][]byte
	quietClients
}

var (
	errClosed   = errors.New("engine: connection closed")
	errLoop     = errors.New("engine: an event loop ended by itself")
	errHandlers = errors.New("engine: Options need a handler of clients or one of links")
)

// setDefaults replaces the zero fields that have a default.
func (opt *Options) setDefaults() error {
	option.Default(&opt.MaxFrame, pdu.MaxClientFrame)
	option.Default(&opt.ReadBuffer, 64<<10)
	option.Default(&opt.Loops, runtime.GOMAXPROCS(0))
	if opt.AfterFunc == nil {
		opt.AfterFunc = mono.AfterFunc
	}
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
		proxied: opt.Proxies.Port(opt.Name), portless: make(chan struct{}),
	}
	s.SetMaxConns(opt.MaxConns)
	s.refused, s.displaced = arrivals(opt.Registerer, opt.Name)
	if opt.WebSocket != nil {
		s.webSocket = newWebSocketMetrics(opt.Registerer, opt.Name)
	}
	if opt.Addr != "" {
		l, err := listen(opt.Addr)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", opt.Addr, err)
		}
		s.listener = l
	}
	if opt.Strangers != nil {
		opt.Strangers.join(s)
	}
	if err := s.startLoops(); err != nil {
		s.endAccept()
		return nil, fmt.Errorf("listen on %s: %w", opt.Addr, err)
	}
	go s.run()
	return s, nil
}

// arrivals returns the metrics of connections that find no room.
func arrivals(reg prometheus.Registerer, name string) (refused, displaced *prometheus.CounterVec) {
	vec := func(metric, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_engine_" + metric,
			Help: help, ConstLabels: prometheus.Labels{"listener": name}}, []string{"reason"})
	}
	refused = vec("refused_total", "Connections closed on arrival, by reason.")
	displaced = vec("displaced_total",
		"Connections without a login closed to make room, by the bound that was reached.")
	if reg != nil {
		reg.MustRegister(refused, displaced)
	}
	return refused, displaced
}

// startLoops starts gnet's event loops. They belong to a gnet.Client, which has loops and
// no listener: gnet's own listener ends the engine when accept fails.
func (s *Server) startLoops() error {
	options := []gnet.Option{
		gnet.WithReadBufferCap(s.opt.ReadBuffer),
		gnet.WithLogger(logger{s.log, s.loopEnded}), gnet.WithNumEventLoop(s.opt.Loops),
	}
	engine, err := gnet.NewClient(&events{server: s}, options...)
	if err != nil {
		return err
	}
	s.engine = engine
	return engine.Start()
}

// loopEnded ends the engine when a loop ends by itself: gnet would give that loop new
// connections, which nobody would serve. Any goroutine.
func (s *Server) loopEnded(message string) {
	if s.ending.Load() {
		return
	}
	err := fmt.Errorf("%w: %s", errLoop, message)
	if s.lost.CompareAndSwap(nil, &err) {
		s.endAccept() // run reports err
	}
}

// Addr returns the listener's address, with the port that the system chose for port 0; nil
// without a listener.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

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

// Alive returns nil once each event loop has run a function, and an error when ctx ends first: a
// loop hangs, or has ended.
func (s *Server) Alive(ctx context.Context) error {
	loops := s.all()
	ran := make(chan struct{}, len(loops))
	for _, l := range loops {
		l.Post(func() { ran <- struct{}{} })
	}
	for range loops {
		select {
		case <-ran:
		case <-ctx.Done():
			return fmt.Errorf("listener %s: an event loop does not answer", s.opt.Name)
		}
	}
	return nil
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

// stop closes the listener, which ends run.
func (s *Server) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s.endAccept()
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
	l := &loop{el: el, server: s, quietClients: quietClients{most: gatherTurn}}
	turn := gnet.RunnableFunc(func(context.Context) error {
		l.Turn()
		return nil
	})
	l.Loop = session.NewLoop(session.LoopOptions{
		Clients: s.opt.Clients, Links: s.opt.Links, MaxBuffered: s.opt.MaxBuffered,
		MaxSend: s.maxSend(), Now: s.opt.Now, Log: s.log, Metrics: s.metrics,
		Schedule: l.schedule, Ended: s.opt.Ended,
		Wake: func(_ *session.Loop, again bool) {
			if again {
				// gnet runs a task that was posted by another task before it looks at the
				// sockets again. The pause lets the sockets go first.
				time.AfterFunc(againPause, func() { _ = l.wake(turn) })
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
	gnet.BuiltinEventEngine
	server *Server
}

// OnOpen makes the session, or refuses the connection.
func (e *events) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	s := e.server
	cn, came := arrival(c)
	h := came.header
	cn.c, cn.opened = c, true
	l := s.loopOf(c.EventLoop())
	// Close sets refusing first and then closes the sessions of the loops.
	if s.refusing.Load() {
		return nil, s.refuse(cn, becauseStop, nil)
	}
	cn.loop = l
	if cn.stranger != nil && !s.opt.Strangers.opened(cn.stranger) {
		cn.closed = true
		return nil, gnet.Close
	}
	from := remote(c)
	if h.Source.IsValid() {
		from = h.Source
		if h.Secure {
			cn.traits |= proxiedTLS
		}
	}
	if s.opt.TLS != nil && (s.opt.Links != nil ||
		cn.traits&proxiedTLS == 0 && !s.plain(from.Addr())) {
		cn.tls = newSecure(cn) // a role may send first, and must not send plain text
		cn.prove()
	}
	if s.opt.WebSocket != nil {
		cn.ws = &upgraded{}
	}
	if came.taken != nil && !cn.adopt(came.taken) {
		cn.closed = true
		return nil, gnet.Close
	}
	l.Begin()
	defer l.End()
	cn.s = l.Add(from, cn)
	if err := l.Open(cn.s); err != nil {
		l.Remove(cn.s, err)
		return nil, s.refuse(cn, becauseError, err)
	}
	if came.taken != nil {
		cn.begin(came.taken.Begin)
	}
	return nil, gnet.None
}

func (s *Server) refuse(cn *conn, why string, err error) gnet.Action {
	cn.s, cn.closed = nil, true
	s.noteRefused(why, err)
	return gnet.Close
}

// OnClose ends the session.
func (e *events) OnClose(c gnet.Conn, err error) gnet.Action {
	cn := c.Context().(*conn)
	e.server.leave(cn)
	if cn.refused() {
		return gnet.None
	}
	cn.closed = true
	if cn.tls != nil {
		cn.tls.End()
	}
	// When a write of the same turn closes the connection, Begin and End nest here.
	// closing says whether a turn is running already.
	l := cn.loop
	l.Ended(cn.s, cleanEOF(err))
	return gnet.None
}
