package system

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"teamtalk/core/im"
	page "teamtalk/handlers/web"
)

// TestPageApart starts the page in a process without other roles. It reaches the servers that the
// settings name, and no other.
func TestPageApart(t *testing.T) {
	s, _ := startLogged(t, "web", map[string]string{"web.listen": "127.0.0.1:0",
		"web.msg": "127.0.0.1:1,127.0.0.1:2", "web.file": "127.0.0.1:3",
		"web.msfs": "http://127.0.0.1:4/"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := netip.MustParseAddrPort("203.0.113.7:5")
	var opt page.Options
	if err := connectPages(s, &opt); err != nil {
		t.Fatal(err)
	}
	if list := pageTargets(s); len(list) != 2 || list[1].Addr != "127.0.0.1:2" {
		t.Errorf("message servers %v", list)
	}
	if _, err := opt.Messages(ctx, client, false); err == nil {
		t.Error("connected to a message server that does not run")
	}
	if !opt.FileServers.Any() {
		t.Error("no file server is known")
	}
	for addr, want := range map[string]im.Kind{"127.0.0.1:3": 0, "127.0.0.1:1": im.NotFound,
		"169.254.169.254:80": im.NotFound} {
		_, err := opt.FileServers.Connect(ctx, addr, client, false)
		if err == nil || (want == im.NotFound) != (im.KindOf(err) == im.NotFound) {
			t.Errorf("file server %s: %v", addr, err)
		}
	}
	if at := locate(s, roleMSFS, []string{"", s.cfg.Web.MSFS})(); at != "http://127.0.0.1:4/" {
		t.Errorf("small files at %s", at)
	}
	if at := locate(s, roleHTTP, []string{"", ""})(); at != "" {
		t.Errorf("registration at %s", at)
	}
	if n := s.budget.Used(); n != 0 {
		t.Errorf("%d connections are counted", n)
	}
}
