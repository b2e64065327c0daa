package system

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/core/cert/certtest"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/redisregistry"
)

// found starts roles whose settings name no server of others.
func found(t *testing.T, redis *dbtest.RedisServer, name, roles string,
	more ...string) *system {
	t.Helper()
	set := map[string]string{"roles": roles, "link.backoff_max": "1s"}
	for i := 0; i < len(more); i += 2 {
		set[more[i]] = more[i+1]
	}
	return registered(t, redis, name, set)
}

// state returns what a process says of a part.
func state(t *testing.T, s *system, part string) string {
	t.Helper()
	return s.ready.Check(t.Context()).Checks[part]
}

// counted returns the sum of a metric over the lines with a value of a label.
func counted(t *testing.T, s *system, name, label string) (sum float64) {
	t.Helper()
	all, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if family.GetName() == name && l.GetValue() == label {
					sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// sentTo returns the port of the message server that a login server names; empty: none.
func sentTo(t *testing.T, login *system) string {
	t.Helper()
	rsp, err := http.Get("http://" + login.loginHTTP() + "/msg_server")
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(string(body), `"port":"`)
	port, _, _ = strings.Cut(port, `"`)
	return port
}

// portOf returns the number of a port.
func portOf(s *system, name string) string {
	for _, p := range s.ports.List() {
		if p.Name == name {
			return fmt.Sprint(p.Addr().(*net.TCPAddr).Port)
		}
	}
	return ""
}

// completeRegistry returns a Redis with a registry that is older than a lease: nodes that leave it
// are gone at once.
func completeRegistry(t *testing.T) *dbtest.RedisServer {
	t.Helper()
	redis := dbtest.Redis(t)
	redis.Do("HINCRBY " + redisregistry.Key + " clock 60000")
	return redis
}

// TestFoundThroughRegistry starts a process for each role. None knows an address of another. The
// first one is a message server, and says what is missing. When it stops, no login server names it
// any more, and another one takes its place.
func TestFoundThroughRegistry(t *testing.T) {
	apps := filepath.Join(t.TempDir(), "apps.toml")
	if err := os.WriteFile(apps, fmt.Appendf(nil, "[[app]]\nname = \"test\"\nkey = %q\n",
		missedKey), 0o600); err != nil {
		t.Fatal(err)
	}
	redis := completeRegistry(t)
	lone := found(t, redis, "lone", "msg")
	for part, want := range map[string]string{"dbproxy": "no dbproxy server is registered",
		"route": "no route server is registered",
		"login": "degraded: no login server is registered: no client is sent here"} {
		if got := state(t, lone, part); got != want {
			t.Errorf("%s of a message server alone: %s", part, got)
		}
	}
	if lone.ready.Check(t.Context()).Ready {
		t.Error("a message server alone is ready")
	}
	found(t, redis, "db", "dbproxy")
	found(t, redis, "rt", "route")
	login := found(t, redis, "lg", "login")
	file := found(t, redis, "fs", "file", "file.check_online", "on", "file.min_free", "0B")
	api := found(t, redis, "api", "http", "http.apps_file", apps)
	eventually(t, "the first message server", func() bool {
		return lone.ready.Check(t.Context()).Ready && state(t, lone, "login") == "ok" &&
			counted(t, lone, "teamtalk_link_up", "file") == 1
	})
	eventually(t, "the file server and the HTTP API", func() bool {
		return state(t, file, "file route") == "ok" &&
			counted(t, api, "teamtalk_link_up", "route") == 1 // a system may make few calls
	})
	awaitStatus(t, api, 7, 2)
	eventually(t, "a login server that names it", func() bool {
		return sentTo(t, login) == portOf(lone, "clients")
	})
	if err := lone.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "no message server", func() bool { return sentTo(t, login) == "" })

	m := found(t, redis, "msg", "msg")
	eventually(t, "the message server", func() bool {
		return m.ready.Check(t.Context()).Ready && sentTo(t, login) == portOf(m, "clients")
	})
}

// filesURL returns the URL of small files that a login server tells clients.
func filesURL(t *testing.T, login *system) string {
	t.Helper()
	rsp, err := http.Get("http://" + login.loginHTTP() + "/msg_server")
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	var answer struct{ MSFSPrior string }
	if err := json.NewDecoder(rsp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.MSFSPrior
}

// TestSmallFilesFoundThroughRegistry: login servers announce a small file server that registers,
// and db_proxies keep sounds there. Another one takes its place when it stops.
func TestSmallFilesFoundThroughRegistry(t *testing.T) {
	redis := completeRegistry(t)
	login := found(t, redis, "lg", "login")
	found(t, redis, "msg", "msg")
	db := found(t, redis, "db", "dbproxy")
	sounds, err := filesOf(db).Sounds()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f1", "f2"} {
		files := found(t, redis, name, "msfs", "msfs.min_free", "0B")
		eventually(t, "the announcement of "+name, func() bool {
			return filesURL(t, login) == files.msfs.url+"/"
		})
		eventually(t, "sounds on "+name, func() bool {
			url, err := sounds.Put(t.Context(), "x.amr", []byte("sound"))
			return err == nil && strings.HasPrefix(url, files.msfs.url+"/")
		})
		if err := files.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "no announcement", func() bool { return filesURL(t, login) == "" })
}

// TestFoundWhileRedisIsAway: processes that know each other work while Redis is away, and after it
// has lost what it held. No link is dialed anew. The links have TLS.
func TestFoundWhileRedisIsAway(t *testing.T) {
	redis := completeRegistry(t)
	var tls []string
	own := certtest.Write(t, t.TempDir(), certtest.Options{})
	for key, value := range proved(own, "off") {
		tls = append(tls, key, value)
	}
	db, route := found(t, redis, "db", "dbproxy", tls...), found(t, redis, "rt", "route", tls...)
	login, m := found(t, redis, "lg", "login", tls...), found(t, redis, "msg", "msg", tls...)
	port := portOf(m, "clients")
	eventually(t, "the message server with all its links", func() bool {
		return sentTo(t, login) == port && m.ready.Check(t.Context()).Ready &&
			counted(t, m, "teamtalk_link_up", "dbproxy") == float64(m.cfg.Msg.DBProxyConnections)
	})
	dials := counted(t, m, "teamtalk_link_dials_total", "dbproxy")
	working := func(when string) {
		t.Helper()
		if r := m.ready.Check(t.Context()); !r.Ready || sentTo(t, login) != port {
			t.Errorf("%s: %v, clients are sent to %q", when, r.Checks, sentTo(t, login))
		}
		if n := counted(t, m, "teamtalk_link_dials_total", "dbproxy"); n != dials {
			t.Errorf("%s: %v links to dbproxy were dialed, %v before", when, n, dials)
		}
	}
	redis.Stop() // it has saved nothing
	eventually(t, "the outage", func() bool {
		const failures = "teamtalk_registry_failures_total"
		return counted(t, m, failures, "poll") > 2 && counted(t, login, failures, "poll") > 2
	})
	working("while Redis is away")
	redis.Start()
	for _, s := range []*system{m, login, db, route} {
		eventually(t, "the registry", func() bool { return state(t, s, "registry") == "ok" })
	}
	working("when Redis is back")
}

// TestLoadsThroughRegistry: a login server in the process of a message server names those of other
// processes as well, and does not name one that it cannot share users with.
func TestLoadsThroughRegistry(t *testing.T) {
	redis := dbtest.Redis(t)
	a := found(t, redis, "a", "login,msg,route,dbproxy", "route.listen", "auto",
		"dbproxy.listen", "auto")
	b := found(t, redis, "b", "login,msg,route,dbproxy")
	c := found(t, redis, "c", "msg", "msg.dbproxy", "127.0.0.1:"+portOf(b, "dbproxy"))
	seen := func(s *system) (list []string) {
		for range 4 {
			list = append(list, sentTo(t, s))
		}
		return list
	}
	eventually(t, "the other message server", func() bool {
		all := strings.Join(seen(b), " ")
		return strings.Contains(all, portOf(b, "clients")) &&
			strings.Contains(all, portOf(c, "clients"))
	})
	eventually(t, "all message servers to be known", func() bool {
		return counted(t, a, "teamtalk_registry_nodes", "msg") == 3
	})
	for _, port := range seen(a) {
		if port != portOf(a, "clients") {
			t.Errorf("a process with all roles and no port for servers sends clients to %s", port)
		}
	}
	stop, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Stop(stop); err != nil {
		t.Error(err)
	}
}

// TestStopServesLateClients: a message server that stops says in the registry that it drains, and
// serves the clients that login servers send there until they have read it.
func TestStopServesLateClients(t *testing.T) {
	redis := completeRegistry(t)
	login := found(t, redis, "lg", "login")
	eventually(t, "the login server", func() bool { return drains(t, login) != "" })
	m := found(t, redis, "msg", "msg", "registry.poll", "20s", "registry.lease", "60s")
	eventually(t, "the message server", func() bool {
		return drains(t, m) == "login/lg, msg/msg"
	})
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- m.Stop(ctx) }()
	eventually(t, "its end to be told", func() bool {
		return drains(t, m) == "login/lg, msg/msg drains"
	})
	connect(t, m)
	cancel()
	<-stopped // its error says that the stop was cut off
}
