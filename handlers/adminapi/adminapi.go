// Package adminapi serves the HTTP API for administrators: it does what the commands of the
// shell do, and shows the state of a running process.
//
// A call has a bearer token, whose role says whether it may change anything. Requests and
// answers are JSON. Every error has the same form, with a code for programs. Each change is in
// the audit log with the name of its token. GET /openapi.json describes the calls.
//
// The same port serves a page that makes these calls. A browser gives a token once, for a session
// whose secret is in a cookie that the page cannot read.
package adminapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/audit"
	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	option "teamtalk/core/opt"
	"teamtalk/core/origin"
	"teamtalk/core/rate"
	"teamtalk/handlers/adminapi/sessions"
	"teamtalk/handlers/adminapi/tokens"
)

// Tokens finds the token with a secret, or with the hash of one: a tokens.Store.
type Tokens interface {
	Find(secret string) (tokens.Token, bool, error)
	FindHash(hash [sha256.Size]byte) (tokens.Token, bool, error)
}

// Page serves the files of a page. Has reports whether it has one at a path.
type Page interface {
	http.Handler
	Has(path string) bool
}

// Options configures a Server. Zero values mean the defaults.
type Options struct {
	// Directory, Cluster and Process do the work of the calls. Tokens are the callers. All are
	// required.
	Directory Directory
	Cluster   Cluster
	Process   Process
	Tokens    Tokens
	// Messages allows calls that read messages.
	Messages bool
	// Page is the page of the administrators. nil: none, and browsers cannot sign in.
	Page Page
	// Name and Version are those of this process, for the page.
	Name, Version string
	// MaxCalls is the largest number of calls at a time. Default 16.
	MaxCalls int
	// Timeout bounds the duration of a call. Default 25 s, and four times as long for a file of
	// users.
	Timeout time.Duration
	// Audit records changes and refusals. nil: none.
	Audit *audit.Log
	// Now returns the current time. Default mono.Now.
	Now func() time.Time
	// Log records failures. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the API, an http.Handler.
type Server struct {
	opt      Options
	log      *slog.Logger
	mux      *http.ServeMux
	pages    *http.CrossOriginProtection
	calls    chan struct{} // holds one element for each running call
	answered *prometheus.CounterVec
	document []byte // OpenAPI
	failed   obs.Often
	guesses  obs.Often
	browsers *sessions.Store

	mu        sync.Mutex
	strangers *lru.Cache[string, *stranger] // by address
}

// stranger is an address from which a call came without a valid token.
type stranger struct {
	tries rate.Bucket // wrong tokens
	lines rate.Bucket // of the audit log
}

const (
	// maxAddresses bounds the addresses whose wrong tokens are counted. An address may try
	// triesAtOnce wrong tokens at once and triesPerMinute after that.
	maxAddresses   = 4096
	triesAtOnce    = 10
	triesPerMinute = 10
	// The audit log has linesAtOnce refusals of an address at once and linesPerMinute after
	// that, so that strangers neither fill a disk nor hide other lines. The metric has all.
	linesAtOnce    = 20
	linesPerMinute = 20
)

// New returns a server.
func New(opt Options) *Server {
	option.Default(&opt.MaxCalls, 16)
	option.Default(&opt.Timeout, 25*time.Second)
	if opt.Now == nil {
		opt.Now = mono.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	strangers, err := lru.New[string, *stranger](maxAddresses)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	s := &Server{opt: opt, log: opt.Log.With("role", "admin_api"), mux: http.NewServeMux(),
		pages: http.NewCrossOriginProtection(), calls: make(chan struct{}, opt.MaxCalls),
		strangers: strangers, browsers: sessions.New(opt.Now), answered: newAnswered()}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(s.answered)
	}
	routes := s.routes()
	s.document = describe(routes)
	for _, rt := range routes {
		s.mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			s.serve(rt, w, r)
		})
	}
	s.mux.HandleFunc("GET /openapi.json", s.openAPI)
	s.mux.HandleFunc("/", s.unknown)
	if opt.Page != nil {
		s.mux.HandleFunc("/session", s.session)
	}
	return s
}

// newAnswered returns the counter of calls.
func newAnswered() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_admin_api_calls_total",
		Help: "Calls of the admin API answered, by name and code: ok, or the code of the error. " +
			"Calls without a valid token have no name.",
	}, []string{"call", "code"})
}

// ServeHTTP handles calls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if s.opt.Page != nil && s.opt.Page.Has(r.URL.Path) {
		s.opt.Page.ServeHTTP(w, r)
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	s.mux.ServeHTTP(w, r)
}

// policy is the Content-Security-Policy of the page: it runs its own files and calls its own port.
// No other page may show it, so nobody can be led to click on it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// openAPI serves the description. It holds nothing secret, so it needs no token.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write(s.document) // an error means that the caller disconnected
}

// unknown answers calls that do not exist.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	s.answer(w, "", nil, &failure{http.StatusNotFound, "not_found",
		"there is no such call: GET /openapi.json lists all"})
}

// serve answers a call.
func (s *Server) serve(rt *route, w http.ResponseWriter, r *http.Request) {
	t, err := s.admit(rt, r)
	if err != nil {
		s.record(rt, r, t, nil, err)
		name := rt.name
		if t.Name == "" {
			name = ""
		}
		s.answer(w, name, nil, err)
		return
	}
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	default:
		s.answer(w, rt.name, nil, im.Errorf(im.Busy, "too many calls at a time"))
		return
	}
	limit := s.opt.Timeout
	if rt.limit > maxBody {
		limit *= 4
		// The passwords of a file take long. An error means that the writer has no deadline.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + time.Second))
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	in, out, err := rt.run(w, r.WithContext(ctx))
	s.record(rt, r, t, in, err)
	s.answer(w, rt.name, out, err)
}

// failure is an error of the API itself.
type failure struct {
	status int
	code   string
	text   string
}

// Error returns the text for people.
func (f *failure) Error() string { return f.text }

// admit returns the token of a call that it may make. Valid tokens are admitted however many
// wrong ones come from their address: several programs may call from one.
func (s *Server) admit(rt *route, r *http.Request) (tokens.Token, error) {
	if s.pages.Check(r) != nil {
		return tokens.Token{}, &failure{http.StatusForbidden, "denied",
			"not from the pages of another site"}
	}
	t, err := s.caller(r)
	if err == nil && rt.role == tokens.Admin && t.Role != tokens.Admin {
		err = &failure{http.StatusForbidden, "denied",
			"the token may only read: this call needs the role admin"}
	}
	return t, err
}

// caller returns the token of a call: that in its header, or that of its session.
func (s *Server) caller(r *http.Request) (tokens.Token, error) {
	if secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.find(secret, r)
	}
	if secret := cookie(r); secret != "" {
		t, _, err := s.signedIn(secret, r)
		return t, err
	}
	return tokens.Token{}, &failure{http.StatusUnauthorized, "no_token",
		"a call needs the header Authorization: Bearer TOKEN; teamtalk token add makes one"}
}

// find returns the token with a secret, or counts a wrong one.
func (s *Server) find(secret string, r *http.Request) (tokens.Token, error) {
	t, ok, err := s.opt.Tokens.Find(secret)
	switch {
	case err != nil:
		return tokens.Token{}, s.unreadable(err)
	case !ok && !s.mayTry(r):
		return tokens.Token{}, &failure{http.StatusTooManyRequests, "too_many",
			"too many wrong tokens from this address"}
	case !ok:
		return tokens.Token{}, &failure{http.StatusUnauthorized, "wrong_token",
			"the token is wrong"}
	}
	return t, nil
}

// unreadable logs that the file of tokens cannot be read, and returns what callers are told.
func (s *Server) unreadable(err error) error {
	if held, ok := s.failed.Allow(s.opt.Now()); ok {
		s.log.Error("no call is admitted", "err", err, "held", held)
	}
	return &failure{http.StatusServiceUnavailable, "unavailable",
		"the file of tokens cannot be read: the log of the server has the reason"}
}

// mayTry counts a wrong token of an address. It returns false when the address has had too many.
func (s *Server) mayTry(r *http.Request) bool {
	now := s.opt.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stranger(r).tries.Take(now, triesPerMinute/60.0, triesAtOnce) {
		return true
	}
	if held, ok := s.guesses.Allow(now); ok {
		s.log.Warn("too many wrong tokens", "from", remote(r).String(), "held", held)
	}
	return false
}

// mayRecord counts a line of the audit log about a caller that nobody knows. It returns false when
// the log has had too many of its address.
func (s *Server) mayRecord(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stranger(r).lines.Take(s.opt.Now(), linesPerMinute/60.0, linesAtOnce)
}

// stranger returns what is counted of the address of a call. The caller holds mu.
func (s *Server) stranger(r *http.Request) *stranger {
	from := remote(r)
	key := from.String()
	if from.IsValid() {
		key = origin.Key(from).String()
	}
	one, ok := s.strangers.Get(key)
	if !ok {
		one = &stranger{}
		s.strangers.Add(key, one)
	}
	return one
}

// kinds are the status and the code of errors, by their kinds.
var kinds = map[im.Kind]failure{
	im.Invalid:     {http.StatusBadRequest, "invalid", ""},
	im.Malformed:   {http.StatusBadRequest, "invalid", ""},
	im.NotFound:    {http.StatusNotFound, "not_found", ""},
	im.Exists:      {http.StatusConflict, "exists", ""},
	im.Denied:      {http.StatusForbidden, "denied", ""},
	im.Busy:        {http.StatusServiceUnavailable, "busy", ""},
	im.Unavailable: {http.StatusServiceUnavailable, "unavailable", ""},
	im.Closed:      {http.StatusServiceUnavailable, "unavailable", ""},
}

// failed returns the error as callers see it. The causes of faults are for the log alone.
func failed(err error) *failure {
	if f := (*failure)(nil); errors.As(err, &f) {
		return f
	}
	f, ok := kinds[im.KindOf(err)]
	switch {
	case !ok:
		return &failure{http.StatusInternalServerError, "internal",
			"the server failed: its log has the reason"}
	case f.code == "unavailable":
		f.text = "a server or a database that the call needs is not reachable"
		if e := (*im.Error)(nil); errors.As(err, &e) && e.Err == nil {
			f.text = e.Msg
		}
	default:
		f.text = err.Error()
	}
	return &f
}

// codes are the codes of errors.
var codes = []string{"invalid", "no_token", "wrong_token", "no_session", "denied", "not_found",
	"exists", "too_many", "busy", "unavailable", "internal"}

// errorAnswer is the form of every error.
type errorAnswer struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Code     string   `json:"code" doc:"for programs"`
	Message  string   `json:"message" doc:"for people"`
	Problems []string `json:"problems,omitempty" doc:"of a file, with their lines"`
}

// answer writes the answer of a call, or its error.
func (s *Server) answer(w http.ResponseWriter, name string, out any, err error) {
	code := "ok"
	if err != nil {
		f := failed(err)
		code = f.code
		body := errorBody{Code: f.code, Message: f.text}
		if p, ok := errors.AsType[interface {
			error
			Problems() []string
		}](err); ok {
			body.Problems = p.Problems()
		}
		if f.status >= http.StatusInternalServerError {
			if held, ok := s.failed.Allow(s.opt.Now()); ok {
				s.log.Warn("call failed", "call", name, "err", err, "held", held)
			}
		}
		if f.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		w.WriteHeader(f.status)
		out = errorAnswer{body}
	}
	s.answered.WithLabelValues(name, code).Inc()
	if err := json.NewEncoder(w).Encode(out); err != nil { // the caller disconnected
		s.log.Debug("answer not sent", "call", name, "err", err)
	}
}

// messages refuses calls that read messages, unless the settings allow them.
func (s *Server) messages(ctx context.Context, q GetMessages) (Messages, error) {
	switch {
	case !s.opt.Messages:
		return Messages{}, im.Errorf(im.Denied, "the settings do not allow to read messages "+
			"(setting admin_api.messages)")
	case q.User == 0 || (q.Peer == 0) == (q.Group == 0):
		return Messages{}, im.Errorf(im.Invalid, "want user, and one of peer and group")
	case len(q.IDs) == 0 || len(q.IDs) > maxMessages:
		return Messages{}, im.Errorf(im.Invalid, "want 1 to %s ids", strconv.Itoa(maxMessages))
	}
	return s.opt.Directory.GetMessages(ctx, q)
}

// maxMessages is the largest number of messages in one call.
const maxMessages = 100
