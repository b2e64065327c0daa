package system

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/system/banner"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/obs"
)

// portSettings are the settings of all ports of a process with all roles.
var portSettings = []string{
	"admin.listen", "login.client_listen", "login.http_listen", "login.server_listen", "msg.listen",
	"route.listen", "dbproxy.listen", "msfs.listen", "file.listen", "file.server_listen",
	"push.listen",
	"http.listen",
}

// testOptions returns the options of a process with all roles on free ports of this
// machine, with the given settings instead.
func testOptions(t *testing.T, set map[string]string) Options {
	t.Helper()
	all := map[string]string{"data_dir": t.TempDir()}
	for _, key := range portSettings {
		all[key] = "127.0.0.1:0"
	}
	for key, value := range set {
		all[key] = value
	}
	var env []string
	for key, value := range all {
		env = append(env, "TEAMTALK_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))+"="+value)
	}
	cfg, err := config.Load(config.Sources{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Config: cfg, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Demo: true}
}

// TestStopOrder lists the stops of a process with all roles, in the order in which they
// run.
func TestStopOrder(t *testing.T) {
	s, err := start(t.Context(), testOptions(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	got := s.stops.Names()
	want := []string{
		// Login servers send no client here.
		"link to login",
		// New connections are refused, while work on the open ones continues.
		"port for clients", "port for login", "port for login servers", "port for file servers",
		"port for file", "port for route", "port for dbproxy", "port for push",
		// Accepted work is finished.
		"HTTP API", "file listing", "file comparison", "message server", "dbproxy", "workers",
		"file expiry", "watch of the store", "sync", "server of sounds",
		// Clients are closed before links: the other servers learn that the users are
		// gone.
		"port for clients", "port for login", "port for file",
		"link to file", "link to route", "link to dbproxy", "link to route",
		"link to dbproxy", "link to route", "link to dbproxy",
		"port for login servers", "port for file servers", "port for route", "port for dbproxy",
		"port for push",
		"file notifies", "spool sweep", "file workers", "spool", "push", "login HTTP", "msfs",
		"msfs store", "store", "admin",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("stops:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// descriptors returns the files and sockets that this process has open.
func descriptors(t *testing.T) (open []string) {
	t.Helper()
	const dir = "/proc/self/fd"
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Skipf("this system does not list open files: %v", err)
	}
	for _, e := range list {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && !strings.HasPrefix(to, "/proc/") { // not the one that ReadDir had open
			open = append(open, e.Name()+" "+to)
		}
	}
	return open
}

// leaked returns the sockets, pollers and files below dir that are in after and not in
// before.
func leaked(dir string, before, after []string) (more []string) {
	had := map[string]bool{}
	for _, d := range before {
		had[d] = true
	}
	for _, d := range after {
		if !had[d] && (strings.Contains(d, "socket:") || strings.Contains(d, "eventpoll") ||
			strings.Contains(d, dir)) {
			more = append(more, d)
		}
	}
	return more
}

// TestFailedStartLeavesNothing makes each port fail in turn, so that every start ends at
// another place. The parts that were started before must be gone: no socket is open any
// more, and the same data_dir serves the next start.
func TestFailedStartLeavesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	for _, key := range portSettings {
		t.Run(key, func(t *testing.T) {
			before := descriptors(t)
			opt := testOptions(t, map[string]string{"data_dir": dir, key: taken.Addr().String()})
			s, err := start(t.Context(), opt)
			if err == nil {
				_ = s.Stop(t.Context())
				t.Fatal("the start did not fail")
			}
			if !strings.Contains(err.Error(), "setting "+key) {
				t.Errorf("the error does not name the setting %s: %v", key, err)
			}
			if more := leaked(dir, before, descriptors(t)); len(more) > 0 {
				t.Errorf("open after the failed start: %q", more)
			}
		})
	}
	s, err := start(t.Context(), testOptions(t, map[string]string{"data_dir": dir}))
	if err != nil {
		t.Fatalf("start after the failed ones: %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestWaitReturnsTheFirstFailure: a part that ends by itself ends the process with its
// error, and further failures do not block.
func TestWaitReturnsTheFirstFailure(t *testing.T) {
	s := &system{failed: make(chan error, 1)}
	first := errors.New("first")
	s.fail(first)
	s.fail(errors.New("second"))
	if err := s.Wait(t.Context()); err != first {
		t.Errorf("Wait returned %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ended); err != nil {
		t.Errorf("Wait returned %v after the end of its context", err)
	}
}

// TestBannerWithoutTLS opens each port for clients to other machines: the banner says once that
// nothing is encrypted, and with which flags it would be.
func TestBannerWithoutTLS(t *testing.T) {
	const says = "passwords and texts cross the network in clear text"
	for _, key := range []string{"", "login.client_listen", "login.http_listen", "msg.listen",
		"msfs.listen", "file.listen"} {
		set, want := map[string]string{}, 0
		if key != "" {
			set[key], want = ":0", 1
		}
		s, err := start(t.Context(), testOptions(t, set))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		s.banner(&b, obs.Version{})
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if got := strings.Count(b.String(), says); got != want {
			t.Errorf("%s: the banner says it %d times, want %d:\n%s", key, got, want, b.String())
		}
		flags := banner.Self() + " serve --tls.certificate FILE --tls.key FILE"
		if want == 1 && !strings.Contains(b.String(), flags) {
			t.Errorf("%s: the banner lacks %q:\n%s", key, flags, b.String())
		}
	}
}

// TestDemoUsersRemain: a server that other machines reach says that the users of a demo on the same
// store still have their password, until it is changed. A demo on this machine does not.
func TestDemoUsersRemain(t *testing.T) {
	dir := t.TempDir()
	says := func(listen string, change ...string) string {
		opt := testOptions(t, map[string]string{"data_dir": dir, "msg.listen": listen})
		s, err := start(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop(t.Context())
		if err := makeDemoUsers(t.Context(), opt.Config, s.store); err != nil {
			t.Fatal(err)
		}
		for _, name := range change {
			a, err := s.store.AccountByName(t.Context(), name)
			if err == nil {
				other := im.PasswordPolicy{}.Store(im.ClientPassword("other"))
				err = s.store.SetPassword(t.Context(), a.ID, other.Hash, other.Salt)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		findOpenUsers(t.Context(), s)
		var b strings.Builder
		s.addresses(func(what, where string) { b.WriteString(what + " " + where + "\n") })
		return b.String()
	}
	const everybody = "everybody can log in"
	if got := says("127.0.0.1:0"); strings.Contains(got, everybody) {
		t.Errorf("on this machine: %s", got)
	}
	if got := says(":0"); !strings.Contains(got, "demo users alice and bob: "+everybody) {
		t.Errorf("beyond: %s", got)
	}
	if got := says(":0", "alice"); !strings.Contains(got, "demo users bob: "+everybody) {
		t.Errorf("one is changed: %s", got)
	}
	if got := says(":0", "bob"); strings.Contains(got, everybody) {
		t.Errorf("both are changed: %s", got)
	}
}

// TestBanner: the banner of a demo names all servers and the commands to try.
func TestBanner(t *testing.T) {
	s, err := start(t.Context(), testOptions(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(t.Context())
	var b strings.Builder
	s.banner(&b, obs.Version{Version: "v1"})
	for _, want := range []string{
		"TeamTalk v1: login, msg", "  clients ", "/msg_server", "  files ", "/openapi.json",
		"/metrics",
		"  store           embedded, in ", " chat alice bob --password demo --server http://",
		"For a new user, on this machine:",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing:\n%s", want, b.String())
		}
	}
}
