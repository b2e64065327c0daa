package system

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"teamtalk/core/porttest"
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

// TestAddressOnAdminPort: one address cannot use all connections of the admin API, whatever it
// sends, although the bound of the settings for an address is larger.
func TestAddressOnAdminPort(t *testing.T) {
	tokens, addr := filepath.Join(t.TempDir(), "tokens"), porttest.Reserve(t)
	if err := os.WriteFile(tokens, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := start(t.Context(), testOptions(t, map[string]string{"admin_api.listen": addr,
		"admin_api.tokens": tokens, "strangers.trusted_networks": "192.0.2.0/24"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.WithoutCancel(t.Context())) })
	s.ports.SetBounds(s.cfg) // as a reload does
	for range maxAdminAPI + 1 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// An error says that the server has closed the connection already.
		_, _ = fmt.Fprint(c, "POST /session HTTP/1.1\r\nHost: x\r\nContent-Type: "+
			"application/json\r\nContent-Length: 100\r\n\r\n{")
	}
	eventually(t, "the requests to wait for their bodies", func() bool {
		return counted(t, s, "teamtalk_web_waiting", "admin_api") == 0 &&
			counted(t, s, "teamtalk_web_open", "admin_api") >= maxAdminAPI/4
	})
	other := http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	defer other.CloseIdleConnections()
	rsp, err := other.Get("http://" + addr + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	rsp.Body.Close()
	if rsp.StatusCode != http.StatusOK {
		t.Errorf("another address gets %s", rsp.Status)
	}
}
