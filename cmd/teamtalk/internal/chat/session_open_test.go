package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/clienttest"
)

// patience bounds waits that end early when the code is right.
const patience = time.Minute

// recorder is an Observer that keeps what it receives.
type recorder struct {
	mu         sync.Mutex
	registered []string
	events     []client.Event
	arrived    chan struct{} // receives after each event
}

func newRecorder() *recorder { return &recorder{arrived: make(chan struct{}, 100)} }

func (r *recorder) Registered(name string, id uint32) {
	r.registered = append(r.registered, fmt.Sprint(name, " ", id))
}

func (r *recorder) Event(e client.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	r.arrived <- struct{}{}
}

func (r *recorder) File(FileEntry) {}

// message waits for the first received message.
func (r *recorder) message(t *testing.T) client.Received {
	t.Helper()
	for deadline := time.After(patience); ; {
		r.mu.Lock()
		for _, e := range r.events {
			if m, ok := e.(client.Received); ok {
				r.mu.Unlock()
				return m
			}
		}
		r.mu.Unlock()
		select {
		case <-r.arrived:
		case <-deadline:
			t.Fatal("no message was received")
		}
	}
}

// openTest opens a session at a server of tests.
func openTest(t *testing.T, srv *clienttest.Server, user string, o Observer) *Session {
	t.Helper()
	s, err := Open(t.Context(), Options{
		User: user, Password: user, Given: true, MsgServer: srv.Addr(), Progress: time.Second,
	}, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestFindNewUsers finds a user that was added after the login, for a group as well.
func TestFindNewUsers(t *testing.T) {
	srv := clienttest.New(t)
	srv.AddUser(1, "alice")
	alice := openTest(t, srv, "alice", newRecorder())
	alice.Start()
	alice.WaitReady(t.Context())
	srv.AddUser(2, "bob")
	if ids, err := alice.FindUsers([]string{"bob"}); err != nil || !slices.Equal(ids, []uint32{2}) {
		t.Errorf("users %v, %v", ids, err)
	}
	if ids, err := alice.FindUsers([]string{"nobody"}); err == nil {
		t.Errorf("users %v", ids)
	}
}

// TestSessionWithoutFrontend drives two sessions as a web page would: one sends, the
// other receives.
func TestSessionWithoutFrontend(t *testing.T) {
	srv := clienttest.New(t)
	srv.AddUser(1, "alice")
	srv.AddUser(2, "bob")
	seen := newRecorder()
	bob := openTest(t, srv, "bob", seen)
	bob.Start()
	bob.WaitReady(t.Context())
	alice := openTest(t, srv, "alice", newRecorder())
	alice.Start()
	alice.WaitReady(t.Context())
	to, err := alice.FindPeer("bo")
	if err != nil || to != (client.Peer{ID: 2}) {
		t.Fatalf("peer %v, %v", to, err)
	}
	if _, err := alice.Client.Send(to, "hello"); err != nil {
		t.Fatal(err)
	}
	alice.Flush(t.Context(), patience)
	if n := alice.Client.Pending(); n != 0 {
		t.Errorf("%d messages are unacked", n)
	}
	m := seen.message(t)
	if text, ok := bob.Text(m.Message); text != "hello" || !ok {
		t.Errorf("text %q, %v", text, ok)
	}
	if got := bob.Book.UnreadOf(m.Peer).Count; got != 1 {
		t.Errorf("%d unread messages, want 1", got)
	}
	bob.MarkRead(m.Peer, m.Message.ID)
	if got := bob.Book.UnreadOf(m.Peer).Count; got != 0 {
		t.Errorf("%d unread messages after MarkRead", got)
	}
	list, err := bob.History(t.Context(), m.Peer, 0, 10)
	if err != nil || len(list) != 1 || list[0].ID != m.Message.ID {
		t.Errorf("history %v, %v", list, err)
	}
}

// TestCloseBeforeStart: an observer that never started the session receives nothing, not
// even the events that have been waiting.
func TestCloseBeforeStart(t *testing.T) {
	srv := clienttest.New(t)
	srv.AddUser(1, "alice")
	seen := newRecorder()
	s := openTest(t, srv, "alice", seen)
	s.Close()
	s.Start()
	s.WaitEnd(t.Context())
	if len(seen.events) != 0 {
		t.Errorf("received %v", seen.events)
	}
}

// TestReadLines ends at the end of the input, at the caller's wish, and at the end of the
// session.
func TestReadLines(t *testing.T) {
	srv := clienttest.New(t)
	srv.AddUser(1, "alice")
	s := openTest(t, srv, "alice", newRecorder())
	var got []string
	keep := func(n int, line string) bool {
		got = append(got, fmt.Sprint(n, line))
		return line != "stop"
	}
	interrupted, err := s.ReadLines(t.Context(), strings.NewReader("a\r\n\nstop\nb\n"), keep)
	if interrupted || err != nil || strings.Join(got, ",") != "1a,2,3stop" {
		t.Errorf("read %q, %v, %v", got, interrupted, err)
	}
	got = nil
	interrupted, err = s.ReadLines(t.Context(),
		strings.NewReader("a\n"+strings.Repeat("x", maxInputLine)), keep)
	if interrupted || err == nil || strings.Join(got, ",") != "1a" {
		t.Errorf("a line that is too long: read %q, %v, %v", got, interrupted, err)
	}
	s.Close()
	silent, _ := io.Pipe()
	defer silent.Close()
	if interrupted, err := s.ReadLines(t.Context(), silent, keep); !interrupted || err != nil {
		t.Errorf("after the end of the session: %v, %v", interrupted, err)
	}
}

// answers is a Prompter with prepared answers, which keeps the questions.
type answers struct {
	list []string
	said []string
}

func (a *answers) Say(text string) { a.said = append(a.said, text) }

func (a *answers) Line(prompt string) (string, error) { return a.Secret(prompt) }

func (a *answers) Secret(prompt string) (string, error) {
	a.said = append(a.said, prompt)
	if len(a.list) == 0 {
		return "", errors.New("no answer to " + prompt)
	}
	next := a.list[0]
	a.list = a.list[1:]
	return next, nil
}

// registrar serves an HTTP API that registers any name but bob's with the invite code
// "come in".
func registrar(t *testing.T, srv *clienttest.Server) (url string) {
	t.Helper()
	next := uint32(10)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u struct {
			Name     string `json:"user_name"`
			Password string `json:"password"`
			Invite   string `json:"invite_code"`
		}
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(&u); err != nil {
				t.Error(err)
			}
		}
		switch {
		case r.Method == http.MethodGet:
			fmt.Fprint(w, `{"error_code":0,"invite_needed":true,"min_password":8}`)
		case u.Invite != "come in":
			fmt.Fprint(w, `{"error_code":2,"field":"invite_code","error_msg":"wrong"}`)
		case u.Name == "bob":
			fmt.Fprint(w, `{"error_code":3,"field":"user_name","error_msg":"taken"}`)
		default:
			srv.AddUser(next, u.Name)
			srv.SetPassword(u.Name, u.Password)
			fmt.Fprintf(w, `{"error_code":0,"user_id":%d}`, next)
		}
	}))
	t.Cleanup(web.Close)
	return web.URL
}

// TestRegistrationDialog answers the questions of a registration, some of them wrong at
// first.
func TestRegistrationDialog(t *testing.T) {
	srv := clienttest.New(t)
	srv.AddUser(2, "bob")
	ask := &answers{list: []string{
		"guess",                             // password of the login, which fails
		"y",                                 // register
		"come on",                           // invite code, wrong
		"short", "long enough", "different", // password, too short, then not repeated
		"long enough", "long enough",
		"come in",
		"carol", // another name
	}}
	seen := newRecorder()
	s, err := Open(t.Context(), Options{
		User: "bob", MsgServer: srv.Addr(), API: registrar(t, srv), Progress: time.Second,
	}, seen, ask)
	if err != nil {
		t.Fatalf("%v after %q", err, ask.said)
	}
	defer s.Close()
	if name := s.Book.Self().Name; name != "carol" || strings.Join(seen.registered,
		",") != "carol 10" {
		t.Errorf("logged in as %s, registered %q", name, seen.registered)
	}
	if len(ask.list) > 0 {
		t.Errorf("answers left: %q", ask.list)
	}
	said := strings.Join(ask.said, "\n")
	for _, want := range []string{
		"Password of bob: ", "name or password is wrong", "Register bob as somebody new? [y/N] ",
		"the invite code is wrong.", "A password has at least 8 characters.",
		"The two are not the same.", "the name is taken.", "Another name: ",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing:\n%s", want, said)
		}
	}
}

// TestLoginWithoutUser: without a Prompter nothing is asked, and the error says what to
// give.
func TestLoginWithoutUser(t *testing.T) {
	srv := clienttest.New(t)
	api := registrar(t, srv)
	for _, c := range []struct {
		name string
		opts Options
		want string
	}{
		{"no password", Options{}, ErrNoPassword.Error()},
		{"wrong password", Options{Password: "x", Given: true, API: api},
			"registers with --register"},
		{"no invite code", Options{Password: "long enough", Register: true, API: api},
			"give --invite"},
		{"nowhere to register", Options{Register: true}, "say with --api where to register"},
	} {
		c.opts.User, c.opts.MsgServer = "dave", srv.Addr()
		s, err := Open(t.Context(), c.opts, newRecorder(), nil)
		if err == nil {
			s.Close()
			t.Errorf("%s: logged in", c.name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
