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
