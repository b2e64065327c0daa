package config

import (
	"strings"
	"testing"
)

// TestWeb checks what the page needs in a process of its own.
func TestWeb(t *testing.T) {
	const alone = "roles = [\"web\"]\n"
	const plain = "[link_tls]\nplaintext_beyond_loopback = true\n"
	for _, x := range []struct{ file, want string }{
		{"", ""},
		{"web.listen = \":8800\"", ""},
		{alone, "web.listen: needed"},
		{"roles = [\"web\", \"msfs\"]", ""}, // the page is off
		{alone + "web.listen = \":1\"", "web.msg: needed: this process runs web without msg"},
		{alone + "web.listen = \":1\"\nregistry.enabled = true", ""},
		{alone + "web.listen = \":1\"\nweb.msg = [\"127.0.0.1:8001\"]", ""},
		{alone + "web.listen = \":1\"\nweb.msg = [\"msg1:8001\"]", "web.msg_ca: needed: the " +
			"connections to msg1:8001"},
		{alone + "web.listen = \":1\"\nweb.msg = [\"localhost:1\"]\nweb.file = [\"10.0.0.5:8600\"]",
			"web.msg_ca: needed: the connections to 10.0.0.5:8600"},
		{alone + "web.listen = \":1\"\nweb.msg = [\"msg1:8001\"]\nweb.msg_ca = \"x\"", ""},
		{alone + "web.listen = \":1\"\nweb.msg = [\"msg1:8001\"]\n" + plain, ""},
		{"web.listen = \":1\"\nweb.msg = [\"127.0.0.1:8001\"]", "web.msg: not used"},
		{"web.listen = \":8000\"", "web.listen: :8000 is also the address of msg.listen"},
	} {
		err := serveError(t, x.file)
		if x.want == "" && err != nil || x.want != "" &&
			(err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", x.file, err, x.want)
		}
	}
}

// TestWebSocketURL refuses what a page cannot connect to, or what would end its policy.
func TestWebSocketURL(t *testing.T) {
	for url, ok := range map[string]bool{
		"wss://chat.example.com:8001/": true, "ws://[::1]:8001/x": true,
		"https://chat.example.com": false, "chat.example.com": false, "wss://": false,
		"wss://a.com; script-src *": false, "wss://a.com/'x": false, "wss://u@a.com": false,
		"wss://a.com,wss://b.com": false,
	} {
		if err := checkWebSocketURL(url); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestDemoServesThePage opens the page of a demo for this machine, unless a setting says
// otherwise.
func TestDemoServesThePage(t *testing.T) {
	for file, want := range map[string]string{
		"": demoWeb, "web.listen = \"off\"": off, "web.listen = \":1\"": ":1",
		"roles = [\"dbproxy\"]": off,
	} {
		c, err := load(t, file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.OnLoopback().Web.Listen; got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
}
