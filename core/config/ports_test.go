package config

import (
	"slices"
	"strings"
	"testing"
)

// TestListenersAreComplete finds the settings with addresses of ports by their tags, so that a new
// one is not forgotten.
func TestListenersAreComplete(t *testing.T) {
	c, err := load(t, "", nil, "--http.apps-file=x", "--login.server-listen=:1",
		"--tls.acme.domains=a.example.org",
		"--route.listen=:2", "--dbproxy.listen=:3", "--push.listen=:4", "--file.server-listen=:5",
		"--msg.server-listen=:6", "--msg.websocket-listen=:7", "--web.listen=:8",
		"--admin-api.listen=:9")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Settings() {
		form := s.tag.Get("form")
		if (form == "listen" || form == "internal") && !slices.ContainsFunc(c.listeners(),
			func(l listener) bool { return l.key == s.Key }) {
			t.Errorf("%s: not among the listeners", s.Key)
		}
	}
}

// TestPortsOfOneAddress gives two ports of a process one address, in several spellings.
func TestPortsOfOneAddress(t *testing.T) {
	const links = "[link_tls]\nplaintext_beyond_loopback = true\n"
	for _, x := range []struct{ file, want string }{
		{"", ""},
		{"msfs.listen = \":8080\"", "msfs.listen: :8080 is also the address of " +
			"login.http_listen (:8080)"},
		{"msfs.listen = \"127.0.0.1:8080\"", "msfs.listen: 127.0.0.1:8080 is also"},
		{"msfs.listen = \"0.0.0.0:9090\"", "address of admin.listen (127.0.0.1:9090)"},
		{"msfs.listen = \"10.0.0.1:7\"\nhttp.listen = \"10.0.0.2:7\"", ""},
		{"msfs.listen = \"0.0.0.0:7\"\nfile.listen = \"[::1]:7\"", ""}, // of IPv4 and of IPv6
		{"msfs.listen = \"0.0.0.0:7\"\nfile.listen = \"[::]:7\"", "file.listen: [::]:7 is also"},
		{"msfs.listen = \":0\"\nfile.listen = \":0\"", ""},
		{"msfs.listen = \":80\"", ""}, // without tls.acme.domains no CA asks
		{"msfs.listen = \":80\"\n[tls.acme]\nagree_tos = true\ndomains = [\"a.example.org\"]",
			"msfs.listen: :80 is also the address of tls.acme.http_listen"},
		{"msfs.listen = \":8400\"", ""}, // without callers there is no HTTP API
		{"msfs.listen = \":8400\"\nhttp.apps_file = \"x\"", "http.listen: :8400 is also"},
		{"roles = [\"msfs\"]\nmsfs.listen = \":8080\"", ""},
		{"roles = [\"route\"]\nadmin.listen = \":8200\"\n" + links,
			"route.listen: :8200 is also the address of admin.listen"},
	} {
		c, err := load(t, x.file, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = c.CheckServe()
		if x.want == "" && err != nil || x.want != "" &&
			(err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", x.file, err, x.want)
		}
	}
}

// TestAdminAPI refuses a port of the admin API without tokens, without a store, and on the
// address of another port.
func TestAdminAPI(t *testing.T) {
	for _, x := range []struct {
		env  []string
		want string
	}{
		{[]string{"ADMIN_API_LISTEN=127.0.0.1:9091"}, "admin_api.tokens"},
		{[]string{"ADMIN_API_LISTEN=:9091", "ADMIN_API_TOKENS=f", "ROLES=login"},
			"needs the role dbproxy"},
		{[]string{"ADMIN_API_LISTEN=:9091", "ADMIN_API_TOKENS=f", "ROLES=login", "STORE=mysql"},
			"mysql.master"},
		{[]string{"ADMIN_API_LISTEN=:8080", "ADMIN_API_TOKENS=f"}, "also the address of"},
		{[]string{"ADMIN_API_LISTEN=127.0.0.1:9091", "ADMIN_API_TOKENS=f"}, ""},
		{[]string{"ADMIN_API_TOKENS=f"}, ""},
	} {
		var env []string
		for _, e := range x.env {
			env = append(env, EnvPrefix+e)
		}
		c, err := Load(Sources{Env: env})
		if err != nil {
			t.Fatal(err)
		}
		err = c.CheckServe()
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: %v, want %q", x.env, err, x.want)
		}
	}
}
