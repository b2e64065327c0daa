//go:build linux

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"teamtalk/sql/dbtest"
)

// settings describe a deployment.
type settings struct {
	users int      // u00001, u00002, … with the password pw, and ids that count from 1
	files bool     // also a file server in a separate deployment
	small bool     // also a small file server in a separate deployment
	csv   string   // file of the users, instead of users
	flags []string // of every server
	adds  []string // of the command that adds the users
	// second: a separate deployment has a second dbproxy.
	second bool
	// twice: a separate deployment has a second route server and a second login server.
	twice bool

	// mesh: a separate deployment has no route server. Its message servers find each other in
	// Redis. With both, forEachShape has such a deployment besides the others.
	mesh, both bool

	// races: the servers have the race detector. That is for tests that stop and cut servers, for
	// many clients at once, and for a day with clients of all platforms.
	races bool

	pages bool // message servers take WebSocket, and web clients use it

	heavy bool // the test needs a processor for seconds: see takeProcessor
}

// deployment is a running system.
type deployment struct {
	t         testing.TB
	shape     string
	separate  bool
	mesh      bool     // see settings.mesh
	store     []string // flags that name the store
	races     bool     // new servers have the race detector, see settings.races
	servers   []*server
	msg       [2]*server // message servers; all in one they are the same process
	msgAddr   [2]string  // of the message servers, for clients
	pageAddr  [2]string  // of the message servers, for web clients; empty without settings.pages
	login     *server
	loginTCP  string
	files     string // of the small file server; separate: with settings.small only
	fileAddr  string // of the file server, for clients
	loginHTTP string
	// loginHTTPs are the addresses of all login servers for HTTP.
	loginHTTPs []string
	dbproxy    *server
	second     *server             // the second dbproxy; with settings.second only
	file       *server             // separate: with settings.files only
	peers      []string            // flags that name servers for a message server; separate only
	redis      *dbtest.RedisServer // separate only
	dbAddr     string              // of dbproxy and route, for servers; separate only
	routeAddr  string
}

// forEachShape runs a test on a fresh system of each shape.
func forEachShape(t *testing.T, s settings, run func(t *testing.T, sys *deployment)) {
	program(t)
	shape := func(name string, deploy func(testing.TB, settings) *deployment) {
		at := s
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if s.heavy {
				takeProcessor(t)
			}
			run(t, deploy(t, at))
		})
	}
	shape(allInOne, deployAllInOne)
	shape(separate, deploySeparate)
	if s.both {
		s.mesh = true
		shape("mesh", deploySeparate)
	}
}

// deployAllInOne runs everything in one process, on the embedded store.
func deployAllInOne(t testing.TB, s settings) *deployment {
	t.Helper()
	return deployOn(t, s, "--data-dir", filepath.Join(t.TempDir(), "data"))
}

// deployOn runs everything in one process, on the store that the flags name.
func deployOn(t testing.TB, s settings, store ...string) *deployment {
	t.Helper()
	d := &deployment{t: t, shape: allInOne, races: s.races, store: store}
	d.addUsers(s)
	d.msgAddr[0], d.loginTCP, d.loginHTTP = reserve(t), reserve(t), reserve(t)
	d.msgAddr[1] = d.msgAddr[0]
	d.files, d.fileAddr = reserve(t), reserve(t)
	d.loginHTTPs = []string{d.loginHTTP}
	own := append(slices.Clone(d.store), d.takePages(s, 0)...)
	d.pageAddr[1] = d.pageAddr[0]
	all := d.server("all", s.flags, append(own, "--msg.listen", d.msgAddr[0],
		"--msfs.listen", d.files, "--msfs.min-free", "0B",
		"--file.listen", d.fileAddr, "--file.min-free", "0B",
		"--login.client-listen", d.loginTCP, "--login.http-listen", d.loginHTTP)...)
	d.msg, d.login, d.dbproxy, d.file = [2]*server{all, all}, all, all, all
	d.start()
	return d
}

// migrated is a database on which the command migrate has run.
var migrated = dbtest.NewTemplate(func(t testing.TB, dsn string) {
	t.Helper()
	mustRun(t, "migrate", "--mysql.master", dsn)
})

// deploySeparate runs a process for each server, and two message servers, on MariaDB and
// Redis.
func deploySeparate(t testing.TB, s settings) *deployment {
	t.Helper()
	dsn, redis := migrated.NewDatabase(t), dbtest.Redis(t)
	d := &deployment{t: t, shape: separate, separate: true, mesh: s.mesh, races: s.races,
		redis: redis,
		store: []string{"--store", "mysql", "--mysql.master", dsn, "--redis.addrs", redis.Addr()}}
	d.addUsers(s)
	db, route, servers := reserve(t), reserve(t), reserve(t)
	d.dbAddr, d.routeAddr = db, route
	d.loginTCP, d.loginHTTP = reserve(t), reserve(t)
	d.msgAddr[0], d.msgAddr[1] = reserve(t), reserve(t)
	d.dbproxy = d.server("dbproxy", s.flags, append(slices.Clone(d.store), "--roles", "dbproxy",
		"--dbproxy.listen", db)...)
	dbs := db
	if s.second {
		other := reserve(t)
		d.second = d.server("dbproxy2", s.flags, append(slices.Clone(d.store), "--roles", "dbproxy",
			"--dbproxy.listen", other)...)
		dbs += "," + other
	}
	if !s.mesh {
		d.server("route", s.flags, "--roles", "route", "--route.listen", route)
	}
	d.loginHTTPs = []string{d.loginHTTP}
	routes, logins := route, servers
	if s.twice {
		r, l := d.startTwice(s.flags)
		routes, logins = route+","+r, servers+","+l
	}
	login := []string{"--roles", "login", "--login.server-listen", servers,
		"--login.client-listen", d.loginTCP, "--login.http-listen", d.loginHTTP}
	if s.small {
		d.files = reserve(t)
		d.server("msfs", s.flags, "--roles", "msfs", "--msfs.listen", d.files,
			"--msfs.min-free", "0B", "--data-dir", filepath.Join(t.TempDir(), "small"))
		login = append(login, "--login.msfs-prior", "http://"+d.files+"/")
	}
	d.login = d.server("login", s.flags, login...)
	// Short pauses between attempts to connect keep tests with restarts short.
	d.peers = []string{"--msg.dbproxy", dbs, "--msg.route", routes, "--msg.login", logins,
		"--link.backoff-max", "1s"}
	if s.mesh {
		d.peers = append(slices.Delete(d.peers, 2, 4), "--msg.whereabouts", "redis",
			"--registry.enabled", "--redis.addrs", redis.Addr())
	}
	if s.files {
		files := reserve(t)
		d.fileAddr = reserve(t)
		d.file = d.server("file", s.flags, "--roles", "file", "--file.listen", d.fileAddr,
			"--file.server-listen", files, "--file.min-free", "0B", "--file.route", route,
			"--file.dbproxy", db, "--link.backoff-max", "1s",
			"--data-dir", filepath.Join(t.TempDir(), "files"))
		d.peers = append(d.peers, "--msg.file", files)
	}
	d.addMsg(s)
	d.start()
	return d
}

// addMsg adds the message servers of a separate deployment.
func (d *deployment) addMsg(s settings) {
	for i := range d.msg {
		name := fmt.Sprint("msg", i+1)
		own := append(d.takePages(s, i), "--roles", "msg", "--msg.listen", d.msgAddr[i])
		if s.mesh {
			own = append(own, "--node.name", name, "--msg.server-listen", d.meshAddr(i))
		}
		d.msg[i] = d.server(name, s.flags, append(own, d.peers...)...)
	}
}

// takePages reserves the port of a message server for web clients, and returns its flags.
func (d *deployment) takePages(s settings, i int) []string {
	if !s.pages {
		return nil
	}
	d.pageAddr[i] = reserve(d.t)
	return []string{"--msg.websocket-listen", d.pageAddr[i]}
}

// pageOf returns the address for web clients of the message server with an address for others; that
// of the first one for "".
func (d *deployment) pageOf(addr string) string {
	return d.pageAddr[max(0, slices.Index(d.msgAddr[:], addr))]
}

// at returns which message server has an address; -1: none.
func (d *deployment) at(addr string) int {
	if i := slices.Index(d.pageAddr[:], addr); i >= 0 && addr != "" {
		return i
	}
	return slices.Index(d.msgAddr[:], addr)
}

// meshAddr returns the address of a message server for others. That of the first one takes the
// place of the route server for other servers.
func (d *deployment) meshAddr(i int) string {
	if i == 0 {
		return d.routeAddr
	}
	return reserve(d.t)
}

// startTwice adds a second route server and a second login server. It returns their
// addresses for servers.
func (d *deployment) startTwice(flags []string) (route, login string) {
	route, login = reserve(d.t), reserve(d.t)
	http := reserve(d.t)
	d.loginHTTPs = append(d.loginHTTPs, http)
	d.server("route2", flags, "--roles", "route", "--route.listen", route)
	d.server("login2", flags, "--roles", "login", "--login.server-listen", login,
		"--login.client-listen", reserve(d.t), "--login.http-listen", http)
	return route, login
}

// addUsers adds the users of the settings to the store.
func (d *deployment) addUsers(s settings) {
	d.t.Helper()
	switch {
	case s.csv != "":
		mustRun(d.t, append([]string{"user", "add", "--csv", s.csv}, d.store...)...)
	case s.users > 0:
		mustRun(d.t, append([]string{"user", "add", "--count", fmt.Sprint(s.users),
			"--format", "u%05d", "--password", "pw"}, append(s.adds, d.store...)...)...)
	}
}

// server adds a server without starting it.
func (d *deployment) server(name string, flags []string, args ...string) *server {
	s := newServer(d.t, name, append(append([]string{"serve"}, args...), flags...)...)
	s.races = d.races
	d.servers = append(d.servers, s)
	return s
}

// start starts all servers. It returns when all are ready and clients can discover them.
func (d *deployment) start() {
	d.t.Helper()
	for _, s := range d.servers {
		s.launch()
	}
	for _, s := range d.servers {
		s.awaitReady()
	}
	d.awaitListed()
}

// awaitListed waits until the login server lists all message servers. A message server is
// ready a moment before the login server has read its announcement.
func (d *deployment) awaitListed() {
	d.t.Helper()
	want := 1.0
	if d.separate {
		want = float64(len(d.msg))
	}
	until(d.t, "the message servers to be listed", func() bool {
		return d.login.metric("teamtalk_login_message_servers", "") == want
	})
	d.awaitMesh()
}

// awaitMesh waits until the message servers of a mesh know each other. What one of them sends to
// all reaches the other one later otherwise.
func (d *deployment) awaitMesh() {
	d.t.Helper()
	for _, s := range d.msg {
		if d.mesh {
			until(d.t, s.name+" to know the message servers", func() bool {
				return s.metric("teamtalk_registry_nodes", `role="msg"`) == float64(len(d.msg))
			})
		}
	}
}

// restartMsg restarts the message servers with flags after their own.
func (d *deployment) restartMsg(flags ...string) {
	d.t.Helper()
	for i, s := range d.msg {
		if i == 1 && s == d.msg[0] {
			continue
		}
		s.stop()
		s.extra = flags
		s.start()
	}
	d.awaitMesh()
}

// url returns the URL of the login server for clients.
func (d *deployment) url() string { return "http://" + d.loginHTTP }

// The shapes of deployments.
const (
	allInOne = "all-in-one"
	separate = "separate"
)
