package login_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/registry"
	"teamtalk/handlers/login"
)

// registered returns a message server in the registry, whose name is its port.
func registered(port string, users, capacity int64) registry.Node {
	return registry.Node{Role: "msg", Name: port, Capacity: capacity,
		Clients: []string{"10.0.0.1:" + port}, Load: registry.Load{Users: users}}
}

// registryHouse is a login server with a registry and a clock.
type registryHouse struct {
	*house
	v   *registry.View
	now time.Time
	reg *prometheus.Registry
}

func openRegistry(t *testing.T) *registryHouse {
	t.Helper()
	r := &registryHouse{v: registry.NewView(), now: time.Now(), reg: prometheus.NewRegistry()}
	r.house = open(t, login.Options{Registered: r.v, Registerer: r.reg,
		Now: func() time.Time { return r.now }})
	return r
}

// expect compares the ports in the next answers.
func (r *registryHouse) expect(what, want string) {
	r.t.Helper()
	if got := r.ports(len(strings.Fields(want))); got != want {
		r.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// TestRegisteredServers follows the registry: the loads decide, together with the clients that
// were sent to a server since, until a later reading has them.
func TestRegisteredServers(t *testing.T) {
	r := openRegistry(t)
	r.expect("none", `{"code":1}`)
	both := []registry.Node{registered("1", 10, 100), registered("2", 12, 100)}
	r.v.Update(both, true)
	r.expect("a crowd", "1 1 2 1 2 1 2")
	r.now = r.now.Add(time.Hour)
	r.expect("while the registry is away", "1 2 1 2")
	r.v.Update(both, true)
	r.expect("the loads may lack the crowd", "1 2")
	r.v.Update(both, true)
	r.expect("read twice in a moment", "1 2")
	r.now = r.now.Add(3 * time.Second)
	r.v.Update(both, true)
	r.expect("3 s later", "1 2")
	r.now = r.now.Add(3 * time.Second)
	r.v.Update(both, true)
	r.expect("only the last six count", "1 1 2 1 2")
	r.now = r.now.Add(6 * time.Second)
	r.v.Update([]registry.Node{registered("1", 13, 100), registered("2", 11, 100)}, true)
	r.expect("none counts", "2 2 1 2")
	drains := both[1]
	drains.Draining = true
	r.v.Update([]registry.Node{both[0], drains}, true)
	r.expect("one drains", "1 1 1")
	r.v.Update(both[:1], true)
	r.expect("one has left", "1 1 1")
	r.v.Update(nil, true)
	r.expect("all have left", `{"code":1}`)
}

// TestLateServers: a server that has not renewed its lease in time is named only when the others
// are full or late as well.
func TestLateServers(t *testing.T) {
	r := openRegistry(t)
	late := func(n registry.Node) registry.Node {
		n.Late = true
		return n
	}
	a, b := registered("1", 10, 100), registered("2", 90, 100)
	for _, c := range []struct {
		what  string
		nodes []registry.Node
		want  string
	}{
		{"none", []registry.Node{a, b}, "1 1"},
		{"the first", []registry.Node{late(a), b}, "2 2"},
		{"both", []registry.Node{late(a), late(b)}, "1 1"},
		{"the other is full", []registry.Node{late(a), registered("2", 100, 100)}, "1 1"},
		{"the last", []registry.Node{a, late(b)}, "1 1"},
	} {
		r.v.Update(c.nodes, true)
		r.expect(c.what+" late", c.want)
		r.now = r.now.Add(time.Minute)
	}
}

// TestRegisteredLimit: a server is full by the clients that it has, not by those that were sent to
// it: they may never arrive.
func TestRegisteredLimit(t *testing.T) {
	r := openRegistry(t)
	r.v.Update([]registry.Node{registered("1", 9, 10), registered("2", 10, 10)}, true)
	r.expect("room for one", "1 1 1 1")
	r.v.Update([]registry.Node{registered("1", 10, 10), registered("2", 10, 10)}, true)
	r.expect("full", `{"code":2}`)
	r.v.Update([]registry.Node{registered("1", 10, 10), registered("2", 1000, 0)}, true)
	r.expect("no limit", "2 2")
}

// TestRegisteredAddresses: clients are told both addresses. Records without one that clients can
// use are left out.
func TestRegisteredAddresses(t *testing.T) {
	r := openRegistry(t)
	n := registered("8000", 0, 9)
	n.Clients = []string{"[2001:db8::1]:8000", "chat.example.com:8000"}
	wrong := []registry.Node{n}
	for i, c := range [][]string{nil, {"x"}, {":1"}, {"http://a:1/"}, {"a:0"}, {"a:65536"}} {
		w := registered("w"+string(rune('0'+i)), 0, 9)
		w.Clients = c
		wrong = append(wrong, w)
	}
	r.v.Update(wrong, true)
	want := `"priorIP":"2001:db8::1","backupIP":"chat.example.com"`
	for range 2 {
		if got := r.get(); !strings.Contains(got, want) || !strings.Contains(got, `"8000"`) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if rsp := r.ask(1); rsp.GetPriorIp() != "2001:db8::1" || rsp.GetPort() != 8000 {
		t.Errorf("over TCP: %v", rsp)
	}
}

// TestRegisteredAndAnnounced: a server that is registered and linked is one server, and the numbers
// that it reports on its link count.
func TestRegisteredAndAnnounced(t *testing.T) {
	r := openRegistry(t)
	r.v.Update([]registry.Node{registered("1", 50, 100), registered("2", 40, 100)}, true)
	conn := dial(t, r.servers)
	r.send(conn, info("10.0.0.1", "", 1, 100, 3))
	r.expect("by its link", "1 1 1")
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(
		"# HELP teamtalk_login_clients Clients logged in, as the message servers report them.\n"+
			"# TYPE teamtalk_login_clients gauge\nteamtalk_login_clients 43\n"+
			"# HELP teamtalk_login_message_servers Message servers known.\n"+
			"# TYPE teamtalk_login_message_servers gauge\nteamtalk_login_message_servers 2\n"),
		"teamtalk_login_clients", "teamtalk_login_message_servers"); err != nil {
		t.Error(err)
	}
	conn.Close()
	if e := <-r.events; e != "close" {
		t.Fatal(e)
	}
	r.expect("by the registry", "2 2")
}
