package system

import (
	"fmt"
	"io"
	"strings"
	"time"

	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/banner"
	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// banner writes the address of each server, and the commands to try next.
func (s *system) banner(w io.Writer, v obs.Version) {
	b := banner.Banner{Version: v.Version, Roles: s.cfg.Roles, Login: s.loginHTTP(),
		Demo: s.demo, Users: s.store != nil && s.msg != nil,
		Anywhere: s.cfg.HTTP.AppsFile != ""} // an apps file has networks of its own
	url, _ := s.registration()
	b.Registers = url != ""
	if s.web != nil {
		b.Page = s.web.url
	}
	s.addresses(b.Add)
	b.Write(w)
}

// addresses calls line with the name and the address of each server.
func (s *system) addresses(line func(what, where string)) {
	for _, p := range s.ports.List() {
		switch p.Name {
		case "clients":
			ip, _, number := address.Msg(&s.cfg.Msg, p.Addr())
			line("clients", fmt.Sprintf("tcp %s (announced as %s:%d)", p.Addr(), ip, number))
		case portWebSocket:
			line(p.Name, "ws "+p.Addr().String())
		default:
			line(p.Name, "tcp "+p.Addr().String())
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
		line("http", "http://"+address.Reachable(s.api.addr)+"/openapi.json")
	case s.api == nil && s.cfg.Runs(config.RoleHTTP):
		line("http", "closed, until http.apps_file names the systems that may call it")
	}
	if s.web != nil {
		line("web", s.web.url)
	}
	s.adminAddresses(line)
	if s.store != nil {
		line("store", banner.Store(s.cfg))
	}
	switch {
	case s.tls != nil && s.tls.End().IsZero():
		line("tls", "on all ports for clients, once the CA gives a certificate (tls.acme)")
	case s.tls != nil:
		line("tls", "on all ports for clients; the certificate ends "+
			s.tls.End().Format(time.DateOnly))
	case s.ports.Beyond(true):
		line("tls", "off: passwords and texts cross the network in clear text")
		line("", banner.Self()+" serve --tls.certificate FILE --tls.key FILE encrypts them")
	}
	switch {
	case s.servers.Proven():
		line("link tls", "on all ports for servers; the certificate ends "+s.servers.End())
	case s.servers != nil:
		line("link tls", "not required (link_tls.cpp_plaintext = \""+s.servers.Plaintext()+
			"\"); the certificate ends "+s.servers.End())
	case s.ports.Beyond(false):
		line("link tls", "off: whatever reaches the ports for servers may act for every user")
		line("", "teamtalk cert ca and teamtalk cert server NAME make the certificates")
	}
	if len(s.openUsers) > 0 {
		line("demo users", strings.Join(s.openUsers, " and ")+
			": everybody can log in with the password of the demo")
		line("", banner.Self()+" user passwd NAME changes it")
	}
}

// adminAddresses calls line for the ports of administrators and operators.
func (s *system) adminAddresses(line func(what, where string)) {
	if s.console != "" {
		line("admin page", s.console)
	}
	if s.admin != nil {
		line("admin", fmt.Sprintf("http://%s  /metrics /healthz /readyz",
			address.Reachable(s.admin.Addr().String())))
	}
}

// loginHTTP returns the address of login's HTTP port in the form in which it can be
// dialed on this machine; empty without the port.
func (s *system) loginHTTP() string {
	if s.login == nil || s.login.http == nil {
		return ""
	}
	return address.Reachable(s.login.http.Addr().String())
}
