package adminapi

import (
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"teamtalk/core/web/assets"
	"teamtalk/handlers/adminapi/sessions"
	"teamtalk/handlers/adminapi/tokens"
)

// tab is a browser with cookies.
type tab struct {
	*rig
	http http.Client
	csrf string
}

// withPage gives a server a page.
func withPage(o *Options) {
	o.Page = assets.New(fstest.MapFS{"index.html": {Data: []byte("<html>page</html>")}})
	o.Name, o.Version = "node1", "v1"
}

// browse returns a browser without cookies.
func (r *rig) browse() *tab {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.Fatal(err)
	}
	return &tab{rig: r, http: http.Client{Jar: jar}}
}

// ask makes a call with the cookies, and with the proof of the session. It wants a status.
func (b *tab) ask(status int, method, path, body string, headers ...string) (h http.Header,
	answer browser) {
	b.Helper()
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(proofHeader, b.csrf)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rsp, err := b.http.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer rsp.Body.Close()
	if rsp.StatusCode != status {
		b.Errorf("%s %s: %s, want %d", method, path, rsp.Status, status)
	}
	if path == "/session" {
		_ = json.NewDecoder(rsp.Body).Decode(&answer) // an error has no such fields
	}
	return rsp.Header, answer
}

// signIn signs in with a secret.
func (b *tab) signIn(secret string) browser {
	b.Helper()
	_, got := b.ask(200, "POST", "/session", `{"token":"`+secret+`"}`)
	b.csrf = got.CSRF
	return got
}

// TestSession: a browser exchanges a token for a session, which has the role of the token. The
// cookie is kept from scripts and from other sites, and a call with it proves that it is of the
// page.
func TestSession(t *testing.T) {
	r := newRig(t, withPage)
	b := r.browse()
	b.ask(401, "GET", "/session", "")
	h, _ := b.ask(401, "POST", "/session", `{"token":"wrong"}`)
	if h.Get("Set-Cookie") != "" {
		t.Errorf("a cookie after a wrong token: %v", h)
	}
	h, got := b.ask(200, "POST", "/session", `{"token":"`+r.secrets[tokens.Admin]+`"}`)
	if got.Name != "t-admin" || got.Role != "admin" || got.Process != "node1" ||
		got.Version != "v1" || got.Messages || !got.Ends.Equal(r.now.Add(sessions.Longest)) {
		t.Errorf("session %+v", got)
	}
	set := h.Get("Set-Cookie")
	for _, part := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(set, part) {
			t.Errorf("the cookie lacks %s: %s", part, set)
		}
	}
	if strings.Contains(set, got.CSRF) || strings.Contains(set, r.secrets[tokens.Admin]) {
		t.Error("the cookie has the proof or the token")
	}
	b.ask(403, "GET", "/v1/users", "") // without the proof
	b.csrf = "wrong"
	b.ask(403, "PATCH", "/v1/users/a", `{"nick":"x"}`)
	if _, again := b.ask(200, "GET", "/session", ""); again.CSRF != got.CSRF {
		t.Errorf("after a reload the page knows %+v", again)
	}
	b.csrf = got.CSRF
	b.ask(200, "PATCH", "/v1/users/a", `{"nick":"x"}`)
	// A page of another port of the same host: the browser sends the cookie with its requests.
	for _, path := range []string{"/v1/users/a/kick", "/session"} {
		b.ask(403, "POST", path, "", "Sec-Fetch-Site", "same-site")
	}
	b.ask(403, "GET", "/session", "", "Sec-Fetch-Site", "same-site")
	b.ask(200, "DELETE", "/session", "")
	b.ask(401, "GET", "/v1/users", "")

	reader := r.browse()
	reader.signIn(r.secrets[tokens.ReadOnly])
	reader.ask(200, "GET", "/v1/users", "")
	reader.ask(403, "PATCH", "/v1/users/a", `{"nick":"x"}`)
}

// TestSessionEnds: a session ends when it is idle, and when its token is removed.
func TestSessionEnds(t *testing.T) {
	r := newRig(t, withPage)
	b := r.browse()
	b.signIn(r.secrets[tokens.Admin])
	r.now = r.now.Add(sessions.Idle - time.Second)
	b.ask(200, "GET", "/v1/users", "")
	r.now = r.now.Add(sessions.Idle)
	b.ask(401, "GET", "/v1/users", "")
	b.signIn(r.secrets[tokens.Admin])
	b.ask(200, "GET", "/v1/users", "")
	if err := os.WriteFile(r.tokens, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.ask(401, "GET", "/v1/users", "")
	b.ask(401, "GET", "/session", "")
}

// TestSignInsAreLimited: wrong tokens at the sign-in count with those of calls, and a body that is
// no sign-in is refused.
func TestSignInsAreLimited(t *testing.T) {
	r := newRig(t, withPage)
	b := r.browse()
	for _, body := range []string{"", "x", `{"token":1}`, strings.Repeat("x", maxSignIn+1)} {
		b.ask(400, "POST", "/session", body)
	}
	b.ask(400, "POST", "/session", `{"token":"`+r.secrets[tokens.Admin]+`"}`, "Content-Type",
		"text/plain") // as a form of another page sends
	b.ask(404, "PUT", "/session", "")
	for range triesAtOnce {
		b.ask(401, "POST", "/session", `{"token":"wrong"}`)
	}
	b.ask(429, "POST", "/session", `{"token":"wrong"}`)
	b.signIn(r.secrets[tokens.Admin])
}

// TestSessionAudit: the audit log has sign-ins, wrong ones too, and what a session changes.
func TestSessionAudit(t *testing.T) {
	r := newRig(t, withPage)
	b := r.browse()
	b.ask(401, "POST", "/session", `{"token":"wrong"}`)
	b.signIn(r.secrets[tokens.Admin])
	b.ask(200, "GET", "/v1/users", "")
	b.ask(200, "PATCH", "/v1/users/alice", `{"nick":"x"}`)
	b.ask(200, "DELETE", "/session", "")
	b.ask(401, "GET", "/v1/users", "")
	if err := r.audit.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.auditFile)
	if err != nil {
		t.Fatal(err)
	}
	const by = `"by":"token t-admin","from":"127.0.0.1","what":"`
	want := []string{`"from":"127.0.0.1","what":"signIn POST /session","result":"wrong_key"`,
		by + `signIn POST /session","result":"ok"`,
		by + `changeUser PATCH /v1/users/alice nick","result":"ok"`,
		by + `signOut DELETE /session","result":"ok"`, `"what":"listUsers GET /v1/users"`}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), data)
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d: %s\nwant %s", i, line, want[i])
		}
	}
}

// TestPage: the port serves the page beside the calls, and no other page may show it. Without a
// page browsers cannot sign in.
func TestPage(t *testing.T) {
	r := newRig(t, withPage)
	h, _ := r.browse().ask(200, "GET", "/", "")
	if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(h.Get("Content-Type"),
		"text/html") || !strings.Contains(csp, "script-src 'self';") ||
		!strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("the page: %v", h)
	}
	r.want(r.secrets[tokens.Admin], "GET", "/v1/users", "", 200, "alice")
	none := newRig(t, nil)
	for _, path := range []string{"/", "/session"} {
		none.want("", "GET", path, "", 404, code("not_found"))
	}
}
