//go:build linux

package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// chatOnce runs "chat" without a terminal and without input, and returns its exit code, the events in its output, and what it said on standard error.
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

// registerURL returns the address at which the login server lets people register; "" when there
// is none. It waits until the login server lists a message server: without one the answer names
// no address, and a server is ready before it is announced.
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

// TestRegister: somebody new registers from a script with an invite code, and is logged in; what goes wrong is said in clear words. Where registration is
// not open, that is said.
func TestRegister(t *testing.T) {
	t.Parallel()
	file := apps(t)
	forEachShape(t, settings{users: 1}, func(t *testing.T, sys *deployment) {
		refused := func(want string, args ...string) {
			t.Helper()
			code, events, said := chatOnce(t, append(args, "--server", sys.url(), "--json")...)
			if code != 1 || len(events) > 0 || strings.Count(said, "\n") != 1 || !strings.Contains(said, want) {
				t.Errorf("chat %s: exit code %d, %v, said %q, want %q", args, code, events, said, want)
			}
		}
		if url := registerURL(t, sys.url()); url != "" {
			t.Errorf("told to register at %s", url)
		}
		refused("lets nobody register from here", "carol", "--register", "--password", "long enough", "--invite", "come in!")
		if _, _, said := chatOnce(t, "carol", "--password", "long enough", "--server", sys.url()); strings.Contains(said, "--register") {
			t.Errorf("who is not there was told: %s", said)
		}

		api := startHTTPAPI(t, sys, file)
		if sys.separate {
			sys.login.stop()
			sys.login.extra = []string{"--login.register", "http://" + api.addr}
			sys.login.start()
			until(t, "the message servers to be known again", func() bool { return sys.login.metric("teamtalk_login_message_servers", "") == 2 })
		}
		if url := registerURL(t, sys.url()); url != "http://"+api.addr {
			t.Errorf("told to register at %q", url)
		}
		carol := []string{"carol", "--register", "--password", "long enough", "--invite", "come in!"}
		code, events, said := chatOnce(t, append(carol, "--nick", "Carol C.", "--server", sys.url(), "--json")...)
		if code != 0 || len(events) != 3 || events[0]["event"] != "registered" || events[0]["user"] != "carol" || events[0]["id"] == nil ||
			events[1]["event"] != "ready" || events[2]["event"] != "end" {
			t.Fatalf("exit code %d, %v, said %q", code, events, said)
		}
		if code, _, said := chatOnce(t, "carol", "--password", "long enough", "--server", sys.url()); code != 0 {
			t.Errorf("a later login: exit code %d, %s", code, said)
		}
		if list := mustRun(t, append([]string{"user", "list"}, sys.store...)...); !strings.Contains(list, "Carol C.") {
			t.Errorf("users:\n%s", list)
		}
		dave := func(args ...string) []string { return append([]string{"dave", "--register"}, args...) }
		refused("the name is taken", carol...)
		refused("an invite code is needed", dave("--password", "long enough")...)
		refused("the invite code is wrong", dave("--password", "long enough", "--invite", "come in?")...)
		refused("at least 8 characters", dave("--password", "short", "--invite", "come in!")...)
		refused("no password to register with", dave("--invite", "come in!")...)
		refused("a name has 2 to 32", "da ve", "--register", "--password", "long enough", "--invite", "come in!")
		refused("say with --api where", dave("--password", "long enough", "--msg-server", sys.msgAddr[0])...)
		refused("somebody new registers with --register", "dave", "--password", "guess")
		refused("not open at http://"+sys.loginHTTP+"/query/Register", dave("--password", "long enough", "--api", sys.loginHTTP)...)
		code, events, said = chatOnce(t, dave("--password", "long enough", "--invite", "come in!", "--json", "--msg-server", sys.msgAddr[0], "--api", api.addr)...)
		if code != 0 || len(events) != 3 {
			t.Errorf("with --api: exit code %d, %v, said %q", code, events, said)
		}
		for range 20 { // what one address may try
			_, _, said = chatOnce(t, "x", "--register", "--password", "long enough", "--invite", "come in!", "--server", sys.url())
			if strings.Contains(said, "try again in some minutes") {
				return
			}
		}
		t.Errorf("after 20 tries: %s", said)
	})
}

// TestRegisterInDemo: on the machine of a demo a third person registers, asked at a terminal for everything that is needed, and talks to the other two.
func TestRegisterInDemo(t *testing.T) {
	clients, loginHTTP, api := reserve(t), reserve(t), reserve(t)
	s := newServer(t, "demo", "serve", "--demo", "--data-dir", filepath.Join(t.TempDir(), "data"), "--msg.listen", clients, "--login.http-listen", loginHTTP,
		"--login.client-listen", reserve(t), "--msfs.listen", reserve(t), "--file.listen", reserve(t), "--http.listen", ":"+strings.Split(api, ":")[1])
	s.start()
	url := "http://" + loginHTTP
	until(t, "the banner", func() bool { return strings.Contains(s.out.String(), "chat NAME --register --server "+url) })
	if got := registerURL(t, url); got != "http://"+api { // this machine's address, also though every address was to be listened on
		t.Errorf("told to register at %q", got)
	}
	alice := &chatter{t: t, user: "alice", args: []string{"chat", "alice", "--json", "--password", "demo", "--server", url}}
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
	carol.sees("New password of carol: ")
	carol.types("secret enough")
	carol.sees("The same again: ")
	carol.types("secret typo")
	carol.sees("The two are not the same.")
	carol.sees("New password of carol: ")
	carol.types("secret enough")
	carol.sees("The same again: ")
	carol.types("secret enough")
	carol.sees("Registered carol.")
	carol.sees("Logged in as carol")
	alice.say(`{"to":"carol","text":"Welcome"}`) // who was not there when she logged in
	carol.sees("Welcome")
	carol.types("/msg alice Hello from somebody new")
	if m := alice.await("to get a message", func(e chatEvent) bool { return e.Event == "message" }); m.From != "carol" || m.Text != "Hello from somebody new" {
		t.Errorf("alice got %+v", m)
	}
	carol.types("/quit")
	carol.ends(0)
	if strings.Contains(carol.shown.String(), "secret") {
		t.Error("a password was shown")
	}

	taken := atTerminal(t, "chat", "bob", "--register", "--server", url)
	taken.sees("New password of bob: ")
	taken.types("secret enough")
	taken.sees("The same again: ")
	taken.types("secret enough")
	taken.sees("the name is taken.")
	taken.sees("Another name: ")
	taken.types("dave")
	taken.sees("Registered dave.")
	taken.sees("Logged in as dave")
	taken.types("/quit")
	taken.ends(0)

	no := atTerminal(t, "chat", "erin", "--server", url)
	no.sees("Password of erin: ")
	no.types("secret enough")
	no.sees("[y/N] ")
	no.types("")
	no.sees("not logged in")
	no.ends(1)
}
