package config

import (
	"strings"
	"testing"
)

// TestMesh: message servers that find each other in Redis need the registry and a port, and no
// route server.
func TestMesh(t *testing.T) {
	const base = "roles = [\"msg\", \"http\"]\nmsg.dbproxy = [\"127.0.0.1:1\"]\n" +
		"msg.login = [\"127.0.0.1:2\"]\nhttp.dbproxy = [\"127.0.0.1:1\"]\n" +
		"http.apps_file = \"x\"\nmsg.whereabouts = \"redis\"\nmsg.server_listen = \"127.0.0.1:3\"\n"
	for _, x := range []struct{ more, want string }{
		{"registry.enabled = true", ""},
		{"", "registry.enabled"},
		{"registry.enabled = true\nmsg.route = [\"127.0.0.1:4\"]", "msg.route"},
		{"registry.enabled = true\nroute.listen = \"127.0.0.1:4\"", ""},
	} {
		err := serveError(t, base+x.more)
		if x.want == "" && err != nil || x.want != "" && (err == nil ||
			!strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", x.more, err, x.want)
		}
	}
	c, err := load(t, base+"registry.enabled = true", nil, "--msg.server-listen=off")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckServe(); err == nil || !strings.Contains(err.Error(), "msg.server_listen") {
		t.Errorf("without a port: %v", err)
	}
	c, err = load(t, base+"registry.enabled = true", nil, "--roles=msg,http,route",
		"--route.listen=127.0.0.1:5")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckServe(); err == nil || !strings.Contains(err.Error(), "roles") {
		t.Errorf("with a route server: %v", err)
	}
	if got := Default().Msg.Tells() + " " + c.Msg.Tells(); got != "all contacts" {
		t.Errorf("without and with a mesh the clients told are %s", got)
	}
	if m := (Msg{Presence: "none", Whereabouts: "redis"}); m.Tells() != "none" {
		t.Errorf("a setting is %s", m.Tells())
	}
	if Default().Mesh() || Default().Msg.ServerAddr() != "" || !c.Mesh() {
		t.Error("only msg.whereabouts = redis makes a mesh")
	}
}
