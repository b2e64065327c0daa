// Package router dispatches frames to handlers. Each role has one table with, for each
// command id, the handler, the message type, and whether it needs a login. The router
// drops and counts unknown, unauthenticated and malformed frames.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Access is the condition under which a command is accepted. Links between servers
// may send every command.
type Access uint8

// The values of Access.
const (
	Public   Access = iota // before and after login
	LoggedIn               // after login only; before it the frame is dropped
)

// Session is what a router needs of the session that sent a frame. *session.Client and
// *session.Link offer it.
type Session interface {
	// ID returns the number of the connection, for the log.
	ID() uint64
	// UserID returns the logged-in user, 0 when there is none.
	UserID() uint32
	// LoggedIn reports whether commands that need a login are accepted.
	LoggedIn() bool
	// Malformed counts a frame that did not decode; ok resets the count.
	Malformed(ok bool)
	// Send sends an answer.
	Send(seq uint16, m pb.Message) error
}

// Options configures a Router. Without Log nothing is logged, and without Registerer the
// metrics are not registered.
type Options struct {
	Role       string // name of the role in logs and metrics
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// MaxBody is the length, in bytes, of the longest body of a frame whose command has
	// no bound of its own, see MaxBody. 0: any length. Messages that are not frames have
	// any length.
	MaxBody int
}

// Router is the command table of a role for sessions of type S: *session.Client or
// *session.Link. So a handler of clients does not fit into a table of links. The table is
// filled before the first frame and only read after that.
type Router[S Session] struct {
	role    string
	log     *slog.Logger
	routes  [pages][]*route[S] // by service id, then by the low byte of the command
	metrics metrics
	often   obs.Often // bounds the log under overload
	refused func(s S, cmd pb.Command, length int)
	maxBody int
}

// pages is the number of services, plus one because they are numbered from 1.
const pages = 8

type route[S Session] struct {
	cmd    pb.Command
	access Access
	frame  func(s S, seq uint16, body []byte) error
	typed  func(s S, seq uint16, m pb.Message) error
	max    int // length of the longest body; 0: any
	count  prometheus.Counter
}

// New returns an empty table.
func New[S Session](opt Options) *Router[S] {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Router[S]{role: opt.Role, log: opt.Log, maxBody: opt.MaxBody,
		metrics: newMetrics(opt.Registerer, opt.Role)}
}

// OnRefused sets a function that is called, after the answer, for each frame or message
// that is dropped or refused because of its sender, with the length of the frame's body:
// the command is unknown or needs a login, the body is malformed or too long, or the
// handler returned an error of kind im.Invalid, im.Denied, im.NotFound or im.Malformed.
func (r *Router[S]) OnRefused(f func(s S, cmd pb.Command, length int)) {
	r.refused = f
}

// Handle sets h as the handler for the command of M. A handler checks the message, acts
// on it and replies with seq. It must not wait. When it returns an error, the router logs
// it, counts it by kind, and sends the answer that OnError returns for that kind.
//
// It panics when the command already has a handler, because the tables are fixed at
// start.
func Handle[S Session, M any, P interface {
	*M
	pb.Message
}](r *Router[S], access Access, h func(s S, seq uint16, m P) error, opts ...Option[P]) {
	cmd := P(new(M)).Command()
	o := options[P]{maxBody: r.maxBody}
	for _, opt := range opts {
		opt(&o)
	}
	call := func(s S, seq uint16, m P) error {
		err := h(s, seq, m)
		if err != nil && o.refusal != nil {
			if answer := o.refusal(m, im.KindOf(err)); answer != nil {
				_ = s.Send(seq, answer)
			}
		}
		return err
	}
	r.add(&route[S]{
		cmd:    cmd,
		access: access,
		frame: func(s S, seq uint16, body []byte) error {
			m := P(new(M))
			if err := m.ParseBody(body); err != nil {
				return im.WithKind(im.Malformed, "body does not decode", &bodyError{err})
			}
			return call(s, seq, m)
		},
		typed: func(s S, seq uint16, m pb.Message) error {
			return call(s, seq, m.(P))
		},
		max:   o.maxBody,
		count: r.metrics.frames.WithLabelValues(cmd.String()),
	})
}

// Ignore is the handler of messages that need no action.
func Ignore[P pb.Message, S Session](S, uint16, P) error { return nil }

type options[P pb.Message] struct {
	refusal func(m P, k im.Kind) pb.Message
	maxBody int
}

// Option changes the way in which one command is handled.
type Option[P pb.Message] func(*options[P])

// OnError sets a function that returns the answer to a client after the handler returned
// an error; nil means no answer. It is not called for failures after the return: the code
// that continues the request answers those.
func OnError[P pb.Message](answer func(m P, k im.Kind) pb.Message) Option[P] {
	return func(o *options[P]) { o.refusal = answer }
}

// MaxBody sets the length, in bytes, of the longest body of a frame with this command. 0
// means any length. A frame with a longer body is refused before its lists are decoded, and
// not answered.
func MaxBody[P pb.Message](n int) Option[P] {
	return func(o *options[P]) { o.maxBody = n }
}

func (r *Router[S]) add(rt *route[S]) {
	page, index := rt.cmd.Service(), int(rt.cmd&0xff)
	for len(r.routes[page]) <= index {
		r.routes[page] = append(r.routes[page], nil)
	}
	if r.routes[page][index] != nil {
		panic("router: " + rt.cmd.String() + " entered twice")
	}
	r.routes[page][index] = rt
}

func (r *Router[S]) find(cmd pb.Command) *route[S] {
	page, index := cmd.Service(), int(cmd&0xff)
	if page >= pages || index >= len(r.routes[page]) {
		return nil
	}
	return r.routes[page][index]
}

// Entry is one line of the table, for documents and tests.
type Entry struct {
	Command    pb.Command
	NeedsLogin bool
}

// Table returns the commands that the role handles, in order of command id.
func (r *Router[S]) Table() []Entry {
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

// Frame dispatches an encoded frame, see session.ClientHandler.
func (r *Router[S]) Frame(s S, h pdu.Header, body []byte) {
	rt := r.admit(s, h.Command, len(body))
	if rt == nil {
		return
	}
	rt.count.Inc()
	if rt.max > 0 && len(body) > rt.max {
		r.done(s, h.Command, h.Seq, len(body), &longError{len(body), rt.max})
		return
	}
	r.done(s, h.Command, h.Seq, len(body), rt.frame(s, h.Seq, body))
}

// Message dispatches a decoded message, see session.LinkHandler. It decodes a pb.Encoded
// first.
func (r *Router[S]) Message(s S, seq uint16, m pb.Message) {
	rt := r.admit(s, m.Command(), 0)
	if rt == nil {
		return
	}
	rt.count.Inc()
	if e, ok := m.(*pb.Encoded); ok {
		body, err := e.AppendBody(nil)
		if err == nil {
			err = rt.frame(s, seq, body)
		}
		r.done(s, m.Command(), seq, 0, err)
		return
	}
	r.done(s, m.Command(), seq, 0, rt.typed(s, seq, m))
}

// admit returns the route of cmd, nil when the frame is dropped.
func (r *Router[S]) admit(s S, cmd pb.Command, length int) *route[S] {
	rt := r.find(cmd)
	if rt == nil {
		r.metrics.unknown.Inc()
		r.log.Debug("unknown command ignored", "role", r.role, "conn", s.ID(), "cmd", uint16(cmd))
		r.blame(s, cmd, length)
		return nil
	}
	if rt.access == LoggedIn && !s.LoggedIn() {
		r.metrics.unauthenticated.Inc()
		r.log.Debug("command before login ignored",
			"role", r.role, "conn", s.ID(), "cmd", cmd.String())
		r.blame(s, cmd, length)
		return nil
	}
	return rt
}

// blame reports a refused frame to OnRefused.
func (r *Router[S]) blame(s S, cmd pb.Command, length int) {
	if r.refused != nil {
		r.refused(s, cmd, length)
	}
}

// longError is the error of a frame whose body is longer than that of its command may be.
type longError struct{ length, max int }

func (e *longError) Error() string {
	return fmt.Sprintf("body of %d bytes is longer than %d", e.length, e.max)
}

// bodyError marks the error of a body that did not decode.
type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

// Labels under which frames are counted that a handler did not get: their bodies lack a
// required field, or are longer than MaxBody.
const (
	incomplete = "incomplete"
	tooLong    = "too_long"
)

func (r *Router[S]) done(s S, cmd pb.Command, seq uint16, length int, err error) {
	if err == nil {
		s.Malformed(true)
		return
	}
	// Only bytes that are not protobuf show that the stream itself cannot be trusted. A
	// body that lacks a field, or has a value that a handler rejects, may come from an
	// older or newer client.
	var body *bodyError
	undecoded := errors.As(err, &body)
	kind := im.KindOf(err)
	label := kind.String()
	if long := (*longError)(nil); errors.As(err, &long) {
		kind, label = im.Invalid, tooLong
	}
	if undecoded && errors.Is(body, pb.ErrIncomplete) {
		undecoded, label = false, incomplete
	}
	s.Malformed(!undecoded)
	r.metrics.errors.WithLabelValues(label).Inc()
	level := slog.LevelDebug // a client's mistake needs no attention
	switch kind {
	case im.Invalid, im.Denied, im.NotFound, im.Malformed:
		r.blame(s, cmd, length)
	case im.Internal:
		level = slog.LevelError
	case im.Unavailable, im.Busy:
		// Under overload there are thousands of these a second: the metrics count them
		// all, and the log gets one a second.
		level = slog.LevelWarn
		if _, ok := r.often.Allow(time.Now()); !ok {
			return
		}
	}
	r.log.Log(context.Background(), level, "request failed", "role", r.role, "conn", s.ID(),
		"user", s.UserID(), "cmd", cmd.String(), "seq", seq, "err", err)
}

type metrics struct {
	frames          *prometheus.CounterVec
	errors          *prometheus.CounterVec
	unknown         prometheus.Counter
	unauthenticated prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, role string) metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "teamtalk_router_" + name, Help: help,
			ConstLabels: prometheus.Labels{"role": role}}
	}
	m := metrics{
		frames: prometheus.NewCounterVec(opts("frames_total",
			"Frames handled, by command."), []string{"cmd"}),
		errors: prometheus.NewCounterVec(opts("errors_total",
			"Requests that failed or were refused, by kind; "+
				"incomplete: a required field is missing, too_long: the body is longer than "+
				"requests of its command are."), []string{"kind"}),
		unknown: prometheus.NewCounter(opts("unknown_total",
			"Frames dropped because their command has no handler.")),
		unauthenticated: prometheus.NewCounter(opts("unauthenticated_total",
			"Frames dropped before login.")),
	}
	if reg != nil {
		reg.MustRegister(m.frames, m.errors, m.unknown, m.unauthenticated)
	}
	return m
}
