//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// reloading is a process whose files of settings and of systems a test changes.
type reloading struct {
	t              testing.TB
	sys            *deployment
	api            *httpAPI
	settings, apps string // files
	ok, refused    float64
}

// deployReloading runs a process with all roles on files with these contents.
func deployReloading(t testing.TB, settingsText, appsText string) *reloading {
	t.Helper()
	dir := t.TempDir()
	r := &reloading{t: t, settings: filepath.Join(dir, "teamtalk.toml"),
		apps: filepath.Join(dir, "apps.toml")}
	r.write(settingsText, appsText)
	r.sys = deployAllInOne(t, settings{users: 2, flags: []string{"--config", r.settings}})
	r.api = startHTTPAPI(t, r.sys, r.apps)
	return r
}

// write replaces both files.
func (r *reloading) write(settingsText, appsText string) {
	r.t.Helper()
	for file, text := range map[string]string{r.settings: settingsText, r.apps: appsText} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// hangup replaces both files, sends SIGHUP, and waits until the server has read them. refused says
// that it must refuse them.
func (r *reloading) hangup(settingsText, appsText string, refused bool) {
	r.t.Helper()
	r.write(settingsText, appsText)
	result, count := "ok", &r.ok
	if refused {
		result, count = "refused", &r.refused
	}
	*count++
	s := r.sys.msg[0]
	s.signal(syscall.SIGHUP)
	until(r.t, "the settings to be "+result, func() bool {
		return s.metric("teamtalk_settings_reloads_total", `result="`+result+`"`) == *count
	})
}

// register tries to register a user with an invite code, and returns the answer's error_code; -1
// for an answer without.
func (r *reloading) register(name, invite string) float64 {
	r.t.Helper()
	body := fmt.Sprintf(`{"user_name":%q,"password":"long enough","invite_code":%q}`, name, invite)
	rsp, err := http.Post("http://"+r.api.addr+"/query/Register", "application/json",
		strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer rsp.Body.Close()
	answer := struct {
		Code *float64 `json:"error_code"`
	}{}
	if json.NewDecoder(rsp.Body).Decode(&answer) != nil || answer.Code == nil {
		return -1
	}
	return *answer.Code
}

// codeInUse registers a user. The code wrong must be refused, and code accepted.
func (r *reloading) codeInUse(name, code, wrong string) {
	r.t.Helper()
	if got := r.register(name, wrong); got != 2 {
		r.t.Errorf("error_code %v with the invite code %q", got, wrong)
	}
	if got := r.register(name, code); got != 0 {
		r.t.Errorf("error_code %v with the invite code %q", got, code)
	}
}

// logged reports whether the log has a line with all of these texts.
func (r *reloading) logged(texts ...string) bool {
	r.t.Helper()
	log, err := os.ReadFile(r.sys.msg[0].log)
	if err != nil {
		r.t.Fatal(err)
	}
line:
	for line := range strings.Lines(string(log)) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue line
			}
		}
		return true
	}
	return false
}

// TestReload changes settings and invite codes while the server runs. A file that is wrong changes
// nothing, also not what another file would change.
func TestReload(t *testing.T) {
	t.Parallel()
	invites := func(codes string) string { return "[register]\ninvites = [" + codes + "]\n" }
	r := deployReloading(t, "[msg]\nrate = 20\n", invites(`"come in!"`))
	if code := r.register("carol", "come in!"); code != 0 {
		t.Fatalf("register: error_code %v", code)
	}

	r.hangup("[msg]\nrate = 0.001\nrate_burst = 2\nmax_connections = 1\nack = \"stored\"\n",
		invites(`"the second code"`), false)
	r.codeInUse("dave", "the second code", "come in!")
	if !r.logged("level=WARN", "take effect at a restart", "msg.ack") ||
		!r.logged("settings read again", "msg.max_connections, msg.rate, msg.rate_burst") {
		t.Error("the log does not say what has changed, and what needs a restart")
	}
	c, _ := loggedIn(t, r.sys.msgAddr[0], "u00001", windows)
	for seq := range uint16(3) {
		c.send(10+seq, text(2, "hello"))
	}
	until(t, "a text beyond the rate", func() bool {
		return r.sys.msg[0].metric("teamtalk_msg_dropped_total", `reason="rate"`) == 1
	})
	dial(t, r.sys.msgAddr[0]).closed() // a second connection

	r.hangup("[msg]\nrate = 20\n\nrate_burst = \"many\"\n", invites(`"come in!"`), true)
	r.hangup("[msg]\nrate = 20\n", invites(`"short"`), true)
	r.hangup("[msg]\nrate = 20\n", invites(`"come in!"`)+"opne = true\n", true)
	for _, why := range [][]string{
		{r.settings + ":4", "msg.rate_burst", "number without quotes"},
		{"http.apps_file", "invite code of 5 characters"},
		{"http.apps_file", r.apps + ":3", "no such key: register.opne"},
	} {
		if !r.logged(append(why, "level=ERROR", "settings not read again")...) {
			t.Errorf("the log does not say %q", why)
		}
	}
	r.codeInUse("erin", "the second code", "come in!")
	if s := r.sys.msg[0].probe("/readyz"); s != http.StatusOK {
		t.Errorf("/readyz answers %d", s)
	}

	r.hangup("[msg]\nmax_connections = 10\n", "", false)
	if code := r.register("frank", "the second code"); code != -1 {
		t.Errorf("register: error_code %v, want no such page", code)
	}
	loggedIn(t, r.sys.msgAddr[0], "u00002", windows)
}

// TestTerminalGone: a server at a terminal that is closed ends in order. Elsewhere SIGHUP lets it
// read its settings again.
func TestTerminalGone(t *testing.T) {
	t.Parallel()
	person, side := openTerminal(t)
	s := newServer(t, "all", "serve", "--data-dir", filepath.Join(t.TempDir(), "data"),
		"--roles", "login", "--login.client-listen", "127.0.0.1:0",
		"--login.http-listen", "127.0.0.1:0", "--login.server-listen", "off")
	s.stdin = side
	s.start()
	s.signal(syscall.SIGHUP)
	until(t, "the settings to be read again", func() bool {
		return s.metric("teamtalk_settings_reloads_total", `result="ok"`) == 1
	})
	person.Close()
	// Until another program that the tests begin has closed the copy that it inherits, the
	// terminal stays.
	if n, err := side.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("%d bytes from a closed terminal", n)
	}
	side.Close()
	s.signal(syscall.SIGHUP)
	if code := s.awaitExit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
