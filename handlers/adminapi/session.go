package adminapi

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/web"
	"teamtalk/handlers/adminapi/sessions"
	"teamtalk/handlers/adminapi/tokens"
)

// The page signs in with POST /session, asks for its session with GET /session, and signs out with
// DELETE /session. Programs call with tokens and need none of these.

// The names of the cookie. Browsers accept the first one over TLS only, and from this host only. A
// browser sends cookies to every port of a host: the pages of other ports must not read this one,
// so it is HttpOnly.
const (
	secureCookie = "__Host-teamtalk-admin"
	plainCookie  = "teamtalk-admin"
)

// proofHeader has the text of the session that the page of another port or site does not know.
// Browsers send the cookie with the requests of such pages as well, if they are of the same host.
const proofHeader = "X-Csrf-Token"

// maxSignIn bounds the body of a sign-in, in bytes.
const maxSignIn = 1 << 10

// browser is what the page knows of its session.
type browser struct {
	Name     string    `json:"name"` // of the token
	Role     string    `json:"role"`
	CSRF     string    `json:"csrf"`
	Ends     time.Time `json:"ends"`
	Messages bool      `json:"messages"` // the settings allow to read messages
	Process  string    `json:"process"`
	Version  string    `json:"version"`
}

// cookieName returns the name of the cookie for a request.
func cookieName(r *http.Request) string {
	if web.Secure(r) {
		return secureCookie
	}
	return plainCookie
}

// cookie returns the secret of the session of a request; empty: none.
func cookie(r *http.Request) string {
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie lets the browser keep a secret, or forget it when it is empty.
func setCookie(w http.ResponseWriter, r *http.Request, secret string) {
	c := &http.Cookie{Name: cookieName(r), Value: secret, Path: "/", HttpOnly: true,
		Secure: web.Secure(r), SameSite: http.SameSiteStrictMode}
	if secret == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// signedIn returns the session with a secret, and its token. A call has to prove that it is of the
// page, see proofHeader.
func (s *Server) signedIn(secret string, r *http.Request) (t tokens.Token, b sessions.Session,
	err error) {
	ended := &failure{http.StatusUnauthorized, "no_session", "the session has ended: sign in again"}
	b, ok := s.browsers.Find(secret)
	if !ok {
		return t, b, ended
	}
	if !b.Proves(r.Header.Get(proofHeader)) && r.URL.Path != "/session" {
		return t, b, &failure{http.StatusForbidden, "denied",
			"a call of a session needs the header " + proofHeader}
	}
	t, ok, err = s.opt.Tokens.FindHash(b.Token)
	switch {
	case err != nil:
		return t, b, s.unreadable(err)
	case !ok: // the token was removed
		s.browsers.Close(secret)
		return t, b, ended
	}
	return t, b, nil
}

// session answers the calls of the page about its session.
func (s *Server) session(w http.ResponseWriter, r *http.Request) {
	site := r.Header.Get("Sec-Fetch-Site") // GET answers with the proof of the session
	if s.pages.Check(r) != nil || site != "" && site != "same-origin" && site != "none" {
		s.answer(w, "session", nil, &failure{http.StatusForbidden, "denied",
			"not from the pages of another site"})
		return
	}
	var out any = None{}
	var err error
	switch r.Method {
	case http.MethodGet:
		out, err = s.about(r)
	case http.MethodPost:
		out, err = s.signIn(w, r)
	case http.MethodDelete:
		s.signOut(w, r)
	default:
		s.unknown(w, r)
		return
	}
	s.answer(w, "session", out, err)
}

// about describes the session of a request.
func (s *Server) about(r *http.Request) (browser, error) {
	secret := cookie(r)
	if secret == "" {
		return browser{}, &failure{http.StatusUnauthorized, "no_session", "not signed in"}
	}
	t, b, err := s.signedIn(secret, r)
	return s.describe(t, b), err
}

func (s *Server) describe(t tokens.Token, b sessions.Session) browser {
	return browser{Name: t.Name, Role: string(t.Role), CSRF: b.CSRF, Ends: b.Ends,
		Messages: s.opt.Messages, Process: s.opt.Name, Version: s.opt.Version}
}

// signIn opens a session for the token in the body.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) (out browser, err error) {
	var t tokens.Token
	defer func() { s.write(r, t, "signIn POST /session", err) }()
	var in struct {
		Token string `json:"token"`
	}
	// Forms of other pages cannot send this type.
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSignIn))
	if err != nil || media != "application/json" || json.Unmarshal(body, &in) != nil {
		return out, im.Errorf(im.Invalid, "want a JSON object with a token")
	}
	if t, err = s.find(in.Token, r); err != nil {
		return out, err
	}
	s.browsers.Close(cookie(r)) // of an earlier sign-in of this browser
	b, secret := s.browsers.Open(t.Hash)
	setCookie(w, r, secret)
	return s.describe(t, b), nil
}

// signOut ends the session of a request, if it has one.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	if secret := cookie(r); secret != "" {
		if t, _, err := s.signedIn(secret, r); err == nil {
			s.write(r, t, "signOut DELETE /session", nil)
		}
		s.browsers.Close(secret)
	}
	setCookie(w, r, "")
}
