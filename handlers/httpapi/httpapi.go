// Package httpapi implements the HTTP message server, through which other systems of the
// company create groups, send texts and ask which users are online. Two of its calls are
// those of the first implementation, field by field; the others follow their form.
//
// A call is POST /query/Name with a JSON object that contains an app_key. The answer is a
// JSON object with error_code and error_msg. Its status is always 200. An app's key
// determines which calls it may make, on whose behalf, to which users and groups, from
// which networks and how often.
package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/audit"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	option "teamtalk/core/opt"
	"teamtalk/core/session"
	"teamtalk/core/web"
	"teamtalk/proto/pb"
)

// Values of error_code. 0, 1, 2 and 9 are the first implementation's.
const (
	codeOK      = 0
	codeBad     = 1 // a parameter is wrong
	codeKey     = 2 // the app_key is wrong
	codeDenied  = 3 // the app, or the user on whose behalf it acts, may not do this
	codeUnknown = 4 // no such user or group
	codeClosed  = 5 // registration is not open to this address
	codeTooMany = 8 // too many calls of this app, or from this address
	codeServer  = 9 // the server failed; the call may succeed later
)

const textOK = "成功"

// Peer is a db_proxy or a route server, or a group of them: link.Peer and link.Group
// implement it.
type Peer interface {
	// Call sends req and runs done with the answer or an error. l is nil here: done runs
	// on the goroutine that receives the answer and must not block.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Send sends m, which has no answer.
	Send(key uint64, seq uint16, m pb.Message) error
}

// Accounts creates users. It is the part of a store that self-registration needs.
type Accounts interface {
	CreateUsers(ctx context.Context, accounts []im.Account) ([]uint32, error)
}

// Pushes sends pushes to phones: a pusher.Pusher.
type Pushes interface {
	// Stored reports a stored message. members is nil, because they are not known here.
	// It does not block.
	Stored(m *pb.MsgData, members []uint32)
}

// Options configures a Server. Zero values mean the defaults.
type Options struct {
	// DB stores and changes data. Route answers which users are online, and forwards
	// messages. Both are required.
	DB, Route Peer
	// Routes is the handler of the links to route servers. Required.
	Routes *Routes
	// Pushes receives every stored message. nil: no pushes are sent.
	Pushes Pushes
	// Apps are the systems that may make calls. Empty: every call is refused.
	Apps []App
	// Text encrypts texts for clients. Required.
	Text *im.TextCipher
	// Register configures self-registration; nil: users cannot register.
	Register *Register
	// MaxBody is the length of the longest request body, in bytes. Default 1 MiB.
	MaxBody int64
	// Timeout bounds the duration of a call. Default 10 s.
	Timeout time.Duration
	// Audit records calls and registrations. nil: none.
	Audit *audit.Log
	// Now returns the current time. Default mono.Now.
	Now func() time.Time
	// Log records failures. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// callers are the systems that may call, and the settings of the registration; nil: users cannot
// register.
type callers struct {
	apps     *apps
	register *Register
}

// Server is the HTTP message server, an http.Handler.
type Server struct {
	opt       Options
	log       *slog.Logger
	callers   atomic.Pointer[callers]
	clients   *addresses // wrong keys, by address
	newcomers *addresses // registrations, by address
	lines     *addresses // refusals of strangers in the audit log, by address
	pages     *http.CrossOriginProtection
	big       chan struct{} // holds one element for each request longer than smallBody
	mux       *http.ServeMux
	metrics   metrics
	users     *lru.Cache[uint32, struct{}] // see known
	often     obs.Often
	guesses   obs.Often // wrong keys beyond the limit
}

// New returns a server. It fails when the apps or the settings of the registration are
// invalid.
func New(opt Options) (*Server, error) {
	option.Default(&opt.MaxBody, 1<<20)
	option.Default(&opt.Timeout, 10*time.Second)
	if opt.Now == nil {
		opt.Now = mono.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: opt, log: opt.Log.With("role", "http"), clients: newAddresses(),
		newcomers: newAddresses(), lines: newAddresses(),
		pages: http.NewCrossOriginProtection(), big: make(chan struct{}, maxBigBodies),
		mux: http.NewServeMux(), metrics: newMetrics(opt.Registerer)}
	handle(s, "CreateGroup", s.createGroup)
	handle(s, "ChangeMembers", s.changeMembers)
	handle(s, "SendMessage", s.sendMessage)
	handle(s, "GetUserStatus", s.userStatus)
	handle(s, "KickUser", s.kickUser)
	s.mux.HandleFunc("POST /query/Register", s.registering(s.register))
	s.mux.HandleFunc("GET /query/Register", s.registering(s.terms))
	s.mux.HandleFunc("GET /openapi.json", s.openAPI)
	var err error
	if s.users, err = lru.New[uint32, struct{}](maxKnown); err != nil {
		return nil, err
	}
	use, err := s.Prepare(opt.Apps, opt.Register)
	if err != nil {
		return nil, err
	}
	use()
	return s, nil
}

// Prepare checks systems and settings of the registration, which may be nil, and returns the
// function that puts them in the place of those in use. Any goroutine.
func (s *Server) Prepare(list []App, register *Register) (use func(), err error) {
	known, err := newApps(list)
	if err != nil {
		return nil, err
	}
	if register != nil {
		if err := register.defaults(); err != nil {
			return nil, err
		}
	}
	return func() { s.callers.Store(&callers{known, register}) }, nil
}

// Check returns what New refuses in the apps and in the settings of the registration, which may
// be nil.
func Check(list []App, register *Register) error {
	if _, err := newApps(list); err != nil || register == nil {
		return err
	}
	trial := *register
	return trial.defaults()
}

// ServeHTTP handles calls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// failure is the code and text of a call that failed.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

func fail(code int, text string) error { return &failure{code, text} }

// answer holds the first fields of every answer.
type answer struct {
	Code int    `json:"error_code"`
	Text string `json:"error_msg"`
}

func (a *answer) set(code int, text string) { a.Code, a.Text = code, text }

// result is a call's answer: an answer with further fields.
type result interface{ set(code int, text string) }

// request holds the field that every request has.
type request struct {
	AppKey string `json:"app_key"`
}

func (r *request) key() string { return r.AppKey }

// handle registers a call that apps make.
func handle[Q any, PQ interface {
	*Q
	key() string
	subjects() string
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
		var by *app
		if err == nil {
			if by, err = s.admit(r, q.key(), name); err == nil {
				err = run(ctx, by, q, a)
			}
		}
		s.auditCall(r, by, name, q.subjects, err)
		s.respond(w, name, a, err)
	})
}

// mayAsk refuses calls that a page of another site makes through a user's browser: the
// browser may be in a network that outsiders cannot reach.
func (s *Server) mayAsk(r *http.Request) error {
	if s.pages.Check(r) != nil {
		return fail(codeDenied, "not from the pages of another site")
	}
	return nil
}

// smallBody is the part of a request that is read in any case, in bytes. maxBigBodies
// bounds the longer requests that are read at the same time. The key is in the body, so a
// body must be read before the caller is known.
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

// unread returns the reason why a body could not be read or decoded.
func unread(err error) error {
	var tooLong *http.MaxBytesError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &tooLong):
		return fail(codeBad, "request is too long")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(codeBad, "the request did not arrive in time")
	case errors.As(err, &wrong) && wrong.Field != "":
		field := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:] // request.app_key
		return fail(codeBad, fmt.Sprintf("%s: want %s, not the %.40s", field,
			wanted(wrong.Type.Kind()), wrong.Value))
	}
	return fail(codeBad, "the request is not a JSON object with the fields of this call")
}

// wanted names the JSON value that a field of kind k takes.
func wanted(k reflect.Kind) string {
	switch k {
	case reflect.Uint32:
		return "a number from 0 to 4294967295"
	case reflect.Slice:
		return "a list of numbers"
	}
	return "a text"
}

// admit returns the app of a key, if it may make the call now. The key is looked up
// before wrong keys are counted: several systems may call from one address, and one with
// a wrong key must not lock out the others. Above the limit all wrong keys get the same
// answer. So only a short key could be guessed, and a short key is valid only from the
// private networks of its app. The address of a proxy that does not name its client is in
// no network of an app.
func (s *Server) admit(r *http.Request, key, call string) (*app, error) {
	from, now := remote(r), s.opt.Now()
	a := s.callers.Load().apps.find(key)
	if a == nil || !a.reachedFrom(from) || len(a.Networks) > 0 && web.HidesClient(r) {
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

// remote returns the caller's address. Headers of proxies are ignored, because every
// caller can send them.
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
	if err := json.NewEncoder(w).Encode(a); err != nil { // the caller disconnected
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
		return none, im.Errorf(im.Internal, "answer of type %T", got.m)
	case <-ctx.Done():
		return none, im.WithKind(im.Unavailable, "no answer in time", ctx.Err())
	}
}

// maxKnown is the number of users that known remembers: an id of a user stays one. Few users act
// through the API, and each of them often.
const maxKnown = 4096

// known fails with codeUnknown when no user has this id. db_proxies do not check it, because
// message servers send them ids of users that have logged in: they would store a message of
// nobody, and a group that nobody made.
func (s *Server) known(ctx context.Context, user uint32) error {
	if s.users.Contains(user) {
		return nil
	}
	req := &pb.IMUsersInfoReq{}
	req.SetUserId(0)
	req.SetUserIdList([]uint32{user})
	rsp, err := ask[*pb.IMUsersInfoRsp](ctx, s.opt.DB, uint64(user), req)
	if err != nil {
		return err
	}
	if len(rsp.GetUserInfoList()) == 0 {
		return fail(codeUnknown, fmt.Sprintf("no user has the id %d (req_user_id)", user))
	}
	s.users.Add(user, struct{}{})
	return nil
}

// rejected reports whether a db_proxy refused a request for good. Another attempt would have
// the same result.
func rejected(err error) bool {
	var r *link.Refusal
	return errors.As(err, &r) && im.KindOf(err) == im.Invalid
}
