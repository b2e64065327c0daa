package config

import (
	"strings"
	"testing"
)

// TestRegistry checks settings of the registry: those that start, and those that are refused with
// the setting to change.
func TestRegistry(t *testing.T) {
	const on = "[registry]\nenabled = true\n"
	const links = "[link_tls]\nplaintext_beyond_loopback = true\n"
	route := func(listen string) string {
		return "roles = [\"route\"]\n[route]\nlisten = \"" + listen + "\"\n" + links
	}
	for name, x := range map[string]struct{ file, want string }{
		"off":      {route(":8200"), ""},
		"all in 1": {on, ""}, // no server port is open
		"host":     {route("10.0.0.5:8200") + on, ""},
		"named":    {route("hub:8200") + on, ""},
		"all addresses": {route(":8200") + on, "registry.advertise: needed, because " +
			"route.listen = \":8200\" is all addresses of this machine"},
		"all of IPv4":    {route("0.0.0.0:8200") + on, "registry.advertise: needed"},
		"all of IPv6":    {route("[::]:8200") + on, "registry.advertise: needed"},
		"auto":           {route("auto") + on, "because route.listen = \":8200\""},
		"advertised":     {route(":8200") + on + "advertise = \"hub\"", ""},
		"loopback":       {route("127.0.0.1:8200") + on, ""},
		"closed":         {route("off") + on, ""},
		"only clients":   {"roles = [\"msfs\"]\n" + on, ""},
		"advertise port": {on + "advertise = \"hub:8200\"", "the port has a setting of its own"},
		"advertise all":  {on + "advertise = \"0.0.0.0\"", "\"0.0.0.0\" is all addresses"},
		"advertise user": {on + "advertise = \"me@hub\"", "\"me@hub\" is no IP address, and"},
		"advertise IPv6": {on + "advertise = \"::1\"", ""},
		"short lease":    {on + "lease = \"5s\"", "registry.lease: must be at least three times"},
		"slow poll":      {on + "poll = \"3s\"", "registry.renew (2s) and registry.poll (3s)"},
		"longer":         {on + "lease = \"9s\"\npoll = \"3s\"", ""},
		"unused":         {"[registry]\nlease = \"1s\"", ""},
		"name":           {"[node]\nname = \"a/b\"", "node.name: \"a/b\" is no name of 1 to 64"},
		"url":            {on + "redis = \"host:1\"", "registry.redis: want a URL such as redis://"},
		"database of a cluster": {on + "redis = \"redis://h:1/3?cluster=true\"",
			"registry.redis: a Redis Cluster has no database but 0"},
		"files of TLS not used": {on + "[redis]\nca = \"x\"", "redis.ca: not used"},
		"files of TLS":          {on + "redis = \"rediss://h:1\"\n[redis]\nca = \"x\"", ""},
	} {
		c, err := load(t, x.file, nil)
		if err == nil {
			err = c.CheckServe()
		}
		switch {
		case x.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)):
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// TestUnservedWarns: a server port on loopback that others do not reach where the registry says is
// named in a warning.
func TestUnservedWarns(t *testing.T) {
	on := func(host string) string { return "enabled = true\nadvertise = \"" + host + "\"" }
	for name, x := range map[string]struct {
		listen, registry string
		warns            bool
	}{
		"another address":   {"127.0.0.1:8200", on("10.0.0.5"), true},
		"a name":            {"127.0.0.1:8200", on("hub"), true},
		"IPv6":              {"127.0.0.1:8200", on("::1"), true},
		"another loopback":  {"127.0.0.1:8200", on("127.0.0.2"), true},
		"localhost listens": {"localhost:8200", on("10.0.0.5"), true},
		"IPv6 listens":      {"[::1]:8200", on("10.0.0.5"), true},
		"its address":       {"127.0.0.1:8200", on("127.0.0.1"), false},
		"mapped":            {"127.0.0.1:8200", on("::ffff:127.0.0.1"), false},
		"localhost":         {"127.0.0.1:8200", on("localhost"), false},
		"both localhost":    {"localhost:8200", on("127.0.0.1"), false},
		"all addresses":     {":8200", on("10.0.0.5"), false},
		"behind a router":   {"192.168.0.5:8200", on("10.0.0.5"), false},
		"closed":            {"off", on("10.0.0.5"), false},
		"not advertised":    {"127.0.0.1:8200", "enabled = true", false},
		"off":               {"127.0.0.1:8200", "advertise = \"10.0.0.5\"", false},
	} {
		c, err := load(t, "roles = [\"route\"]\n[route]\nlisten = \""+x.listen+"\"\n[registry]\n"+
			x.registry+"\n[link_tls]\nplaintext_beyond_loopback = true\n", nil)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(c.Warnings(), "\n")
		const want = "registry.advertise: other servers do not reach route.listen = "
		if strings.Contains(got, want) != x.warns || !x.warns && got != "" {
			t.Errorf("%s: warnings %q", name, got)
		}
	}
}

func TestRegistryHost(t *testing.T) {
	for addr, want := range map[string]string{":1": "", "0.0.0.0:1": "", "[::]:1": "",
		"[::1]:1": "::1", "10.0.0.5:1": "10.0.0.5", "hub:1": "hub", "": ""} {
		if got := (Registry{}).Host(addr); got != want {
			t.Errorf("%q: %q, want %q", addr, got, want)
		}
		if got := (Registry{Advertise: "db1"}).Host(addr); got != "db1" {
			t.Errorf("%q with a setting: %q", addr, got)
		}
	}
}

// TestRegistryReplacesAddresses: a role that finds the servers of others neither in its process,
// nor at addresses, nor in the registry is refused, with both ways to name them.
func TestRegistryReplacesAddresses(t *testing.T) {
	apps := "[http]\napps_file = \"apps.toml\"\n"
	for role, x := range map[string]struct{ file, keys string }{
		"msg":  {"", "msg.dbproxy msg.route msg.login"},
		"http": {apps, "http.dbproxy http.route"},
		"file": {"[file]\ncheck_online = \"on\"\n", "file.route"},
	} {
		file := "roles = [\"" + role + "\"]\n" + x.file +
			"[link_tls]\nplaintext_beyond_loopback = true\n[msfs]\ntickets = \"off\"\n"
		c, err := load(t, file, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = c.CheckServe()
		for _, key := range strings.Fields(x.keys) {
			_, other, _ := strings.Cut(key, ".")
			want := key + ": needed: this process runs " + role + " without " + other +
				", so say where " + other + " is, or set registry.enabled in both"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", role, err, want)
			}
		}
		c, err = load(t, file+"[registry]\nenabled = true\nadvertise = \"a\"\n", nil)
		if err == nil {
			err = c.CheckServe()
		}
		if err != nil {
			t.Errorf("%s with the registry: %v", role, err)
		}
	}
}

// TestTicketKeyOfSeveral: with the registry, a process with the three roles of tickets may share
// their key with others. It needs none if it has all roles and no port for servers.
func TestTicketKeyOfSeveral(t *testing.T) {
	const on = "[registry]\nenabled = true\n"
	const three = "roles = [\"msg\", \"msfs\", \"dbproxy\"]\n"
	const port = "[dbproxy]\nlisten = \"127.0.0.1:1\"\n"
	for file, needed := range map[string]bool{"": false, on: false, port: false, on + port: true,
		three + on + "advertise = \"a\"\n": true} {
		err := serveError(t, file+"[msfs]\ntickets = \"required\"\n")
		if got := err != nil && strings.Contains(err.Error(), "msfs.ticket_key"); got != needed {
			t.Errorf("%q: %v, want a key: %v", file, err, needed)
		}
	}
}

// TestMayDial: links to registered servers leave this machine with TLS, or with a setting.
func TestMayDial(t *testing.T) {
	const far = "db1:10600"
	for file, want := range map[string]bool{"": false,
		"link_tls = {ca = \"a\", certificate = \"b\", key = \"c\"}": true,
		"link_tls.plaintext_beyond_loopback = true":                 true,
		"link_tls.cpp_plaintext = \"dial\"":                         true,
		"link_tls.cpp_plaintext = \"accept\"":                       false} {
		c, err := load(t, file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.MayDial(far); (err == nil) != want {
			t.Errorf("%s: %v", file, err)
		}
		if err := c.MayDial("127.0.0.1:10600"); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
