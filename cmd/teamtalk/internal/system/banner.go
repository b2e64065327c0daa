package system

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/obs"
)

// banner says what runs where, and what to do next.
func (s *system) banner(w io.Writer, v obs.Version) {
	fmt.Fprintf(w, "TeamTalk %s: %s\n\n", v.Version, strings.Join(s.cfg.Roles, ", "))
	line := func(what, where string) { fmt.Fprintf(w, "  %-15s %s\n", what, where) }
	for _, p := range s.ports {
		switch p.name {
		case "clients":
			ip, _, number := s.advertised(p)
			line("clients", fmt.Sprintf("tcp %s (announced as %s:%d)", p.Addr(), ip, number))
		default:
			line(p.name, "tcp "+p.Addr().String())
		}
	}
	if s.http != nil {
		line("login", "http://"+reachable(s.http.Addr().String())+"/msg_server")
	}
	if s.msfs != nil {
		line("files", s.msfs.url)
	}
	if s.api != nil && s.api.addr != "" {
		line("http", "http://"+reachable(s.api.addr)+"/openapi.json")
	}
	if s.admin != nil {
		line("admin", fmt.Sprintf("http://%s  /metrics /healthz /readyz", reachable(s.admin.Addr().String())))
	}
	if s.store != nil {
		line("store", s.storeName())
	}
	fmt.Fprintln(w)
	self := selfCommand()
	switch {
	case s.demo:
		fmt.Fprintf(w, "Two users, alice and bob, have the password %q. In two more terminals:\n\n", admin.DemoPassword)
		for i, name := range admin.DemoUsers {
			fmt.Fprintf(w, "  %s chat %s %s --password %s%s\n", self, name, admin.DemoUsers[1-i], admin.DemoPassword, s.chatServer())
		}
		fmt.Fprintln(w)
		if url, _ := s.registration(); url != "" {
			where := ""
			if s.cfg.HTTP.AppsFile == "" { // else it says who may
				where = ", on this machine"
			}
			fmt.Fprintf(w, "Somebody new%s:\n\n  %s chat NAME --register%s\n\n", where, self, s.chatServer())
		}
	case s.store != nil && s.msg != nil:
		fmt.Fprintf(w, "Next: %s user add NAME, then %s chat NAME%s\n\n", self, self, s.chatServer())
	}
}

// chatServer is what chat has to be told when login's HTTP port is not the usual one.
func (s *system) chatServer() string {
	if s.http == nil {
		return ""
	}
	addr := reachable(s.http.Addr().String())
	if strings.HasSuffix(addr, ":8080") {
		return ""
	}
	return " --server http://" + addr
}

func (s *system) storeName() string {
	if s.cfg.Store != "embedded" {
		return fmt.Sprintf("MySQL %s, Redis %s", s.cfg.MySQL.Master, strings.Join(s.cfg.Redis.Addrs, ","))
	}
	dir, err := filepath.Abs(s.cfg.DataDir)
	if err != nil {
		dir = s.cfg.DataDir
	}
	return "embedded, in " + dir
}

// selfCommand is how this program was called, to be typed again.
func selfCommand() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/teamtalk"
	}
	return os.Args[0]
}
