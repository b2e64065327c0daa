package system

import (
	"net/netip"
	"testing"
)

// TestOnThisMachine: only callers on this machine do without TLS where the ports have it.
func TestOnThisMachine(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true,
		"::ffff:127.0.0.1": true, "10.0.0.1": false, "192.0.2.1": false, "fe80::1": false} {
		if got := onThisMachine(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}
