package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestServerAddrsAreComplete finds the settings with addresses of server ports by their tags,
// so that a new one is not forgotten.
func TestServerAddrsAreComplete(t *testing.T) {
	var want, got []string
	for _, s := range Settings() {
		form := s.tag.Get("form")
		if form == "internal" || form == "addrs" && !strings.HasPrefix(s.Key, "redis.") {
			want = append(want, s.Key)
		}
	}
	for _, a := range Default().serverAddrs() {
		got = append(got, a.key)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("settings %q, want %q", got, want)
	}
}

// TestLinksBeyondLoopback checks each setting with addresses of servers: an address that
// leaves this machine needs certificates, or a setting that allows links without.
func TestLinksBeyondLoopback(t *testing.T) {
	for _, a := range Default().serverAddrs() {
		for _, addr := range []string{"10.0.0.5:1", "db1:1", "[2001:db8::1]:1", "[::]:1", ":1"} {
			if addr == ":1" && !a.listen {
				continue
			}
			file := a.line(addr)
			err := serveError(t, file)
			if err == nil {
				t.Errorf("%s: accepted", file)
				continue
			}
			for _, text := range []string{a.key + " (" + addr + ")", "teamtalk cert ca",
				"teamtalk cert server NAME", `link_tls.cpp_plaintext = "dial"`,
				"link_tls.plaintext_beyond_loopback = true"} {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%s: the error lacks %q: %v", file, text, err)
				}
			}
			for _, allow := range []string{"link_tls.cpp_plaintext = \"dial\"",
				"link_tls.plaintext_beyond_loopback = true", "link_tls = {ca = \"a\", " +
					"certificate = \"b\", key = \"c\"}"} {
				if err := serveError(t, file+allow); err != nil {
					t.Errorf("%s%s: %v", file, allow, err)
				}
			}
			if err := serveError(t, file+"link_tls.cpp_plaintext = \"accept\""); err == nil {
				t.Errorf("%s: accepted with links that need a certificate", file)
			}
			err = serveError(t, file+"roles = "+without(a.role))
			if err != nil && strings.Contains(err.Error(), a.key) {
				t.Errorf("%s: refused without the role %s: %v", file, a.role, err)
			}
		}
		for _, addr := range []string{"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1",
			"[::ffff:127.0.0.1]:1"} {
			if err := serveError(t, a.line(addr)); err != nil {
				t.Errorf("%s: %v", a.line(addr), err)
			}
		}
	}
}

// line returns the line of a file that gives the setting an address.
func (a serverAddrs) line(addr string) string {
	if a.listen {
		return fmt.Sprintf("%s = %q\n", a.key, addr)
	}
	return fmt.Sprintf("%s = [%q]\n", a.key, addr)
}

// without returns the roles but one, as in a file.
func without(role string) string {
	var others []string
	for _, r := range roles {
		if r != role {
			others = append(others, fmt.Sprintf("%q", r))
		}
	}
	return "[" + strings.Join(others, ", ") + "]"
}

// serveError returns what CheckServe says of a file.
func serveError(t *testing.T, file string) error {
	t.Helper()
	c, err := load(t, file, nil)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return c.CheckServe()
}

// TestOnLoopback checks that a demo with some of the roles opens no port to other machines,
// except one whose address is given.
func TestOnLoopback(t *testing.T) {
	for _, r := range roles {
		c, err := load(t, fmt.Sprintf("roles = [%q]\nmsg.listen = \":7000\"", r), nil)
		if err != nil {
			t.Fatal(err)
		}
		d := c.OnLoopback()
		for _, a := range d.serverAddrs() {
			for _, addr := range a.addrs {
				if addr != "" && !onLoopback(addr) {
					t.Errorf("%s listens on %s", a.key, addr)
				}
			}
		}
		for _, s := range Settings() {
			if s.tag.Get("form") == "listen" && s.Key != "msg.listen" &&
				s.text(d) != off && !onLoopback(s.text(d)) {
				t.Errorf("%s listens on %s", s.Key, s.text(d))
			}
		}
		if d.Msg.Listen != ":7000" {
			t.Errorf("msg.listen changed to %s", d.Msg.Listen)
		}
	}
}

// TestWideNetworks warns of networks of proxies that hold clients.
func TestWideNetworks(t *testing.T) {
	for _, x := range []struct{ list, want string }{
		{`"0.0.0.0/0"`, "0.0.0.0/0"}, {`"::/0"`, "::/0"}, {`"10.0.0.0/8", "::/0"`, "::/0"},
		{`"128.0.0.0/1"`, "128.0.0.0/1"}, {`"2000::/3"`, "2000::/3"}, {`"1.2.3.4/0"`, "1.2.3.4/0"},
		{`"10.0.0.0/8", "100.64.0.0/10", "fc00::/7", "fe80::/10", "127.0.0.0/8", "::1/128"`, ""},
		{`"2001:db8::/32", "203.0.113.0/24"`, ""},
	} {
		for _, key := range []string{"proxy.networks", "http.trusted_proxies",
			"strangers.trusted_networks"} {
			c, err := load(t, key+" = ["+x.list+"]", nil)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(c.Warnings(), "\n")
			if x.want == "" && got != "" || x.want != "" &&
				(strings.Count(got, key+": "+x.want+" ") != 1 || strings.Count(got, "\n") > 0) {
				t.Errorf("%s = [%s]: warnings %q", key, x.list, got)
			}
		}
		for _, key := range []string{"tls.plain_networks", "login.ip2_networks"} {
			if c, err := load(t, key+" = ["+x.list+"]", nil); err != nil || len(c.Warnings()) > 0 {
				t.Errorf("%s: %v, %q", key, err, c.Warnings())
			}
		}
	}
}

// TestEmptyNetworks sets lists of networks to none, in each source. An empty variable does not
// set them, and a warning says so.
func TestEmptyNetworks(t *testing.T) {
	file := "[tls]\nplain_networks = []\n[strangers]\ntrusted_networks = []"
	for _, x := range []struct {
		file      string
		env, args []string
	}{
		{file, nil, nil},
		{"", nil, []string{"--tls.plain-networks=", "--strangers.trusted-networks="}},
		{"", nil, []string{"--tls.plain-networks=[]", "--strangers.trusted-networks=[]"}},
		{"", []string{"TEAMTALK_TLS_PLAIN_NETWORKS=[]", "TEAMTALK_STRANGERS_TRUSTED_NETWORKS=[]"},
			nil},
	} {
		c, err := load(t, x.file, x.env, x.args...)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.TLS.PlainNetworks) != 0 || len(c.Strangers.Trusted) != 0 {
			t.Errorf("%s%q%q: plain %q, trusted %q", x.file, x.env, x.args, c.TLS.PlainNetworks,
				c.Strangers.Trusted)
		}
	}
	c, err := load(t, "", []string{"TEAMTALK_TLS_PLAIN_NETWORKS=", "TEAMTALK_PROXY_NETWORKS="})
	if err != nil || len(c.TLS.PlainNetworks) != 2 {
		t.Errorf("an empty variable: %v, plain %q", err, c.TLS.PlainNetworks)
	}
	want := []string{"environment variable TEAMTALK_TLS_PLAIN_NETWORKS is empty and counts as " +
		"not set: tls.plain_networks remains 0.0.0.0/0,::/0; write [] to empty it"}
	if !slices.Equal(c.Warnings(), want) {
		t.Errorf("warnings %q, want %q", c.Warnings(), want)
	}
}
