//go:build linux

package e2e

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"teamtalk/sql/dbtest"
	"teamtalk/sql/redisregistry"
)

// registered is a deployment whose servers find each other through the registry: no setting
// names another server.
type registered struct {
	*deployment
	common []string
}

// deployRegistered prepares the stores, and starts nothing.
func deployRegistered(t *testing.T, users int, flags ...string) *registered {
	t.Helper()
	dsn, redis := migrated.NewDatabase(t), dbtest.Redis(t)
	d := &registered{deployment: &deployment{t: t, shape: separate, separate: true,
		store: []string{"--store", "mysql", "--mysql.master", dsn, "--redis.addrs", redis.Addr()}}}
	d.common = append([]string{"--registry.enabled", "--registry.redis", "redis://" + redis.Addr(),
		"--registry.poll", "200ms", "--registry.renew", "500ms", "--registry.lease", "20s",
		"--link.backoff-max", "1s"}, flags...)
	// A registry that is older than a lease: servers that leave it are gone at once.
	redis.Do("HINCRBY " + redisregistry.Key + " clock 60000")
	d.addUsers(settings{users: users})
	return d
}

// node adds a server with a role, and starts it without waiting.
func (d *registered) node(name, role string, args ...string) *server {
	d.t.Helper()
	s := d.server(name, d.common, append([]string{"--roles", role, "--node.name", name},
		args...)...)
	s.launch()
	return s
}

// db adds a dbproxy.
func (d *registered) db(name string) *server {
	d.t.Helper()
	return d.node(name, "dbproxy", append(slices.Clone(d.store), "--dbproxy.listen",
		reserve(d.t))...)
}

// readyz returns what a server says about its state.
func (s *server) readyz() string {
	resp, err := admins.Get("http://" + s.admin + "/readyz")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// TestServersFindEachOther runs a process for each server. None knows an address of another. A
// message server that starts first says which servers are missing. Then users chat through both
// message servers, while a second dbproxy joins and takes its share, the first one leaves and
// returns, and the route server moves to another port. No text fails. A message server that
// stops is given to no client any more.
func TestServersFindEachOther(t *testing.T) {
	t.Parallel()
	const users = 8
	d := deployRegistered(t, users+2, "--msg.rate", "0", "--msg.ack", "stored")
	route := d.startAll()

	a := newTalker(t, fmt.Sprintf("u%05d", users+1), where{login: d.url()})
	b := newTalker(t, fmt.Sprintf("u%05d", users+2), where{login: d.url()})
	if a.Server() == b.Server() {
		t.Errorf("both users were sent to %s", a.Server())
	}
	talk(a, b)
	all, done := writers(t, d.msgAddr[0], "text", users, steadily)
	more := func() {
		t.Helper()
		furtherAcks(t, all, 20)
		awaitTalk(t, a, b, 2*maxWaiting+10)
	}
	more()
	d.second = d.db("db2")
	stored := func(s *server) float64 { return s.metric("teamtalk_pool_batch_items_sum", "") }
	d.second.awaitReady()
	until(t, "the second dbproxy to store texts", func() bool { return stored(d.second) > 20 })
	more()
	d.dbproxy.stop()
	more()
	d.dbproxy.start()
	until(t, "the first dbproxy to store texts again", func() bool {
		return stored(d.dbproxy) > 20
	})
	more()
	route.stop()
	route.extra = []string{"--route.listen", reserve(t)}
	route.start()
	more()

	finish(t, all, done)
	for i, w := range all {
		checkStored(t, d.msgAddr[0], fmt.Sprintf("u%05d", i+1), w)
		w.checkOrder()
	}
	hush(t, a, b)
	check(t, a, b, false)
	d.msg[1].stop()
	until(t, "the login server to list the other message server alone", func() bool {
		return d.login.metric("teamtalk_login_message_servers", "") == 1
	})
}

// startAll starts the message servers, and when they have said what is missing, one of each other
// server. It returns the route server.
func (d *registered) startAll() (route *server) {
	t := d.t
	t.Helper()
	for i := range d.msg {
		d.msgAddr[i] = reserve(t)
		d.msg[i] = d.node(fmt.Sprint("msg", i+1), "msg", "--msg.listen", d.msgAddr[i])
	}
	until(t, "the missing servers to be named", func() bool {
		text := d.msg[0].readyz()
		return strings.Contains(text, "no dbproxy server is registered") &&
			strings.Contains(text, "no route server is registered") &&
			strings.Contains(text, "degraded: no login server is registered")
	})
	d.dbproxy = d.db("db1")
	route = d.node("rt1", "route", "--route.listen", reserve(t))
	d.loginHTTP = reserve(t)
	d.login = d.node("lg1", "login", "--login.client-listen", reserve(t),
		"--login.server-listen", reserve(t), "--login.http-listen", d.loginHTTP)
	d.fileAddr = reserve(t)
	d.file = d.node("fs1", "file", "--file.listen", d.fileAddr, "--file.server-listen", reserve(t),
		"--file.min-free", "0B", "--data-dir", filepath.Join(t.TempDir(), "files"))
	service := newPushService(t)
	d.node("ps1", "push", "--push.listen", reserve(t), "--push.fcm-credentials",
		service.credentials, "--push.fcm-url", service.URL)
	for _, s := range d.servers {
		s.awaitReady()
	}
	d.awaitListed()
	for _, s := range d.msg {
		until(t, "the links to the file server and the push server", func() bool {
			return s.metric("teamtalk_link_up", `"push"`)+
				s.metric("teamtalk_link_up", `"file"`) == 2
		})
	}
	return route
}

// finish lets writers end when all that they have sent is acked.
func finish(t *testing.T, all []*writer, done *sync.WaitGroup) {
	t.Helper()
	for _, w := range all {
		w.quit.Store(true)
	}
	for _, w := range all {
		until(t, fmt.Sprintf("all texts to user %d to be acked", w.to), func() bool {
			return w.waiting() == 0
		})
		w.Close()
	}
	done.Wait()
}

// TestEqualProcesses runs two processes with the same four roles, which find each other. Users of
// the two write to each other. One process stops, and its users go to the other. All texts that
// are acked reach the users that stay connected, once and in order, also those of the last
// moments. Then it returns, and its servers are linked to again.
func TestEqualProcesses(t *testing.T) {
	t.Parallel()
	d := deployRegistered(t, steadyWriters, "--msg.rate", "0", "--msg.hold", "60s")
	for i := range d.msg {
		d.msgAddr[i], d.loginHTTP = reserve(t), reserve(t)
		d.loginHTTPs = append(d.loginHTTPs, d.loginHTTP)
		d.msg[i] = d.node(fmt.Sprint("node", i+1), "login,msg,route,dbproxy",
			append(slices.Clone(d.store), "--msg.listen", d.msgAddr[i],
				"--login.client-listen", reserve(t), "--login.server-listen", reserve(t),
				"--login.http-listen", d.loginHTTP, "--route.listen", reserve(t),
				"--dbproxy.listen", reserve(t))...)
	}
	linked := func() {
		t.Helper()
		for _, s := range d.msg {
			s.awaitReady()
			until(t, "the links to both", func() bool {
				return s.metric("teamtalk_link_up", `"route"`) == 2 &&
					s.metric("teamtalk_link_up", `"dbproxy"`) == 3 && // one is local
					s.metric("teamtalk_login_message_servers", "") == 2
			})
		}
	}
	linked()
	var all []*steady
	for i := range uint32(steadyWriters) {
		s := newSteady(t, d.deployment, d.msgAddr[i%2], i)
		s.talk()
		all = append(all, s)
	}
	more(t, all)
	d.msg[0].stop()
	for i := 0; i < len(all); i += 2 {
		until(t, all[i].name+" to be connected", all[i].connected)
	}
	more(t, all)
	d.msg[0].start()
	linked()
	more(t, all)
	for _, s := range all {
		s.settle()
	}
	for i := 0; i < len(all); i += 2 {
		all[i+1].heardAll(all[i], 0)
	}
	for _, s := range all {
		s.hangUp()
		s.stored(d.msgAddr[1])
	}
}
