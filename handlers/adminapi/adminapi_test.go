package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/core/audit"
	"teamtalk/core/im"
	"teamtalk/handlers/adminapi/tokens"
)

// fake answers some calls. The others panic, because the interfaces are nil.
type fake struct {
	Directory
	Cluster
	Process
	asked ListUsers
	// begun is closed when Settings is called, which then waits until block is closed. nil: it
	// does not wait.
	begun, block chan struct{}
}

func (f *fake) ListUsers(_ context.Context, q ListUsers) (UserPage, error) {
	f.asked = q
	return UserPage{Users: []User{{ID: 1, Name: "alice"}}}, nil
}

func (f *fake) ChangeUser(_ context.Context, q ChangeUser) (User, error) {
	if q.User == "nobody" {
		return User{}, im.Errorf(im.NotFound, "no user has the name nobody")
	}
	return User{ID: 1, Name: q.User, Nick: *q.Nick}, nil
}

func (f *fake) DeleteUser(context.Context, UserName) (Deleted, error) {
	return Deleted{}, errors.New("secret cause")
}

func (f *fake) ImportUsers(context.Context, ImportUsers) (Imported, error) {
	return Imported{}, im.WithKind(im.Invalid, "no user was added", problems{"line 2: phone"})
}

func (f *fake) GetMessages(context.Context, GetMessages) (Messages, error) {
	return Messages{Messages: []Message{{ID: 5, Text: "hello"}}}, nil
}

func (f *fake) Settings(context.Context, None) (Settings, error) {
	if f.block != nil {
		close(f.begun)
		<-f.block
	}
	return Settings{}, nil
}

// problems is an error with the problems of a file.
type problems []string

func (p problems) Error() string      { return strings.Join(p, "\n") }
func (p problems) Problems() []string { return p }

// rig is a server with a token of each role.
type rig struct {
	*testing.T
	fake      *fake
	url       string
	secrets   map[tokens.Role]string
	now       time.Time
	tokens    string // the file
	auditFile string
	audit     *audit.Log
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{T: t, fake: &fake{}, secrets: map[tokens.Role]string{}, now: time.Unix(1e9, 0),
		auditFile: filepath.Join(t.TempDir(), "audit")}
	path := filepath.Join(t.TempDir(), "tokens")
	r.tokens = path
	var list []tokens.Token
	for _, role := range []tokens.Role{tokens.Admin, tokens.ReadOnly} {
		one, secret, err := tokens.Make("t-"+string(role), role)
		if err != nil {
			t.Fatal(err)
		}
		list, r.secrets[role] = append(list, one), secret
	}
	if err := os.WriteFile(path, tokens.Format(list), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := tokens.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r.audit, err = audit.Open(audit.Options{File: r.auditFile, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Directory: r.fake, Cluster: r.fake, Process: r.fake, Tokens: store,
		Audit: r.audit, Now: func() time.Time { return r.now }}
	if change != nil {
		change(&opt)
	}
	srv := httptest.NewServer(New(opt))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

// call makes a call with a secret, and returns its status and its body.
func (r *rig) call(secret, method, path, body string) (int, string) {
	r.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	req.Header.Set("Content-Type", "application/json")
	if strings.HasSuffix(path, "/csv") {
		req.Header.Set("Content-Type", "text/csv")
	}
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer rsp.Body.Close()
	data, err := io.ReadAll(rsp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return rsp.StatusCode, string(data)
}

// want makes a call, and wants a status and a part of the answer.
func (r *rig) want(secret, method, path, body string, status int, part string) {
	r.Helper()
	got, text := r.call(secret, method, path, body)
	if got != status || !strings.Contains(text, part) {
		r.Errorf("%s %s %.100s: %d %s, want %d with %s", method, path, body, got, text, status,
			part)
	}
	if !json.Valid([]byte(text)) {
		r.Errorf("%s %s: no JSON: %q", method, path, text)
	}
}

// code is the part of an answer that holds the code of an error.
func code(c string) string { return `"error":{"code":"` + c + `"` }

// TestCalls makes calls that succeed, and calls with each error.
func TestCalls(t *testing.T) {
	r := newRig(t, nil)
	admin := r.secrets[tokens.Admin]
	r.want(admin, "GET", "/v1/users?search=al&limit=3&after=7", "", 200, `"name":"alice"`)
	if q := r.fake.asked; q.Search != "al" || q.Limit != 3 || q.After != 7 {
		t.Errorf("asked for %+v", q)
	}
	r.want(admin, "PATCH", "/v1/users/a%20b", `{"nick":"x"}`, 200, `"name":"a b","nick":"x"`)
	r.want(admin, "PATCH", "/v1/users/nobody", `{"nick":"x"}`, 404, code("not_found"))
	r.want(admin, "DELETE", "/v1/users/a", "", 500, code("internal"))
	if _, text := r.call(admin, "DELETE", "/v1/users/a", ""); strings.Contains(text, "secret") {
		t.Errorf("the answer has the cause: %s", text)
	}
	r.want(admin, "POST", "/v1/users/csv", "name\n", 400, `"problems":["line 2: phone"]`)
	for _, x := range []struct{ method, path, body, part string }{
		{"PATCH", "/v1/users/a", `{"nock":"x"}`, "unknown field"},
		{"PATCH", "/v1/users/a", `{"nick":7}`, "no JSON object"},
		{"PATCH", "/v1/users/a", `{"nick":"x"}{}`, "more than one"},
		{"PATCH", "/v1/users/a", `{"nick":"` + strings.Repeat("x", maxBody) + `"}`, "longer than"},
		{"DELETE", "/v1/users/a", `{}`, "the call has no body"},
		{"GET", "/v1/users?limit=x", "", "is no number"},
		{"GET", "/v1/users?limit=1&limit=2", "", "2 times"},
		{"GET", "/v1/users?lim=1", "", `no parameter \"lim\"`},
		{"GET", "/v1/users?search=%ff", "", "not UTF-8"},
		{"GET", "/v1/users?after=-1", "", "is no number"},
		{"POST", "/v1/users/csv?dry_run=maybe", "", "neither true nor false"},
		{"GET", "/v1/users?%zz", "", "malformed"},
	} {
		r.want(admin, x.method, x.path, x.body, 400, code("invalid"))
		r.want(admin, x.method, x.path, x.body, 400, x.part)
	}
	r.want(admin, "GET", "/v1/nothing", "", 404, code("not_found"))
	r.want(admin, "PUT", "/v1/users", "", 404, code("not_found"))
}

// TestTokens: a token that may only read changes nothing, and a wrong one does nothing. Wrong
// ones are limited for each address, and do not keep valid ones out.
func TestTokens(t *testing.T) {
	r := newRig(t, nil)
	admin, reader := r.secrets[tokens.Admin], r.secrets[tokens.ReadOnly]
	r.want(reader, "GET", "/v1/users", "", 200, "alice")
	r.want(reader, "PATCH", "/v1/users/a", `{"nick":"x"}`, 403, code("denied"))
	r.want(reader, "GET", "/v1/messages?user=1&peer=2&ids=5", "", 403, code("denied"))
	r.want("", "GET", "/v1/users", "", 401, code("no_token"))
	for range triesAtOnce {
		r.want("wrong", "GET", "/v1/users", "", 401, code("wrong_token"))
	}
	r.want("wrong", "GET", "/v1/users", "", 429, code("too_many"))
	r.want(admin, "GET", "/v1/users", "", 200, "alice")
	r.now = r.now.Add(time.Minute / triesPerMinute)
	r.want("wrong", "GET", "/v1/users", "", 401, code("wrong_token"))
	r.want("wrong", "GET", "/v1/users", "", 429, code("too_many"))

	req, _ := http.NewRequest("POST", r.url+"/v1/users/a/kick", nil)
	req.Header.Set("Authorization", "Bearer "+admin)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	rsp.Body.Close()
	if rsp.StatusCode != 403 || rsp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a call from a page of another site: %d, %v", rsp.StatusCode, rsp.Header)
	}
}

// TestMessages: messages are read only if the settings allow it.
func TestMessages(t *testing.T) {
	closed := newRig(t, nil)
	const path = "/v1/messages?user=1&peer=2&ids=5,6"
	closed.want(closed.secrets[tokens.Admin], "GET", path, "", 403, "admin_api.messages")
	open := newRig(t, func(o *Options) { o.Messages = true })
	admin := open.secrets[tokens.Admin]
	open.want(admin, "GET", path, "", 200, `"text":"hello"`)
	for _, q := range []string{"", "?user=1&ids=5", "?user=1&peer=2",
		"?user=1&peer=2&group=3&ids=1",
		"?user=1&peer=2&ids=" + strings.Repeat("1,", maxMessages) + "1",
		"?user=1&peer=2&ids=" + strings.Repeat("1,", maxListed) + "1"} {
		open.want(admin, "GET", "/v1/messages"+q, "", 400, code("invalid"))
	}
}

// TestBusy: calls beyond the largest number at a time are refused.
func TestBusy(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxCalls = 1 })
	r.fake.begun, r.fake.block = make(chan struct{}), make(chan struct{})
	admin, done := r.secrets[tokens.Admin], make(chan int)
	go func() {
		status, _ := r.call(admin, "GET", "/v1/settings", "")
		done <- status
	}()
	<-r.fake.begun
	r.want(admin, "GET", "/v1/users", "", 503, code("busy"))
	close(r.fake.block)
	if status := <-done; status != 200 {
		t.Errorf("the first call: %d", status)
	}
	r.want(admin, "GET", "/v1/users", "", 200, "alice")
}

// TestStrangersInAudit: calls without a token do not fill the audit log, and do not hide others.
func TestStrangersInAudit(t *testing.T) {
	r := newRig(t, nil)
	for range linesAtOnce + 5 {
		r.call("", "GET", "/v1/users", "")
	}
	r.call(r.secrets[tokens.Admin], "PATCH", "/v1/users/alice", `{"nick":"x"}`)
	r.now = r.now.Add(time.Minute / linesPerMinute)
	r.call("", "GET", "/v1/users", "")
	r.call("", "GET", "/v1/users", "")
	if err := r.audit.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.auditFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(data, []byte("wrong_key")); got != linesAtOnce+1 ||
		bytes.Count(data, []byte("t-admin")) != 1 {
		t.Errorf("%d refusals:\n%s", got, data)
	}
}

// TestProblemsInAudit: the audit log does not quote the file of users that was refused.
func TestProblemsInAudit(t *testing.T) {
	r := newRig(t, nil)
	r.call(r.secrets[tokens.Admin], "POST", "/v1/users/csv", `{"file":"bmFtZQo="}`)
	if err := r.audit.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.auditFile)
	if err != nil || bytes.Contains(data, []byte("phone")) ||
		!bytes.Contains(data, []byte("the answer had 1 lines about it")) {
		t.Errorf("%s, %v", data, err)
	}
}

// TestAudit: the audit log has changes, refusals, and calls that read messages, with the name of
// the token and without contents.
func TestAudit(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Messages = true })
	admin := r.secrets[tokens.Admin]
	r.call(admin, "GET", "/v1/users", "")
	r.call(admin, "PATCH", "/v1/users/alice", `{"nick":"hidden"}`)
	r.call(admin, "PATCH", "/v1/users/nobody", `{"nick":"hidden"}`)
	r.call(r.secrets[tokens.ReadOnly], "PATCH", "/v1/users/alice", `{"nick":"hidden"}`)
	r.call("wrong", "GET", "/v1/users", "")
	r.call(admin, "GET", "/v1/messages?user=1&peer=2&ids=5", "")
	if err := r.audit.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.auditFile)
	if err != nil {
		t.Fatal(err)
	}
	const patch = `"from":"127.0.0.1","what":"changeUser PATCH /v1/users/`
	want := []string{
		`"by":"token t-admin",` + patch + `alice nick","result":"ok"`,
		`"by":"token t-admin",` + patch + `nobody nick","result":"not_found"`,
		`"by":"token t-read-only",` + patch + `alice","result":"denied"`,
		`"from":"127.0.0.1","what":"listUsers GET /v1/users","result":"wrong_key"`,
		`"what":"getMessages GET /v1/messages user=1 peer=2 ids=[5]","result":"ok"`,
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != len(want) || bytes.Contains(data, []byte("hidden")) {
		t.Fatalf("%d lines, want %d without contents:\n%s", len(lines), len(want), data)
	}
	for i, line := range lines {
		if !strings.Contains(line, `"event":"admin_call"`) || !strings.Contains(line, want[i]) {
			t.Errorf("line %d: %s\nwant %s", i, line, want[i])
		}
	}
}
