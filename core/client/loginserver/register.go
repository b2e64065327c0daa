package loginserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"teamtalk/core/im"
)

// Registrar calls the registration in a server's HTTP API.
type Registrar struct {
	url  string // of the call
	http *http.Client
}

// NewRegistrar returns a Registrar for the HTTP API at a URL; the default scheme is http.
// With a nil hc it uses a client without cookies. Invalid when the URL is not valid.
func NewRegistrar(hc *http.Client, api string) (*Registrar, error) {
	u, err := webURL(api)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "HTTP API", err)
	}
	if hc == nil {
		hc = &http.Client{}
	}
	once := *hc // never follow a redirect: it would send the password elsewhere
	once.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}
	return &Registrar{url: u.JoinPath("query", "Register").String(), http: &once}, nil
}

// FindRegistrar asks a login server, given as for Discover, for the place of
// registration. NotFound when the server does not announce one, otherwise the errors of
// Discover.
func FindRegistrar(ctx context.Context, hc *http.Client, server string) (*Registrar, error) {
	if hc == nil {
		hc = &http.Client{}
	}
	d, err := askLogin(ctx, hc, server)
	if err != nil {
		return nil, err
	}
	if d.Register == "" {
		return nil, im.Errorf(im.NotFound, "registration is not open")
	}
	r, err := NewRegistrar(hc, d.Register)
	if err != nil {
		return nil, im.WithKind(im.Malformed, "login server's answer", err)
	}
	return r, nil
}

// URL returns the address of the call, for display.
func (r *Registrar) URL() string { return r.url }

// Terms are the conditions of registration.
type Terms struct {
	Invite      bool // an invite code is needed
	MinPassword int  // least number of characters of a password
}

// NewUser is a user to be registered.
type NewUser struct {
	Name, Password string
	Nick           string // display name; empty: as Name
	Invite         string // code; empty: none
}

// FieldError is the error of one field of a NewUser. Its kind is Exists for a name that
// is taken, Denied for an invite code that is wrong or missing, otherwise Invalid.
type FieldError struct {
	Field string // user_name, password, nick_name, invite_code
	Err   error  // with a kind and the server's text
}

// Error returns the server's text.
func (e *FieldError) Error() string { return e.Err.Error() }

// Unwrap returns the error with its kind.
func (e *FieldError) Unwrap() error { return e.Err }

// Terms returns the conditions of registration. NotFound when registration is closed, or
// closed for this address. Unavailable without an answer, Malformed when the answer is
// not valid.
func (r *Registrar) Terms(ctx context.Context) (Terms, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return Terms{}, im.WithKind(im.Invalid, "HTTP API", err)
	}
	var a registerAnswer
	if err := r.ask(req, &a); err != nil {
		return Terms{}, err
	}
	return Terms{Invite: a.Invite, MinPassword: a.MinPassword}, nil
}

// Register creates a user and returns its id. A *FieldError names the field to change.
// Busy after too many attempts; NotFound, Unavailable and Malformed as for Terms. After
// Unavailable the user may have been created.
func (r *Registrar) Register(ctx context.Context, u NewUser) (uint32, error) {
	body, err := json.Marshal(struct {
		Name     string `json:"user_name"`
		Password string `json:"password"`
		Nick     string `json:"nick_name,omitempty"`
		Invite   string `json:"invite_code,omitempty"`
	}{u.Name, u.Password, u.Nick, u.Invite})
	if err != nil {
		return 0, im.WithKind(im.Invalid, "new user", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return 0, im.WithKind(im.Invalid, "HTTP API", err)
	}
	req.Header.Set("Content-Type", "application/json")
	var a registerAnswer
	if err := r.ask(req, &a); err != nil {
		return 0, err
	}
	if a.User == 0 {
		return 0, im.Errorf(im.Malformed, "HTTP API's answer has no user")
	}
	return a.User, nil
}

// registerAnswer is the answer to either call.
type registerAnswer struct {
	Code        *int   `json:"error_code"`
	Text        string `json:"error_msg"`
	Field       string `json:"field"`
	User        uint32 `json:"user_id"`
	Invite      bool   `json:"invite_needed"`
	MinPassword int    `json:"min_password"`
}

// Values of error_code.
const (
	registerOK      = 0
	registerInvalid = 1
	registerInvite  = 2
	registerTaken   = 3
	registerClosed  = 5
	registerBusy    = 8
)

// err returns the error in an answer.
func (a *registerAnswer) err() error {
	kind := im.Unavailable
	switch *a.Code {
	case registerOK:
		return nil
	case registerInvalid:
		kind = im.Invalid
	case registerInvite:
		kind = im.Denied
	case registerTaken:
		kind = im.Exists
	case registerClosed:
		kind = im.NotFound
	case registerBusy:
		kind = im.Busy
	}
	err := im.Errorf(kind, "%.200s", a.Text)
	if a.Field != "" {
		return &FieldError{Field: a.Field, Err: err}
	}
	return err
}

// ask makes a call.
func (r *Registrar) ask(req *http.Request, a *registerAnswer) error {
	rsp, err := r.http.Do(req)
	if err != nil {
		return im.WithKind(im.Unavailable, "ask HTTP API", withoutURL(err))
	}
	defer rsp.Body.Close()
	switch rsp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return im.Errorf(im.NotFound, "registration is not open")
	default:
		return im.Errorf(im.Unavailable, "HTTP API answers %s", rsp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(rsp.Body, maxDiscovery))
	if err != nil {
		return im.WithKind(im.Unavailable, "ask HTTP API", err)
	}
	return a.parse(body)
}

// parse decodes an answer, and returns the error in it.
func (a *registerAnswer) parse(body []byte) error {
	if err := json.Unmarshal(body, a); err != nil {
		return im.WithKind(im.Malformed, "HTTP API's answer", err)
	}
	if a.Code == nil {
		return im.Errorf(im.Malformed, "HTTP API's answer has no error_code")
	}
	return a.err()
}

// webURL parses a URL and adds a missing scheme.
func webURL(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, im.Errorf(im.Invalid, "%q is no http address", s)
	}
	return u, nil
}

// withoutURL returns the cause in an error of a request, without the URL, which the
// caller knows.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
