// Package router turns frames into calls of handlers: one table per role, command id → handler, needs login, message type. Unknown,
// unauthenticated and malformed frames end here, counted.
package router

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Access says who may send a command.
type Access uint8

// The values of Access.
const (
	Public   Access = iota // also before login; on links between servers everything is
	LoggedIn               // after login; before it the frame is ignored
)

// Options sets up a Router. Zero values mean: logs discarded, metrics not registered.
type Options struct {
	Role       string // names the role in logs and metrics
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Router is a role's table of commands. It is filled before the first frame and only read afterwards.
type Router struct {
	role    string
	log     *slog.Logger
	routes  [pages][]*route // by service id, then by the low byte
	metrics metrics
	warned  atomic.Int64 // unix second of the last warning logged
}

// pages is the number of services.
const pages = 8

type route struct {
	cmd    pb.Command
	access Access
	frame  func(s *session.Session, seq uint16, body []byte) error
	typed  func(s *session.Session, seq uint16, m pb.Message) error
	count  prometheus.Counter
}

// New makes an empty table.
func New(opt Options) *Router {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Router{role: opt.Role, log: opt.Log, metrics: newMetrics(opt.Registerer, opt.Role)}
}

// Handle enters h for the command of M. A handler checks, does and replies, and never waits; what it cannot do it returns as an im.Error: the router
// logs and counts it by kind, and, when an answer of that kind was set with OnError, sends that. seq belongs into the reply.
//
// It panics when the command is taken, as the tables are fixed at start.
func Handle[M any, P interface {
	*M
	pb.Message
}](r *Router, access Access, h func(s *session.Session, seq uint16, m P) error, opts ...Option[P]) {
	cmd := P(new(M)).Command()
	var o options[P]
	for _, opt := range opts {
		opt(&o)
	}
	call := func(s *session.Session, seq uint16, m P) error {
		err := h(s, seq, m)
		if err != nil && o.refusal != nil {
			if answer := o.refusal(m, im.KindOf(err)); answer != nil {
				_ = s.Send(seq, answer)
			}
		}
		return err
	}
	r.add(&route{
		cmd:    cmd,
		access: access,
		frame: func(s *session.Session, seq uint16, body []byte) error {
			m := P(new(M))
			if err := m.ParseBody(body); err != nil {
				return im.WithKind(im.Malformed, "body does not decode", &bodyError{err})
			}
			return call(s, seq, m)
		},
		typed: func(s *session.Session, seq uint16, m pb.Message) error {
			return call(s, seq, m.(P))
		},
		count: r.metrics.frames.WithLabelValues(cmd.String()),
	})
}

// Ignore is the handler of messages that need no action.
func Ignore[P pb.Message](*session.Session, uint16, P) error { return nil }

type options[P pb.Message] struct {
	refusal func(m P, k im.Kind) pb.Message
}

// Option changes how one command is handled.
type Option[P pb.Message] func(*options[P])

// OnError sets the answer a client gets when the handler refuses or fails at once; nil answers nothing. Results that
// come later are answered by whoever gets them.
func OnError[P pb.Message](answer func(m P, k im.Kind) pb.Message) Option[P] {
	return func(o *options[P]) { o.refusal = answer }
}

func (r *Router) add(rt *route) {
	page, index := rt.cmd.Service(), int(rt.cmd&0xff)
	for len(r.routes[page]) <= index {
		r.routes[page] = append(r.routes[page], nil)
	}
	if r.routes[page][index] != nil {
		panic("router: " + rt.cmd.String() + " entered twice")
	}
	r.routes[page][index] = rt
}

func (r *Router) find(cmd pb.Command) *route {
	page, index := cmd.Service(), int(cmd&0xff)
	if page >= pages || index >= len(r.routes[page]) {
		return nil
	}
	return r.routes[page][index]
}

// Entry is one line of the table, for documentation and tests.
type Entry struct {
	Command    pb.Command
	NeedsLogin bool
}

// Table lists what the role handles, in order of command id.
func (r *Router) Table() []Entry {
	var all []Entry
	for _, page := range r.routes {
		for _, rt := range page {
			if rt != nil {
				all = append(all, Entry{rt.cmd, rt.access == LoggedIn})
			}
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return int(a.Command) - int(b.Command) })
	return all
}

// Frame dispatches an encoded frame, as session.Handler demands.
func (r *Router) Frame(s *session.Session, h pdu.Header, body []byte) {
	rt := r.admit(s, h.Command)
	if rt == nil {
		return
	}
	rt.count.Inc()
	r.done(s, h.Command, h.Seq, rt.frame(s, h.Seq, body))
}

// Message dispatches a decoded message, as session.Handler demands. One that is encoded is decoded here.
func (r *Router) Message(s *session.Session, seq uint16, m pb.Message) {
	rt := r.admit(s, m.Command())
	if rt == nil {
		return
	}
	rt.count.Inc()
	if e, ok := m.(*pb.Encoded); ok {
		body, err := e.AppendBody(nil)
		if err == nil {
			err = rt.frame(s, seq, body)
		}
		r.done(s, m.Command(), seq, err)
		return
	}
	r.done(s, m.Command(), seq, rt.typed(s, seq, m))
}

// admit returns the route of cmd, nil when the frame ends here.
func (r *Router) admit(s *session.Session, cmd pb.Command) *route {
	rt := r.find(cmd)
	if rt == nil {
		r.metrics.unknown.Inc()
		r.log.Debug("unknown command ignored", "role", r.role, "conn", s.ID(), "cmd", uint16(cmd))
		return nil
	}
	if rt.access == LoggedIn && !s.LoggedIn() {
		r.metrics.unauthenticated.Inc()
		r.log.Debug("command before login ignored", "role", r.role, "conn", s.ID(), "cmd", cmd.String())
		return nil
	}
	return rt
}

// bodyError is the error of a body that did not decode.
type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

// incomplete is the kind under which bodies that lack a required field are counted.
const incomplete = "incomplete"

func (r *Router) done(s *session.Session, cmd pb.Command, seq uint16, err error) {
	if err == nil {
		s.Malformed(true)
		return
	}
	// Only bytes that are no protobuf say that the stream itself cannot be trusted. A body that
	// lacks a field, or has a value that a handler refuses, is a client that is older or newer.
	var body *bodyError
	undecoded := errors.As(err, &body)
	kind := im.KindOf(err)
	label := kind.String()
	if undecoded && errors.Is(body, pb.ErrIncomplete) {
		undecoded, label = false, incomplete
	}
	s.Malformed(!undecoded)
	r.metrics.errors.WithLabelValues(label).Inc()
	level := slog.LevelDebug // what a client did wrong is its own affair
	switch kind {
	case im.Internal:
		level = slog.LevelError
	case im.Unavailable, im.Busy:
		// Under overload there are thousands of these a second: the metrics count them all, the log gets one a second.
		level = slog.LevelWarn
		now := time.Now().Unix()
		if last := r.warned.Load(); last == now || !r.warned.CompareAndSwap(last, now) {
			return
		}
	}
	r.log.Log(context.Background(), level, "request failed", "role", r.role, "conn", s.ID(), "user", s.User, "cmd", cmd.String(), "seq", seq, "err", err)
}

type metrics struct {
	frames          *prometheus.CounterVec
	errors          *prometheus.CounterVec
	unknown         prometheus.Counter
	unauthenticated prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, role string) metrics {
	labels := prometheus.Labels{"role": role}
	m := metrics{
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_router_frames_total",
			Help: "Frames handled, by command.", ConstLabels: labels}, []string{"cmd"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_router_errors_total",
			Help:        "Requests that failed or were refused, by kind; incomplete: a required field is missing.",
			ConstLabels: labels}, []string{"kind"}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_router_unknown_total",
			Help: "Frames ignored because nothing handles their command.", ConstLabels: labels}),
		unauthenticated: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_router_unauthenticated_total",
			Help: "Frames ignored because their connection is not logged in.", ConstLabels: labels}),
	}
	if reg != nil {
		reg.MustRegister(m.frames, m.errors, m.unknown, m.unauthenticated)
	}
	return m
}
