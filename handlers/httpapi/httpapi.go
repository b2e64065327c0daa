// Package httpapi decides for the HTTP message server: other systems of the company make groups, send texts, ask who is online. Two of its calls are
// those of the first implementation, field by field; the others have their manner.
//
// A call is POST /query/Name with a JSON object that names an app_key; the answer is a JSON object with error_code and error_msg, status 200
// whatever came of it. An app's key says which calls it may make, as whom, to whom, from where and how often.
package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Values of error_code. 0, 1, 2 and 9 are the first implementation's.
const (
	codeOK      = 0
	codeBad     = 1 // a parameter
	codeKey     = 2 // the app_key
	codeDenied  = 3 // the app, or the user it acts as, may not do that
	codeUnknown = 4 // no such user or group
	codeClosed  = 5 // registration, to this address
	codeTooMany = 8 // calls of this app, or from this address
	codeServer  = 9 // the server's fault; the call may succeed later
)

const textOK = "成功"

// Peer is another server that is asked: link.Peer and link.Group are ones.
type Peer interface {
	// Call sends req and runs done with the answer or an error; l is nil here: done runs where the answer arrives and must not wait.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Send sends m, which is not answered.
	Send(key uint64, seq uint16, m pb.Message) error
}

// Accounts makes users: what self-registration needs of a store.
type Accounts interface {
	CreateUsers(ctx context.Context, accounts []im.Account) ([]uint32, error)
}

// Pushes has phones pushed to about messages: a pusher.Pusher.
type Pushes interface {
	// Stored is told of a message that was stored; members are nil: they are not known here. It does not wait.
	Stored(m *pb.MsgData, members []uint32)
}

// Options sets up a Server. Zero values mean the defaults.
type Options struct {
	// DB is asked to store and change, Route who is online, and to forward. Required.
	DB, Route Peer
	// Pushes is told of every message that was stored. nil: nobody is pushed to.
	Pushes Pushes
	// Apps are the systems that may call. None: every call is refused.
	Apps []App
	// Text encrypts what is sent, for clients. Required.
	Text *im.TextCipher
	// Register offers self-registration; nil: not.
	Register *Register
	// MaxBody is the longest request body, in bytes. Default 1 MiB.
	MaxBody int64
	// Timeout bounds a call. Default 10 s.
	Timeout time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// Log gets failures. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the HTTP message server, an http.Handler.
type Server struct {
	opt       Options
	log       *slog.Logger
	apps      *apps
	clients   *addresses // wrong keys, by address
	newcomers *addresses // registrations; apart, as a portal registers people and calls with a key from one address
	pages     *http.CrossOriginProtection
	big       chan struct{} // one for each request longer than smallBody
	mux       *http.ServeMux
	metrics   metrics
	often     obs.Often
	guesses   obs.Often // wrong keys beyond the limit
}

// New makes a server. It fails when the apps are not right.
func New(opt Options) (*Server, error) {
	if opt.MaxBody <= 0 {
		opt.MaxBody = 1 << 20
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 10 * time.Second
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	known, err := newApps(opt.Apps)
	if err != nil {
		return nil, err
	}
	s := &Server{opt: opt, log: opt.Log.With("role", "http"), apps: known, clients: newAddresses(), newcomers: newAddresses(),
		pages: http.NewCrossOriginProtection(), big: make(chan struct{}, maxBigBodies), mux: http.NewServeMux(), metrics: newMetrics(opt.Registerer)}
	handle(s, "CreateGroup", s.createGroup)
	handle(s, "ChangeMembers", s.changeMembers)
	handle(s, "SendMessage", s.sendMessage)
	handle(s, "GetUserStatus", s.userStatus)
	handle(s, "KickUser", s.kickUser)
	if opt.Register != nil {
		if err := opt.Register.defaults(); err != nil {
			return nil, err
		}
		s.mux.HandleFunc("POST /query/Register", s.register)
		s.mux.HandleFunc("GET /query/Register", s.terms)
	}
	s.mux.HandleFunc("GET /openapi.json", s.openAPI)
	return s, nil
}

// ServeHTTP answers calls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// failure is what a call answers instead of its result.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

func fail(code int, text string) error { return &failure{code, text} }

// answer is the beginning of every answer.
type answer struct {
	Code int    `json:"error_code"`
	Text string `json:"error_msg"`
}

func (a *answer) set(code int, text string) { a.Code, a.Text = code, text }

// result is a call's answer: an answer with more fields.
type result interface{ set(code int, text string) }

// request is what every call names.
type request struct {
	AppKey string `json:"app_key"`
}

func (r *request) key() string { return r.AppKey }

// handle enters a call that an app makes.
func handle[Q any, PQ interface {
	*Q
	key() string
}, R any, PR interface {
	*R
	result
}](s *Server, name string, run func(ctx context.Context, app *app, q PQ, r PR) error) {
	s.mux.HandleFunc("POST /query/"+name, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.opt.Timeout)
		defer cancel()
		q, a := PQ(new(Q)), PR(new(R))
		err := s.mayAsk(r)
		if err == nil {
			err = s.decode(w, r, q, s.opt.MaxBody)
		}
		if err == nil {
			var app *app
			if app, err = s.admit(r, q.key(), name); err == nil {
				err = run(ctx, app, q, a)
			}
		}
		s.respond(w, name, a, err)
	})
}

// mayAsk refuses calls that a page of another site makes a browser send: the browser may stand
// where strangers cannot reach.
func (s *Server) mayAsk(r *http.Request) error {
	if s.pages.Check(r) != nil {
		return fail(codeDenied, "not from the pages of another site")
	}
	return nil
}

// smallBody is how much of a request everybody may have held in memory, in bytes; maxBigBodies how many may be longer at a time. The key is in the body, so all of them are
// read before it is known who calls.
const (
	smallBody    = 16 << 10
	maxBigBodies = 64
)

// decode reads a request's body, of at most limit bytes.
func (s *Server) decode(w http.ResponseWriter, r *http.Request, into any, limit int64) error {
	head, err := io.ReadAll(io.LimitReader(r.Body, smallBody))
	if err != nil {
		return unread(err)
	}
	body := io.Reader(bytes.NewReader(head))
	if len(head) == smallBody {
		select {
		case s.big <- struct{}{}:
			defer func() { <-s.big }()
		default:
			return fail(codeTooMany, "too many long requests at once")
		}
		body = io.MultiReader(body, http.MaxBytesReader(w, r.Body, max(limit-smallBody, 0)))
	}
	d := json.NewDecoder(body)
	if err := d.Decode(into); err != nil {
		return unread(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fail(codeBad, "more than one JSON object")
	}
	return nil
}

// unread says why a body was not taken.
func unread(err error) error {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return fail(codeBad, "request is too long")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(codeBad, "request did not come in time")
	}
	return fail(codeBad, "request is not the JSON object it should be")
}

// admit finds the app of a key, and says whether it may make the call now. The key is looked up
// before wrong keys of the address count: several systems may call from one address, and one
// with a wrong key must not lock out the others. Wrong keys beyond the limit all get the same
// answer. A key can be guessed in this way only if it is short, and a short key is right only
// from the private networks of its app.
func (s *Server) admit(r *http.Request, key, call string) (*app, error) {
	from, now := remote(r), s.opt.Now()
	a := s.apps.find(key)
	if a == nil || !a.reachedFrom(from) {
		if !s.clients.try(from, now) {
			if held, ok := s.guesses.Allow(now); ok {
				s.log.Warn("too many wrong keys", "from", from.String(), "call", call, "held", held)
			}
			return nil, fail(codeTooMany, "too many wrong keys from this address")
		}
		return nil, fail(codeKey, "app_key is wrong")
	}
	if !a.mayCall(call) {
		return nil, fail(codeDenied, "the app may not call "+call)
	}
	if !a.limit.AllowN(now, 1) {
		return nil, fail(codeTooMany, "too many calls of this app")
	}
	return a, nil
}

// remote is the caller's address. A proxy's word for it is not taken: anybody could give it.
func remote(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// respond writes a call's answer.
func (s *Server) respond(w http.ResponseWriter, call string, a result, err error) {
	code, text := codeOK, textOK
	var f *failure
	switch {
	case err == nil:
	case errors.As(err, &f):
		code, text = f.code, f.text
	default:
		code, text = codeServer, "服务端内部错误"
		if held, ok := s.often.Allow(s.opt.Now()); ok {
			s.log.Warn("call failed", "call", call, "err", err, "held", held)
		}
	}
	a.set(code, text)
	s.metrics.calls(call, code)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err := json.NewEncoder(w).Encode(a); err != nil { // the caller is gone
		s.log.Debug("answer not sent", "call", call, "err", err)
	}
}

// ask calls a peer and waits for its answer.
func ask[R pb.Message](ctx context.Context, p Peer, key uint64, req pb.Attachment) (R, error) {
	type reply struct {
		m   pb.Message
		err error
	}
	var none R
	c := make(chan reply, 1)
	p.Call(nil, key, 0, req, func(m pb.Message, err error) { c <- reply{m, err} })
	select {
	case got := <-c:
		if got.err != nil {
			return none, got.err
		}
		if m, ok := got.m.(R); ok {
			return m, nil
		}
		return none, im.Errorf(im.Internal, "answer of another kind: %T", got.m)
	case <-ctx.Done():
		return none, im.WithKind(im.Unavailable, "no answer in time", ctx.Err())
	}
}
