package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
)

// settings is what the page reads first.
type settings struct {
	WebSocket string       `json:"websocket"` // a path of this port, or a URL
	Register  registration `json:"register"`
	TextKey   string       `json:"text_key"` // empty: the page has none
	Files     bool         `json:"files"`    // the page can send files
	Name      string       `json:"name"`
	Version   string       `json:"version"`
}

// registration says whether, and how, users register.
type registration struct {
	Enabled bool `json:"enabled"`
	Invite  bool `json:"invite"` // an invite code is needed
}

// config answers with the settings of the page.
func (s *Server) config(w http.ResponseWriter, r *http.Request) {
	c := settings{WebSocket: "/ws", TextKey: s.opt.TextKey, Name: "TeamTalk",
		Version: s.opt.Version, Register: s.terms(r),
		Files: s.opt.FileServers != nil && s.opt.FileServers.Any()}
	if s.opt.WebSocket != "" {
		c.WebSocket = s.opt.WebSocket
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(c) // a client that is gone needs nothing
}

// registerPath is the path of registration on the HTTP API.
const registerPath = "/query/Register"

// register passes a registration on to the HTTP API.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	s.opt.Register.ServeHTTP(w, toAPI(r.Context(), r))
}

// toAPI returns a request with the path of registration.
func toAPI(ctx context.Context, r *http.Request) *http.Request {
	out := r.Clone(ctx)
	out.URL.Path, out.URL.RawPath, out.URL.RawQuery = registerPath, "", ""
	return out
}

// terms asks the HTTP API whether the client may register.
func (s *Server) terms(r *http.Request) (terms registration) {
	if s.opt.Register == nil {
		return terms
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.opt.AnswerTimeout)
	defer cancel()
	ask := toAPI(ctx, r)
	ask.Method, ask.Body, ask.ContentLength = http.MethodGet, http.NoBody, 0
	ask.Header.Del("Accept-Encoding")
	got := &answer{header: http.Header{}, status: http.StatusOK}
	s.opt.Register.ServeHTTP(got, ask)
	var a struct {
		Code   *int `json:"error_code"`
		Invite bool `json:"invite_needed"`
	}
	if got.status != http.StatusOK || json.Unmarshal(got.body.Bytes(), &a) != nil ||
		a.Code == nil || *a.Code != 0 {
		return terms
	}
	return registration{Enabled: true, Invite: a.Invite}
}

// maxAnswer is the longest answer of the HTTP API that is kept, in bytes.
const maxAnswer = 4 << 10

// answer is an http.ResponseWriter that keeps the answer.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header returns the header of the answer.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader keeps the status.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write keeps p. An answer that is too long is cut off, and no JSON then.
func (a *answer) Write(p []byte) (int, error) {
	a.body.Write(p[:min(len(p), maxAnswer-a.body.Len())])
	return len(p), nil
}
