// Package web serves HTTP to people nobody knows: net/http with bounds on how many connections there are, and on how long each may take.
//
// A connection that is not being answered – silent, between two requests, or sending the header of one as slowly as it may – is there on sufferance: when a
// port has all the connections it may have, the one that has waited longest makes room for the next. So a crowd of idle connections neither takes the
// process's file descriptors, which its other ports need, nor keeps anybody from being answered.
package web

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/budget"
)

// Options sets up a Server. Zero values mean the defaults.
type Options struct {
	// Name is the listener's, in logs and metrics.
	Name string
	// Handler answers. Required.
	Handler http.Handler
	// MaxConns is how many connections may be open at once. Default 10,000.
	MaxConns int
	// Budget is shared by everything in the process that opens many connections. Default: MaxConns alone counts.
	Budget *budget.Budget
	// HeaderTimeout is how long a request's header may take, the silence before a connection's first one included. Default 10 s.
	HeaderTimeout time.Duration
	// ReadTimeout is how long a whole request may take to arrive, WriteTimeout how long its answer may take from then on; handlers can extend both. Defaults
	// 20 s and 30 s.
	ReadTimeout, WriteTimeout time.Duration
	// IdleTimeout is how long a connection may be silent between two requests. Default 1 minute.
	IdleTimeout time.Duration
	// Log gets what goes wrong. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

func (o *Options) defaults() {
	span := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	span(&o.HeaderTimeout, 10*time.Second)
	span(&o.ReadTimeout, 20*time.Second)
	span(&o.WriteTimeout, 30*time.Second)
	span(&o.IdleTimeout, time.Minute)
	if o.MaxConns <= 0 {
		o.MaxConns = 10_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// maxHeader is the longest header of a request, in bytes.
const maxHeader = 16 << 10

// Server is a port with its connections.
type Server struct {
	opt       Options
	listener  *net.TCPListener
	http      *http.Server
	done      chan struct{} // closed when http is no longer served
	failure   error         // why, when nobody asked for it; valid after done
	refused   prometheus.Counter
	displaced prometheus.Counter

	mu      sync.Mutex
	open    int
	waiting list.List // of *conn: those not being answered, the one that has waited longest first
}

// Listen opens a TCP port, as "host:port" or ":port". Port 0 takes a free one.
func Listen(addr string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Serve answers on l until Close, which closes l too.
func Serve(l *net.TCPListener, opt Options) *Server {
	opt.defaults()
	labels := prometheus.Labels{"listener": opt.Name}
	s := &Server{opt: opt, listener: l, done: make(chan struct{}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_web_refused_total",
			Help: "HTTP connections closed on arrival: too many, all of them being " +
				"answered.",
			ConstLabels: labels}),
		displaced: prometheus.NewCounter(
			prometheus.CounterOpts{Name: "teamtalk_web_displaced_total",
				Help:        "HTTP connections closed while they waited, to make room for others.",
				ConstLabels: labels}),
	}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(s.refused, s.displaced,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_web_open",
				Help: "HTTP connections open.", ConstLabels: labels},
				func() float64 { return float64(s.Open()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_web_waiting",
				Help: "HTTP connections open and not being answered.", ConstLabels: labels},
				func() float64 { return float64(s.idle()) }))
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
				s.rest(c.(*conn))
			}
		},
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(bounded{l, s}); !errors.Is(err, http.ErrServerClosed) {
			s.failure = fmt.Errorf("%s HTTP: %w", opt.Name, err)
		}
	}()
	return s
}

// Addr is the address listened on, with the port that was taken.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Open is the number of connections now open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// idle is how many of them are not being answered.
func (s *Server) idle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting.Len()
}

// Err is why the port ended although nobody asked for it: nil after Close. It waits for the end.
func (s *Server) Err() error {
	<-s.done
	return s.failure
}

// Close closes the port and waits until what was asked is answered; when ctx ends first, the rest is cut off.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

type connKey struct{}

// answer hands a request on. Its connection is nobody's to close meanwhile.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		s.mu.Lock()
		s.leave(c)
		s.mu.Unlock()
	}
	s.opt.Handler.ServeHTTP(w, r)
}

// rest notes that a connection's request is answered.
func (s *Server) rest(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.closed && c.at == nil {
		c.at = s.waiting.PushBack(c)
	}
}

// leave takes a connection off the list of those that wait. With mu held.
func (s *Server) leave(c *conn) {
	if c.at != nil {
		s.waiting.Remove(c.at)
		c.at = nil
	}
}

// admit counts a new connection, if there is room or can be made.
func (s *Server) admit() bool {
	if s.take() {
		return true
	}
	s.mu.Lock()
	var longest *conn
	if e := s.waiting.Front(); e != nil {
		longest = e.Value.(*conn)
	}
	s.mu.Unlock()
	if longest == nil {
		return false
	}
	s.displaced.Inc()
	_ = longest.Close() // nobody is there to hear of it
	return s.take()
}

func (s *Server) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= s.opt.MaxConns || s.opt.Budget != nil && !s.opt.Budget.Take() {
		return false
	}
	s.open++
	return true
}

// bounded is the listener, with its bounds.
type bounded struct {
	*net.TCPListener
	s *Server
}

// Accept returns the next connection there is room for.
func (b bounded) Accept() (net.Conn, error) {
	for {
		tcp, err := b.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if !b.s.admit() {
			b.s.refused.Inc()
			_ = tcp.Close() // nobody is there to hear of it
			continue
		}
		c := &conn{TCPConn: tcp, s: b.s}
		b.s.rest(c)
		return c, nil
	}
}

// conn is a connection that is counted until it is closed. It has all that a TCP connection has, so that files go from disk to socket without
// passing through here.
type conn struct {
	*net.TCPConn
	s *Server

	// With s.mu held.
	at     *list.Element // among those that wait; nil while a request is answered
	closed bool
}

// Close closes the connection.
func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed {
		return err
	}
	c.closed = true
	c.s.leave(c)
	c.s.open--
	if c.s.opt.Budget != nil {
		c.s.opt.Budget.Put()
	}
	return err
}
