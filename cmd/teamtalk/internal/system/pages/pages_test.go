package pages

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"teamtalk/core/budget"
	"teamtalk/core/config"
	"teamtalk/core/im"
	page "teamtalk/handlers/web"
)

// TestPageApart connects the page of a process without other roles. It reaches the servers that
// the settings name, and no other.
func TestPageApart(t *testing.T) {
	cfg, err := config.Load(config.Sources{Env: []string{"TEAMTALK_ROLES=web",
		"TEAMTALK_WEB_LISTEN=127.0.0.1:0", "TEAMTALK_WEB_MSG=127.0.0.1:1,127.0.0.1:2",
		"TEAMTALK_WEB_FILE=127.0.0.1:3", "TEAMTALK_WEB_MSFS=http://127.0.0.1:4/"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := budget.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Config: cfg, Budget: b,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := netip.MustParseAddrPort("203.0.113.7:5")
	var opt page.Options
	s.Connect(&opt)
	if list := s.targets(); len(list) != 2 || list[1].Addr != "127.0.0.1:2" || s.Follows() {
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
	if at := s.locate(config.RoleMSFS, "", cfg.Web.MSFS)(); at != "http://127.0.0.1:4/" {
		t.Errorf("small files at %s", at)
	}
	if at := s.locate(config.RoleHTTP, "", "")(); at != "" {
		t.Errorf("registration at %s", at)
	}
	if n := b.Used(); n != 0 {
		t.Errorf("%d connections are counted", n)
	}
}
