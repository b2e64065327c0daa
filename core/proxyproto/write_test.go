package proxyproto

import (
	"bytes"
	"net/netip"
	"testing"
)

// TestAppend reads what Append writes.
func TestAppend(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, test := range []struct {
		h    Header
		to   netip.AddrPort
		size int
		want netip.AddrPort
	}{
		{Header{}, at("10.0.0.1:80"), 16, netip.AddrPort{}},
		{Header{Source: at("203.0.113.7:50000")}, at("10.0.0.1:80"), 28, at("203.0.113.7:50000")},
		{Header{Source: at("203.0.113.7:5"), Secure: true}, netip.AddrPort{}, 36,
			at("203.0.113.7:5")},
		{Header{Source: at("[::ffff:203.0.113.7]:5")}, at("10.0.0.1:80"), 28, at("203.0.113.7:5")},
		{Header{Source: at("[2001:db8::7]:5"), Secure: true}, at("10.0.0.1:80"), 60,
			at("[2001:db8::7]:5")},
		{Header{Source: at("203.0.113.7:5")}, at("[2001:db8::1]:80"), 52, at("203.0.113.7:5")},
		{Header{Source: at("[fe80::1%eth0]:5")}, netip.AddrPort{}, 52, at("[fe80::1]:5")},
	} {
		b := Append([]byte("before"), test.h, test.to)
		r := bytes.NewReader(append(b[len("before"):], "after"...))
		got, err := Read(r)
		if err != nil || got.Source != test.want || got.Secure != test.h.Secure {
			t.Errorf("%v: read %v, %v", test.h, got, err)
		}
		if n := len(b) - len("before"); n != test.size || r.Len() != len("after") {
			t.Errorf("%v: %d bytes, want %d, and %d are left", test.h, n, test.size, r.Len())
		}
	}
}
