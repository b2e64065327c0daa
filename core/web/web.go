// Package web serves HTTP to unknown clients. It runs net/http with bounds on the number
// of connections and on the time that each may take.
//
// A connection is waiting while none of its requests is being answered: it is silent,
// between two requests, or sends the header of a request slowly. When a port has all the
// connections it may have, a waiting connection is closed to make room for the next: one of
// the address with the most connections, which has been waiting longest. So a crowd of idle
// connections neither takes the process's file descriptors, which its other ports need, nor
// keeps the server from answering other clients.
package web

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/budget"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/opt"
	"teamtalk/core/origin"
	"teamtalk/core/proxyproto"
)

// Options configure a Server. MaxConns is required, other zero fields mean the defaults.
type Options struct {
	// Name is the listener's name in logs and metrics.
	Name string
	// Handler answers requests. Required.
	Handler http.Handler
	// MaxConns bounds the open connections. Required.
	MaxConns int
	// PerAddress bounds the open connections of one address, or of one IPv6 network of 64
	// bits. Default: no bound.
	PerAddress int
	// Trusted are the networks to which PerAddress does not apply.
	Trusted origin.Networks
	// Forwarders are the networks of HTTP proxies, whose requests name their clients in a
	// header. Handlers see that address, and PerAddress does not apply to the connections of
	// a proxy. Default: no such header is read.
	Forwarders origin.Networks
	// ClientHeader is that header, one of the constants. Default: HeaderXForwardedFor.
	ClientHeader string
	// Budget is shared by all ports of the process that have many connections. Default:
	// only MaxConns bounds them.
	Budget *budget.Budget
	// TLS serves the connections that begin with a TLS handshake. Default: the port has no
	// TLS.
	TLS *tls.Config
	// Plain reports whether a client at an address may do without TLS. Others get status
	// 426. Default: with TLS none may.
	Plain func(from netip.Addr) bool
	// Proxies are the proxies that name the clients whose connections they forward. Default:
	// none.
	Proxies *proxyproto.Proxies
	// HeaderTimeout bounds the arrival of a request's header, including the silence
	// before a connection's first header. Default 10 s.
	HeaderTimeout time.Duration
	// ReadTimeout bounds the arrival of a whole request, and WriteTimeout the time from
	// then to the end of the answer. Handlers can extend both. Defaults 20 s and 30 s.
	ReadTimeout, WriteTimeout time.Duration
	// IdleTimeout bounds the silence between two requests. Default 1 minute.
	IdleTimeout time.Duration
	// Log logs errors. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

func (o *Options) defaults() {
	opt.Default(&o.HeaderTimeout, 10*time.Second)
	opt.Default(&o.ReadTimeout, 20*time.Second)
	opt.Default(&o.WriteTimeout, 30*time.Second)
	opt.Default(&o.IdleTimeout, time.Minute)
	opt.Require("web.MaxConns", o.MaxConns)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// maxHeader is the longest header of a request, in bytes.
const maxHeader = 16 << 10

// Server is a port with its connections. Any goroutine.
type Server struct {
	opt       Options
	listener  *net.TCPListener
	http      *http.Server
	done      chan struct{} // closed when http is no longer served
	failure   error         // why serving ended without Close; valid after done
	refused   prometheus.Counter
	displaced prometheus.Counter
	plaintext prometheus.Counter

	full, shed, unsafe obs.Often // lines of the log about refused, displaced, plaintext

	mu      sync.Mutex
	open    int
	waiting [origin.Classes]list.List // of *conn, the one that has been waiting longest first
	idle    int                       // connections in waiting
	addrs   map[netip.Addr]*address   // that have connections
}

// address is an address or IPv6 network that is not trusted.
type address struct {
	key     netip.Addr
	open    int
	waiting list.List // of *conn, the one that has been waiting longest first
}

// Listen opens a TCP port, given as "host:port" or ":port". Port 0 takes a free one.
func Listen(addr string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// SetMaxConns replaces Options.MaxConns, and SetPerAddress Options.PerAddress. Connections that are
// open stay open.
func (s *Server) SetMaxConns(n int) {
	opt.Require("web.MaxConns", n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.MaxConns = n
}

// SetPerAddress replaces Options.PerAddress, see SetMaxConns.
func (s *Server) SetPerAddress(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.PerAddress = n
}

// Serve answers on l until Close, which closes l as well.
func Serve(l *net.TCPListener, opt Options) *Server {
	opt.defaults()
	labels := prometheus.Labels{"listener": opt.Name}
	s := &Server{opt: opt, listener: l, done: make(chan struct{}),
		addrs: map[netip.Addr]*address{},
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_web_refused_total",
			Help: "HTTP connections closed on arrival because all others, of the port or " +
				"of the address, were being answered.",
			ConstLabels: labels}),
		displaced: prometheus.NewCounter(
			prometheus.CounterOpts{Name: "teamtalk_web_displaced_total",
				Help:        "Waiting HTTP connections closed to make room for others.",
				ConstLabels: labels}),
		plaintext: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_web_plaintext_total",
			Help: "HTTP requests answered with status 426, because clients outside of " +
				"tls.plain_networks need TLS.", ConstLabels: labels}),
	}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(s.refused, s.displaced, s.plaintext,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_web_open",
				Help: "HTTP connections open.", ConstLabels: labels},
				func() float64 { return float64(s.Open()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_web_waiting",
				Help: "HTTP connections open and not being answered.", ConstLabels: labels},
				func() float64 { return float64(s.silent()) }))
	}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.answer), ErrorLog: slog.NewLogLogger(opt.Log.Handler(),
			slog.LevelDebug), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: opt.HeaderTimeout, ReadTimeout: opt.ReadTimeout,
		WriteTimeout: opt.WriteTimeout, IdleTimeout: opt.IdleTimeout,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(c net.Conn, st http.ConnState) {
			if st == http.StateIdle {
				s.rest(counted(c))
			}
		},
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(s.accepting(l)); !errors.Is(err, http.ErrServerClosed) {
			s.failure = fmt.Errorf("%s HTTP: %w", opt.Name, err)
		}
	}()
	return s
}

// Addr returns the address of the port, with the number that the system chose for port 0.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Open returns the number of open connections.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// silent returns the number of connections that wait.
func (s *Server) silent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle
}

// Err waits until the port is closed. It returns the reason when it closed without Close,
// otherwise nil.
func (s *Server) Err() error {
	<-s.done
	return s.failure
}

// Close closes the port and waits until the requests that arrived are answered. When ctx
// ends first, it closes the other connections.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

type connKey struct{}

// answer passes a request to the handler. While the handler answers, the connection is
// not waiting.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		s.mu.Lock()
		s.leave(counted(c))
		s.mu.Unlock()
	}
	if !s.mayAnswer(r) {
		s.plaintext.Inc()
		s.warn(&s.unsafe, "a client without TLS is not in tls.plain_networks", "from", r.RemoteAddr)
		w.Header().Set("Upgrade", "TLS/1.2, HTTP/1.1") // RFC 2817
		http.Error(w, needsTLS, http.StatusUpgradeRequired)
		return
	}
	s.opt.Handler.ServeHTTP(w, s.forwarded(r))
}

// warn logs a line about a crowd, at most once a second.
func (s *Server) warn(often *obs.Often, text string, args ...any) {
	often.Warn(s.opt.Log, mono.Now(), text, append(args, "listener", s.opt.Name)...)
}

// rest makes a connection wait after its request was answered.
func (s *Server) rest(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closed || c.at != nil {
		return
	}
	c.at = s.waiting[c.class].PushBack(c)
	s.idle++
	if c.addr != nil {
		c.own = c.addr.waiting.PushBack(c)
	}
}

// leave ends a connection's wait. The caller holds mu.
func (s *Server) leave(c *conn) {
	if c.at == nil {
		return
	}
	s.waiting[c.class].Remove(c.at)
	s.idle--
	if c.addr != nil {
		c.addr.waiting.Remove(c.own)
	}
	c.at, c.own = nil, nil
}

// admit counts a new connection. When there is no room it closes a connection that waits. It
// returns false when none does.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	room, longest := s.take(c)
	s.mu.Unlock()
	if room || longest == nil {
		return room
	}
	s.displaced.Inc()
	s.warn(&s.shed, "waiting connections closed to make room")
	_ = longest.Close() // the client gets no answer, so the error is of no use
	s.mu.Lock()
	defer s.mu.Unlock()
	room, _ = s.take(c)
	return room
}

// take counts c when there is room. Otherwise it returns the connection that makes room when
// it is closed, nil for none. The caller holds mu.
func (s *Server) take(c *conn) (room bool, longest *conn) {
	from, _ := c.RemoteAddr().(*net.TCPAddr)
	ip := from.AddrPort().Addr()
	key := origin.Key(ip)
	a := s.addrs[key]
	if a == nil && !s.opt.Trusted.Contains(ip) && !s.opt.Forwarders.Contains(ip) {
		a = &address{key: key}
	}
	switch {
	case a != nil && s.opt.PerAddress > 0 && a.open >= s.opt.PerAddress:
		return false, first(&a.waiting)
	case s.open >= s.opt.MaxConns, s.opt.Budget != nil && !s.opt.Budget.Take():
		return false, s.first()
	}
	s.open++
	if c.addr = a; a != nil {
		a.open++
		s.addrs[key] = a
		c.class = origin.Class(a.open)
	}
	return true, nil
}

// first returns the connection that makes room when the port is full: of those of the
// addresses with the most connections, the one that has been waiting longest. The caller
// holds mu.
func (s *Server) first() *conn {
	for class := origin.Classes - 1; class >= 0; class-- {
		if c := first(&s.waiting[class]); c != nil {
			return c
		}
	}
	return nil
}

func first(l *list.List) *conn {
	if e := l.Front(); e != nil {
		return e.Value.(*conn)
	}
	return nil
}

// bounded is the listener with the bounds of its Server.
type bounded struct {
	*net.TCPListener
	s *Server
}

// Accept returns the next connection for which there is room, and closes those before it.
func (b bounded) Accept() (net.Conn, error) {
	for {
		tcp, err := b.next()
		if err != nil {
			return nil, err
		}
		if c := b.s.arrive(tcp, proxyproto.Header{}); c != nil {
			return c, nil
		}
	}
}

// arrive counts a connection. It closes it and returns nil when there is no room. h is the
// header of a proxy, if one forwards the connection.
func (s *Server) arrive(tcp *net.TCPConn, h proxyproto.Header) net.Conn {
	c := &conn{TCPConn: tcp, s: s}
	if h.Source.IsValid() {
		c.from, c.overTLS = net.TCPAddrFromAddrPort(h.Source), h.Secure
	}
	if !s.admit(c) {
		s.refused.Inc()
		s.warn(&s.full, "connections refused: all others are being answered")
		_ = tcp.Close() // the client gets no answer, so the error is of no use
		return nil
	}
	s.rest(c)
	if s.opt.TLS != nil {
		return &detecting{conn: c}
	}
	return c
}

// next returns the next connection for which the process has a descriptor.
func (b bounded) next() (*net.TCPConn, error) {
	if b.s.opt.Budget == nil {
		return b.AcceptTCP()
	}
	return b.s.opt.Budget.Accept(b.TCPListener)
}

// conn counts as open until it is closed. It embeds the TCP connection so that net/http
// can send files from disk to socket without copying (sendfile).
type conn struct {
	*net.TCPConn
	s       *Server
	from    *net.TCPAddr // of the client, by the header of a proxy; nil: the peer
	overTLS bool         // to the proxy, which ends it

	// With s.mu held.
	addr    *address      // nil: trusted
	class   int           // origin.Class when it was accepted
	at, own *list.Element // in waiting and addr.waiting; nil while a request is answered
	closed  bool
}

// counted returns the connection that counts, which carries c.
func counted(c net.Conn) *conn {
	if d, ok := c.(*detecting); ok {
		return d.conn
	}
	return c.(*conn)
}

// RemoteAddr returns the address of the client.
func (c *conn) RemoteAddr() net.Addr {
	if c.from != nil {
		return c.from
	}
	return c.TCPConn.RemoteAddr()
}

// Close closes the connection.
func (c *conn) Close() error {
	defer c.end()
	return c.TCPConn.Close()
}

// end ends the count of the connection.
func (c *conn) end() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.s.leave(c)
	c.s.open--
	if a := c.addr; a != nil {
		if a.open--; a.open == 0 {
			delete(c.s.addrs, a.key)
		}
	}
	if c.s.opt.Budget != nil {
		c.s.opt.Budget.Put()
	}
}
