// Package web serves HTTP to unknown clients. It runs net/http with bounds on the number
// of connections and on the time that each may take.
//
// A connection is waiting while none of its requests is being answered: it is silent,
// between two requests, or sends the header of a request slowly. When a port has all the
// connections it may have, the connection that has been waiting longest is closed to make
// room for the next. So a crowd of idle connections neither takes the process's file
// descriptors, which its other ports need, nor keeps the server from answering other
// clients.
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
	"teamtalk/core/opt"
)

// Options configure a Server. MaxConns is required, other zero fields mean the defaults.
type Options struct {
	// Name is the listener's name in logs and metrics.
	Name string
	// Handler answers requests. Required.
	Handler http.Handler
	// MaxConns bounds the open connections. Required.
	MaxConns int
	// Budget is shared by all ports of the process that have many connections. Default:
	// only MaxConns bounds them.
	Budget *budget.Budget
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

	mu      sync.Mutex
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

// Serve answers on l until Close, which closes l as well.
func Serve(l *net.TCPListener, opt Options) *Server {
	opt.defaults()
	labels := prometheus.Labels{"listener": opt.Name}
	s := &Server{opt: opt, listener: l, done: make(chan struct{}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_web_refused_total",
			Help: "HTTP connections closed on arrival because all others were being " +
				"answered.",
			ConstLabels: labels}),
		displaced: prometheus.NewCounter(
			prometheus.CounterOpts{Name: "teamtalk_web_displaced_total",
				Help:        "Waiting HTTP connections closed to make room for others.",
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

// Addr returns the address of the port, with the number that the system chose for port 0.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Open returns the number of open connections.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// idle returns the number of connections that wait.
func (s *Server) idle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting.Len()
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
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		s.mu.Lock()
		s.leave(c)
		s.mu.Unlock()
	}
	s.opt.Handler.ServeHTTP(w, r)
}

// rest makes a connection wait after its request was answered.
func (s *Server) rest(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.closed && c.at == nil {
		c.at = s.waiting.PushBack(c)
	}
}

// leave ends a connection's wait. The caller holds mu.
func (s *Server) leave(c *conn) {
	if c.at != nil {
		s.waiting.Remove(c.at)
		c.at = nil
	}
}

// admit counts a new connection. When there is no room it closes the connection that has
// been waiting longest. It returns false when none waits.
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
	_ = longest.Close() // the client gets no answer, so the error is of no use
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
		if !b.s.admit() {
			b.s.refused.Inc()
			_ = tcp.Close() // the client gets no answer, so the error is of no use
			continue
		}
		c := &conn{TCPConn: tcp, s: b.s}
		b.s.rest(c)
		return c, nil
	}
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
	s *Server

	// With s.mu held.
	at     *list.Element // in waiting; nil while a request is answered
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
