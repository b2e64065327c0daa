package system

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/obs"
)

// banner writes the address of each server, and the commands to try next.
func (s *system) banner(w io.Writer, v obs.Version) {
	fmt.Fprintf(w, "TeamTalk %s: %s\n\n", v.Version, strings.Join(s.cfg.Roles, ", "))
	s.addresses(func(what, where string) { fmt.Fprintf(w, "  %-15s %s\n", what, where) })
	fmt.Fprintln(w)
	switch self := selfCommand(); {
	case s.demo:
		s.demoCommands(w, self)
	case s.store != nil && s.msg != nil:
		fmt.Fprintf(w, "Next: %s user add NAME, then %s chat NAME%s\n\n", self, self,
			s.chatServer())
	}
}

// addresses calls line with the name and the address of each server.
func (s *system) addresses(line func(what, where string)) {
	for _, p := range s.ports {
		switch p.name {
		case "clients":
			ip, _, number := s.advertised(p)
			line("clients", fmt.Sprintf("tcp %s (announced as %s:%d)", p.Addr(), ip, number))
		default:
			line(p.name, "tcp "+p.Addr().String())
		}
	}
	if addr := s.loginHTTP(); addr != "" {
		line("login", "http://"+addr+"/msg_server")
	}
	if s.msfs != nil {
		line("files", s.msfs.url)
	}
	switch {
	case s.api != nil && s.api.addr != "":
		line("http", "http://"+reachable(s.api.addr)+"/openapi.json")
	case s.api == nil && s.cfg.Runs(roleHTTP):
		line("http", "closed, until http.apps_file names the systems that may call it")
	}
	if s.admin != nil {
		line("admin", fmt.Sprintf("http://%s  /metrics /healthz /readyz",
			reachable(s.admin.Addr().String())))
	}
	if s.store != nil {
		line("store", s.storeName())
	}
	switch {
	case s.tls != nil && s.tls.End().IsZero():
		line("tls", "on all ports for clients, once the CA gives a certificate (tls.acme)")
	case s.tls != nil:
		line("tls", "on all ports for clients; the certificate ends "+
			s.tls.End().Format(time.DateOnly))
	case reachedByOthers(s, true):
		line("tls", "off: passwords and texts cross the network in clear text")
		line("", selfCommand()+" serve --tls.certificate FILE --tls.key FILE encrypts them")
	}
	switch {
	case s.servers.Proven():
		line("link tls", "on all ports for servers; the certificate ends "+s.servers.End())
	case s.servers != nil:
		line("link tls", "not required (link_tls.cpp_plaintext = \""+s.servers.Plaintext()+
			"\"); the certificate ends "+s.servers.End())
	case reachedByOthers(s, false):
		line("link tls", "off: whatever reaches the ports for servers may act for every user")
		line("", "teamtalk cert ca and teamtalk cert server NAME make the certificates")
	}
	if len(s.openUsers) > 0 {
		line("demo users", strings.Join(s.openUsers, " and ")+
			": everybody can log in with the password of the demo")
		line("", selfCommand()+" user passwd NAME changes it")
	}
}

// reachedByOthers reports whether other machines reach a port for clients, or one for servers.
func reachedByOthers(s *system, clients bool) bool {
	beyond := func(a net.Addr) bool {
		at, ok := a.(*net.TCPAddr)
		return ok && !at.IP.IsLoopback()
	}
	return clients && slices.ContainsFunc(s.webs, beyond) ||
		slices.ContainsFunc(s.ports, func(p *port) bool {
			return p.clients == clients && beyond(p.Addr())
		})
}

// demoCommands writes the commands to chat as the demo users. self is the name of this
// program.
func (s *system) demoCommands(w io.Writer, self string) {
	fmt.Fprintf(w, "Two users, alice and bob, have the password %q. In two more terminals:\n\n",
		admin.DemoPassword)
	for i, name := range admin.DemoUsers {
		fmt.Fprintf(w, "  %s chat %s %s --password %s%s\n",
			self, name, admin.DemoUsers[1-i], admin.DemoPassword, s.chatServer())
	}
	fmt.Fprintln(w)
	if url, _ := s.registration(); url != "" {
		where := ""
		if s.cfg.HTTP.AppsFile == "" { // an apps file has networks of its own
			where = ", on this machine"
		}
		fmt.Fprintf(w, "For a new user%s:\n\n  %s chat NAME --register%s\n\n", where, self,
			s.chatServer())
	}
}

// loginHTTP returns the address of login's HTTP port in the form in which it can be
// dialed on this machine; empty without the port.
func (s *system) loginHTTP() string {
	if s.login == nil || s.login.http == nil {
		return ""
	}
	return reachable(s.login.http.Addr().String())
}

// chatServer returns the flag that chat needs when login's HTTP port is not the default
// one.
func (s *system) chatServer() string {
	addr := s.loginHTTP()
	if addr == "" || strings.HasSuffix(addr, ":8080") {
		return ""
	}
	return " --server http://" + addr
}

// storeName returns the kind and the place of the store, for people.
func (s *system) storeName() string {
	if s.cfg.Store != "embedded" {
		return fmt.Sprintf("MySQL %s, Redis %s", s.cfg.MySQL.Master,
			strings.Join(s.cfg.Redis.Addrs, ","))
	}
	dir, err := filepath.Abs(s.cfg.DataDir)
	if err != nil {
		dir = s.cfg.DataDir
	}
	return "embedded, in " + dir
}

// selfCommand returns the command that started this program, to be typed again.
func selfCommand() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/teamtalk"
	}
	return os.Args[0]
}
