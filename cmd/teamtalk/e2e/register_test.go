//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// chatOnce runs "chat" without a terminal and without input. It returns the exit code,
// the events of the output, and the text on standard error.
func chatOnce(t *testing.T, args ...string) (code int, events []map[string]any, said string) {
	t.Helper()
	code, out, said := command(t, append([]string{"chat"}, args...)...)
	for line := range strings.Lines(out) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return code, events, said
}

// registerURL returns the URL at which users may register, by the answer of the login
// server, or "" without one. It waits until the login server lists a message server:
// before, the answer names no URL, and a process is ready before its message server is
// announced.
func registerURL(t *testing.T, login string) string {
	t.Helper()
	var a struct {
		Port, Register string
	}
	until(t, "a message server to be listed", func() bool {
		rsp, err := http.Get(login + "/msg_server")
		if err != nil {
			t.Fatal(err)
		}
		defer rsp.Body.Close()
		if err := json.NewDecoder(rsp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		return a.Port != ""
	})
	return a.Register
}

// TestRegister registers a new user from a script with an invite code, and logs the user
// in. A refused registration gets a clear error, also where no user may register.
func TestRegister(t *testing.T) {
	t.Parallel()
	file := apps(t)
	forEachShape(t, settings{users: 1}, func(t *testing.T, sys *deployment) {
		refuseRegistration(t, sys)
		api := startHTTPAPI(t, sys, file)
		if sys.separate {
			sys.login.stop()
			sys.login.extra = []string{"--login.register", "http://" + api.addr}
			sys.login.start()
			until(t, "both message servers at the login server", func() bool {
				return sys.login.metric("teamtalk_login_message_servers", "") == 2
			})
		}
		equal(t, "URL of registration", registerURL(t, sys.url()), "http://"+api.addr)
		registerCarol(t, sys)
		refuseDave(t, sys)
		code, events, said := chatOnce(t, append(dave, "--password", "long enough", "--invite",
			"come in!", "--json", "--msg-server", sys.msgAddr[0], "--api", api.addr)...)
		if code != 0 || len(events) != 3 {
			t.Errorf("with --api: exit code %d, %v, error %q", code, events, said)
		}
		limitTries(t, sys, api)
	})
}

// carol and dave are command lines that register a user. That of dave is not complete.
var (
	carol = []string{"carol", "--register", "--password", "long enough", "--invite", "come in!"}
	dave  = []string{"dave", "--register"}
)

// refusedChat runs chat, which must fail with one line that contains want.
func refusedChat(t *testing.T, sys *deployment, want string, args ...string) {
	t.Helper()
	code, events, said := chatOnce(t, append(args, "--server", sys.url(), "--json")...)
	if code != 1 || len(events) > 0 || strings.Count(said, "\n") != 1 ||
		!strings.Contains(said, want) {
		t.Errorf("chat %s: exit code %d, %v, error %q, want %q", args, code, events, said, want)
	}
}

// refuseRegistration checks a system in which no user may register. It names no URL, and
// the error of an unknown user does not recommend --register.
func refuseRegistration(t *testing.T, sys *deployment) {
	t.Helper()
	equal(t, "URL of registration", registerURL(t, sys.url()), "")
	refusedChat(t, sys, "lets nobody register from here", carol...)
	_, _, said := chatOnce(t, "carol", "--password", "long enough", "--server", sys.url())
	if strings.Contains(said, "--register") {
		t.Errorf("the error of an unknown user: %s", said)
	}
}

// registerCarol registers carol. The user can log in at once and later.
func registerCarol(t *testing.T, sys *deployment) {
	t.Helper()
	code, events, said := chatOnce(t, append(carol, "--nick", "Carol C.", "--server", sys.url(),
		"--json")...)
	var kinds []any
	for _, e := range events {
		kinds = append(kinds, e["event"])
	}
	equal(t, "events", kinds, []any{"registered", "ready", "end"})
	if code != 0 || len(events) == 0 || events[0]["user"] != "carol" || events[0]["id"] == nil {
		t.Fatalf("exit code %d, %v, error %q", code, events, said)
	}
	code, _, said = chatOnce(t, "carol", "--password", "long enough", "--server", sys.url())
	if code != 0 {
		t.Errorf("a later login: exit code %d, %s", code, said)
	}
	list := mustRun(t, append([]string{"user", "list"}, sys.store...)...)
	if !strings.Contains(list, "Carol C.") {
		t.Errorf("users:\n%s", list)
	}
}

// refuseDave tries registrations that the server or the client refuses.
func refuseDave(t *testing.T, sys *deployment) {
	t.Helper()
	long := []string{"--password", "long enough"}
	for _, x := range []struct {
		want string
		args []string
	}{
		{"the name is taken", carol},
		{"an invite code is needed", slices.Concat(dave, long)},
		{"the invite code is wrong", slices.Concat(dave, long, []string{"--invite", "come in?"})},
		{"at least 8 characters",
			slices.Concat(dave, []string{"--password", "short", "--invite", "come in!"})},
		{"no password to register with", slices.Concat(dave, []string{"--invite", "come in!"})},
		{"a name has 2 to 32", slices.Concat([]string{"da ve", "--register"}, long,
			[]string{"--invite", "come in!"})},
		{"say with --api where",
			slices.Concat(dave, long, []string{"--msg-server", sys.msgAddr[0]})},
		{"somebody new registers with --register", []string{"dave", "--password", "guess"}},
		{"not open at http://" + sys.loginHTTP + "/query/Register",
			slices.Concat(dave, long, []string{"--api", sys.loginHTTP})},
	} {
		refusedChat(t, sys, x.want, x.args...)
	}
}

// limitTries registers from one address until the server refuses more tries. The server allows
// one more every 6 s, and a start of chat may take longer, so another client of the address
// takes those.
func limitTries(t *testing.T, sys *deployment, api *httpAPI) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	refused := make(chan struct{})
	var other sync.WaitGroup
	other.Go(func() {
		for full := false; ctx.Err() == nil; time.Sleep(longestPause) { // between two polls
			if code := tryRegister(ctx, api.addr); code == 8 && !full { // too many
				full = true
				close(refused)
			}
		}
	})
	defer func() { stop(); other.Wait() }()
	<-refused
	until(t, "chat to be refused", func() bool {
		_, _, said := chatOnce(t, "x", "--register", "--password", "long enough", "--invite",
			"come in!", "--server", sys.url())
		return strings.Contains(said, "try again in some minutes")
	})
}

// tryRegister registers under a name that is too short, and returns the error_code of the
// answer, or -1.
func tryRegister(ctx context.Context, addr string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/query/Register",
		strings.NewReader(`{"user_name":"x","password":"long enough","invite_code":"come in!"}`))
	if err != nil {
		return -1
	}
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		return -1
	}
	defer rsp.Body.Close()
	var got struct {
		Code int `json:"error_code"`
	}
	if json.NewDecoder(rsp.Body).Decode(&got) != nil {
		return -1
	}
	return got.Code
}

// TestRegisterInDemo registers users at a terminal on the machine of a demo. The program
// asks for everything that it needs.
func TestRegisterInDemo(t *testing.T) {
	loginHTTP, api := reserve(t), reserve(t)
	s := newServer(t, "demo", "serve", "--demo", "--data-dir", filepath.Join(t.TempDir(), "data"),
		"--msg.listen", reserve(t), "--login.http-listen", loginHTTP,
		"--login.client-listen", reserve(t), "--msfs.listen", reserve(t),
		"--file.listen", reserve(t), "--http.listen", ":"+strings.Split(api, ":")[1],
		"--web.listen", reserve(t))
	s.start()
	url := "http://" + loginHTTP
	until(t, "the banner", func() bool {
		return strings.Contains(s.out.String(), "chat NAME --register --server "+url)
	})
	// The API listens on all addresses, and the login server names that of this machine.
	equal(t, "URL of registration", registerURL(t, url), "http://"+api)

	t.Run("an unknown user registers and chats", func(t *testing.T) { registerAndChat(t, url) })
	t.Run("a user chooses another name", func(t *testing.T) {
		bob := atTerminal(t, "chat", "bob", "--register", "--server", url)
		bob.choosesPassword("bob", "secret enough", "secret enough")
		bob.sees("the name is taken.")
		bob.sees("Another name: ")
		bob.types("dave")
		bob.sees("Registered dave.")
		bob.sees("Logged in as dave")
		bob.types("/quit")
		bob.ends(0)
	})
	t.Run("a terminal does not say where its cursor is", func(t *testing.T) {
		alice := &typist{t: t, mute: true}
		alice.start([]string{"chat", "alice", "bob", "--password", "demo", "--server", url})
		alice.sees("bob> ")
		alice.types("Hello")
		alice.sees("you: Hello")
		alice.sees("bob> ")
		alice.types("/quit")
		alice.ends(0)
	})
	t.Run("a user declines", func(t *testing.T) {
		erin := atTerminal(t, "chat", "erin", "--server", url)
		erin.sees("Password of erin: ")
		erin.types("secret enough")
		erin.sees("[y/N] ")
		erin.types("")
		erin.sees("not logged in")
		erin.ends(1)
	})
}

// choosesPassword answers the prompts for a new password and its repetition.
func (p *typist) choosesPassword(name, password, again string) {
	p.t.Helper()
	p.sees("New password of " + name + ": ")
	p.types(password)
	p.sees("The same again: ")
	p.types(again)
}

// registerAndChat lets carol log in at a terminal. The login fails, so the program offers
// to register her. Then she and alice exchange messages. The terminal shows no password.
func registerAndChat(t *testing.T, url string) {
	alice := &chatter{t: t, user: "alice",
		args: []string{"chat", "alice", "--json", "--password", "demo", "--server", url}}
	alice.start()
	defer alice.quit()

	carol := atTerminal(t, "chat", "carol", "--server", url)
	carol.sees("Password of carol: ")
	carol.types("secret guess")
	carol.sees("name or password is wrong")
	carol.sees("Register carol as somebody new? [y/N] ")
	carol.types("y")
	carol.sees("New password of carol: ")
	carol.types("short")
	carol.sees("A password has at least 8 characters.")
	carol.choosesPassword("carol", "secret enough", "secret typo")
	carol.sees("The two are not the same.")
	carol.choosesPassword("carol", "secret enough", "secret enough")
	carol.sees("Registered carol.")
	carol.sees("Logged in as carol")
	// alice logged in before carol existed.
	alice.enter(`{"to":"carol","text":"Welcome"}`)
	carol.sees("Welcome")
	carol.types("/msg alice Hello from somebody new")
	m := alice.await("to get a message", func(e chatEvent) bool { return e.Event == "message" })
	if m.From != "carol" || m.Text != "Hello from somebody new" {
		t.Errorf("alice got %+v", m)
	}
	carol.types("/quit")
	carol.ends(0)
	if strings.Contains(carol.shown.String(), "secret") {
		t.Error("the terminal showed a password")
	}
}
