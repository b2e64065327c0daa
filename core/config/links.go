package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// serverAddrs is a setting with addresses of server ports that a role opens or connects to.
type serverAddrs struct {
	role, key string
	addrs     []string
	listen    bool // the role opens a port, and does not connect to one
}

// serverAddrs returns the addresses of all server ports that the roles of this process open,
// and those of the servers in other processes that the settings name.
func (c *Config) serverAddrs() []serverAddrs {
	all := c.AllInOne()
	var used []serverAddrs
	for _, s := range []serverAddrs{
		{"login", "login.server_listen", []string{c.Login.ServerAddr(all)}, true},
		{"route", "route.listen", []string{c.Route.Addr(all)}, true},
		{"dbproxy", "dbproxy.listen", []string{c.DBProxy.Addr(all)}, true},
		{"file", "file.server_listen", []string{c.File.ServerAddr(all)}, true},
		{"push", "push.listen", []string{c.Push.Addr(all)}, true},
		{"msg", "msg.server_listen", []string{c.Msg.ServerAddr()}, true},
		{"msg", "msg.dbproxy", c.Msg.DBProxy, false},
		{"msg", "msg.route", c.Msg.Route, false},
		{"msg", "msg.login", c.Msg.Login, false},
		{"msg", "msg.push", c.Msg.Push, false},
		{"msg", "msg.file", c.Msg.File, false},
		{"file", "file.route", c.File.Route, false},
		{"file", "file.dbproxy", c.File.DBProxy, false},
		{"http", "http.dbproxy", c.HTTP.DBProxy, false},
		{"http", "http.route", c.HTTP.Route, false},
		{"http", "http.push", c.HTTP.Push, false},
	} {
		if c.Runs(s.role) {
			used = append(used, s)
		}
	}
	return used
}

// LinkFrame returns the longest frame between servers, in bytes. A request of a client grows on
// its way: the message server adds its attach_data, and the user. link.max_frame, which may be
// equal to msg.max_frame, does not count these bytes.
func (c *Config) LinkFrame() int { return int(c.Link.MaxFrame) + 1<<10 }

// Serves reports whether this process opens a port of a role for other servers.
func (c *Config) Serves(role string) bool {
	return slices.ContainsFunc(c.serverAddrs(), func(s serverAddrs) bool {
		return s.listen && s.role == role && s.addrs[0] != ""
	})
}

// MayDial returns an error for the address of a registered server to which no link may be opened:
// it would leave this machine without TLS, which no setting allows.
func (c *Config) MayDial(addr string) error {
	if c.protectsLinks() || onLoopback(addr) {
		return nil
	}
	return fmt.Errorf("the link to %s would leave this machine without TLS: set link_tls.ca, or "+
		"link_tls.plaintext_beyond_loopback in a network that only servers reach", addr)
}

// protectsLinks reports whether links that leave this machine have TLS, or need none.
func (c *Config) protectsLinks() bool {
	p := &c.LinkTLS
	return p.CA != "" || p.PlaintextBeyondLoopback || p.CPPPlaintext == "dial"
}

// checkLinks reports links between servers that leave this machine without TLS, and
// certificates that are incomplete.
func (c *Config) checkLinks(wrong func(key, format string, args ...any)) {
	p := &c.LinkTLS
	if (p.CA == "") != (p.Certificate == "") || (p.CA == "") != (p.Key == "") {
		wrong("link_tls.ca", "needed with link_tls.certificate and link_tls.key, and the other "+
			"way round")
		return
	}
	if c.protectsLinks() {
		return
	}
	var open []string
	for _, s := range c.serverAddrs() {
		for _, addr := range s.addrs {
			if addr != "" && !onLoopback(addr) {
				open = append(open, fmt.Sprintf("%s (%s)", s.key, addr))
			}
		}
	}
	if len(open) == 0 {
		return
	}
	wrong("link_tls.ca", "needed, because links between servers leave this machine: %s. Without "+
		"TLS, whatever reaches a server port may act for every user. Make the certificates with "+
		`"teamtalk cert ca" and "teamtalk cert server NAME", or use addresses on 127.0.0.1. `+
		`In a ring with C++ servers, link_tls.cpp_plaintext = "dial" allows links without TLS. `+
		"In a network that only servers reach, link_tls.plaintext_beyond_loopback = true does",
		strings.Join(open, ", "))
}

// onLoopback reports whether an address reaches only this machine. Names are not resolved:
// only localhost is known to.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return strings.EqualFold(host, "localhost")
	}
	return ip.Unmap().IsLoopback()
}
