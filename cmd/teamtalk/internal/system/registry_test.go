package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/membership"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/redisregistry"
	"teamtalk/sql/store"
)

// registered starts a process with all roles, and with settings besides, whose registry is in
// Redis. The process is stopped at the end of the test.
func registered(t *testing.T, redis *dbtest.RedisServer, name string,
	set map[string]string) *system {
	t.Helper()
	all := map[string]string{"registry.enabled": "true", "node.name": name,
		"registry.redis": "redis://" + redis.Addr(), "registry.poll": "100ms",
		"registry.renew": "500ms", "registry.lease": "20s"}
	for key, value := range set {
		all[key] = value
	}
	s, err := start(t.Context(), testOptions(t, all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

// eventually polls until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond) // polls other goroutines, which send no event
	}
}

// listed returns the registered servers, one in a line.
func listed(t *testing.T, r *redisregistry.Registry) string {
	t.Helper()
	list, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "%s %s %q %q\n", e.Key(), e.Version, e.Addr, e.Clients)
	}
	return b.String()
}

// TestRegistered registers all roles of a process. Another process with the name takes them, and
// the first one ends with an error that names the setting.
func TestRegistered(t *testing.T) {
	redis := dbtest.Redis(t)
	a := registered(t, redis, "a", map[string]string{"msg.advertise_ip1": "203.0.113.1",
		"msg.advertise_ip2": "203.0.113.2", "msg.advertise_port": "9000",
		"route.listen": "0.0.0.0:0", "registry.advertise": "hub",
		"link_tls.plaintext_beyond_loopback": "true"})
	reader := redisregistry.Open(open.RegistryOptions(a.cfg,
		store.Instance{Addrs: []string{redis.Addr()}}))
	defer reader.Close()
	eventually(t, "the registration", func() bool {
		return a.ready.Check(t.Context()).Ready &&
			a.ready.Check(t.Context()).Checks["registry"] == "ok"
	})
	port := func(s *system, name string) int {
		for _, p := range s.ports.List() {
			if p.Name == name {
				return p.Addr().(*net.TCPAddr).Port
			}
		}
		return 0
	}
	want := fmt.Sprintf("dbproxy/a  \"hub:%d\" []\nfile/a  \"hub:%d\" [\"127.0.0.1:%d\"]\n"+
		"http/a  \"\" [%q]\nlogin/a  \"hub:%d\" [\"hub:%d\" "+
		"\"http://hub:%d/msg_server\"]\n"+
		"msfs/a  \"\" [%q]\nmsg/a  \"\" [\"203.0.113.1:9000\" \"203.0.113.2:9000\"]\n"+
		"push/a  \"\" []\nroute/a  \"hub:%d\" []\n", port(a, "dbproxy"),
		port(a, "file servers"), port(a, "file"), a.api.url, port(a, "login servers"),
		port(a, "login"), a.login.http.Addr().(*net.TCPAddr).Port, a.msfs.url,
		port(a, "route"))
	if got := listed(t, reader); got != want {
		t.Errorf("registered:\n%s\nwant:\n%s", got, want)
	}

	b := registered(t, redis, "a", map[string]string{"roles": "msfs,route"})
	wait, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := a.Wait(wait)
	known := new(membership.ReplacedError)
	if !errors.As(err, &known) || known.ExitCode() != 3 || !strings.Contains(err.Error(),
		"environment TEAMTALK_NODE_NAME: node.name: another process") {
		t.Fatalf("the first process ended with: %v", err)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got := listed(t, reader); strings.Count(got, "\n") != 2 ||
		!strings.Contains(got, fmt.Sprintf("route/a  \"127.0.0.1:%d\" []\n", port(b, "route"))) {
		t.Errorf("after the end of the first process:\n%s", got)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got := listed(t, reader); got != "" {
		t.Errorf("after all have stopped:\n%s", got)
	}
}

// TestRegistryAway starts a process while Redis is away. It serves, says that the registry is
// degraded, and registers once Redis is back. It also stops while Redis is away.
func TestRegistryAway(t *testing.T) {
	redis := dbtest.Redis(t)
	redis.Stop()
	s := registered(t, redis, "a", nil)
	state := func() string { return s.ready.Check(t.Context()).Checks["registry"] }
	eventually(t, "the state", func() bool {
		return strings.HasPrefix(state(), "degraded: the registry in Redis at "+
			redis.Addr()+" has not worked for ")
	})
	if !s.ready.Check(t.Context()).Ready {
		t.Error("the process is not ready")
	}
	redis.Start()
	eventually(t, "the registration", func() bool { return state() == "ok" })
	redis.Stop()
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("the stop failed: %v", err)
	}
}

// TestNeverRegistered stops a process that has not reached Redis. Its log has no line about what
// the registry still has of it.
func TestNeverRegistered(t *testing.T) {
	var log bytes.Buffer
	opt := testOptions(t, map[string]string{"registry.enabled": "true", "node.name": "a",
		"registry.redis": "redis://127.0.0.1:1"})
	opt.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, err := start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the failure", func() bool {
		return strings.HasPrefix(s.ready.Check(t.Context()).Checks["registry"],
			"degraded: the registry in Redis at 127.0.0.1:1 has not worked for ")
	})
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Contains(text, "still has this process") ||
		strings.Count(text, "does not work") != 1 || !strings.Contains(text, "this process is "+
		"not registered (settings registry.redis and redis.addrs)") ||
		!strings.Contains(text, "redis=127.0.0.1:1") {
		t.Errorf("the log:\n%s", text)
	}
}
