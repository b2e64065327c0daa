package websocket

import (
	"errors"
	"strings"
	"testing"
)

// sample is the request of section 1.3 of RFC 6455.
const sample = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n" +
	"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Origin: http://server.example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" +
	"Sec-WebSocket-Version: 13\r\n\r\n"

// TestAccept answers the sample with the key of the RFC, the first subprotocol and no extension.
func TestAccept(t *testing.T) {
	answer, err := Accept([]byte(sample), &Origins{})
	got := string(answer)
	for _, want := range []string{"HTTP/1.1 101 ", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
		"Sec-WebSocket-Protocol: chat\r\n", "\r\n\r\n"} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%v: no %q in %q", err, want, got)
		}
	}
	if strings.Contains(got, "Extensions") {
		t.Errorf("an extension: %q", got)
	}
	plain := strings.NewReplacer("Sec-WebSocket-Protocol: chat, superchat\r\n", "",
		"Origin: http://server.example.com\r\n", "", "GET /chat", "GET /any/path?x=1",
		"Connection: Upgrade", "Connection: keep-alive, Upgrade").Replace(sample)
	answer, err = Accept([]byte(plain), &Origins{})
	if err != nil || strings.Contains(string(answer), "Sec-WebSocket-Protocol") {
		t.Errorf("no browser, no subprotocol: %v, %q", err, answer)
	}
}

// TestRefused refuses requests, each with its status.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string
		want     error
		status   string
	}{
		"page":           {"Upgrade: websocket\r\nConnection: Upgrade\r\n", "", ErrUpgrade, "400"},
		"version":        {"Version: 13", "Version: 8", ErrVersion, "426"},
		"origin":         {"http://server", "http://evil", ErrOrigin, "403"},
		"small letters":  {"Origin: http://server.example.com", "origin: http://evil", ErrOrigin, "403"},
		"origin null":    {"http://server.example.com", "null", ErrOrigin, "403"},
		"origin empty":   {"Origin: http://server.example.com", "Origin:", ErrOrigin, "403"},
		"HTTP/1.0":       {"HTTP/1.1", "HTTP/1.0", nil, "505"},
		"no key":         {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", nil, "400"},
		"two origins":    {"Upgrade: w", "Origin: http://evil\r\nUpgrade: w", errTwice, "400"},
		"two hosts":      {"Upgrade: w", "host: evil\r\nUpgrade: w", errTwice, "400"},
		"bare line feed": {"Upgrade: w", "X: y\nUpgrade: w", ErrHead, "400"},
		"folded line":    {"Upgrade: w", "X: y\r\n z\r\nUpgrade: w", ErrHead, "400"},
		"space":          {"Host:", "Host :", ErrHead, "400"},
		"no colon":       {"Upgrade: w", "nothing\r\nUpgrade: w", ErrHead, "400"},
	} {
		head := strings.Replace(sample, test.old, test.new, 1)
		answer, err := Accept([]byte(head), &Origins{})
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
		if !strings.HasPrefix(string(answer), "HTTP/1.1 "+test.status) {
			t.Errorf("%s: answer %q, want %s", name, answer, test.status)
		}
	}
}

// TestHead finds the end of a request, and refuses what is none by its first bytes.
func TestHead(t *testing.T) {
	long := "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", MaxHead)
	for name, test := range map[string]struct {
		sent string
		n    int
		want error
	}{
		"whole, and a frame": {sample + "\x82\x80", len(sample), nil},
		"begin":              {sample[:40], 0, nil},
		"nothing":            {"", 0, nil},
		"a PDU":              {"\x00\x00\x00\x10\x00\x01", 0, ErrHead},
		"another method":     {"PO", 0, ErrHead},
		"too long":           {long, 0, ErrHead},
		"almost too long":    {long[:MaxHead-1], 0, nil},
	} {
		if n, err := Head([]byte(test.sent)); n != test.n || !errors.Is(err, test.want) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// TestOrigins compares the origin of a page with the host and with the settings.
func TestOrigins(t *testing.T) {
	for _, test := range []struct {
		settings, origin, host string
		want                   bool
	}{
		{"", "https://chat.example.com", "chat.example.com:8001", true},
		{"", "https://chat.example.com:8400", "Chat.example.com:8001", true},
		{"", "http://[::1]:8400", "[::1]:8001", true},
		{"", "http://[::1]", "[::1]", true},
		{"", "https://evil.example.com", "chat.example.com", false},
		{"", "https://chat.example.com.evil.com", "chat.example.com", false},
		{"", "https://chat.example.com@evil.com", "chat.example.com", false},
		{"", "file://", "chat.example.com", false},
		{"https://a.com", "https://a.com", "b.com", true},
		{"https://a.com", "https://A.com:443", "b.com", true},
		{"https://a.com", "http://a.com", "b.com", false},
		{"https://a.com", "https://a.com:8443", "a.com:8443", false},
		{"https://a.com,https://b.com:8443/", "https://b.com:8443", "a.com", true},
		{"*", "null", "a.com", true},
	} {
		var list []string
		if test.settings != "" {
			list = strings.Split(test.settings, ",")
		}
		o, err := ParseOrigins(list)
		if got := o.Allow(test.origin, test.host); err != nil || got != test.want {
			t.Errorf("%q, page %s on %s: %v, %v", test.settings, test.origin, test.host, got, err)
		}
	}
	for _, wrong := range []string{"chat.example.com", "https://", "ftp://a.com", "https://a.com/x",
		"https://a.com?x", "https://u@a.com", "null", ""} {
		if _, err := ParseOrigins([]string{wrong}); err == nil {
			t.Errorf("%q is taken for an origin", wrong)
		}
	}
}
