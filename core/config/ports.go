package config

import "net"

// listener is a port that this process opens.
type listener struct{ role, key, addr string } // role "": every process

// listeners returns the ports that the roles of this process open.
func (c *Config) listeners() []listener {
	all := c.AllInOne()
	api := Addr(c.HTTP.Listen)
	if c.HTTP.AppsFile == "" { // nobody may call it, so it stays closed
		api = ""
	}
	challenges := Addr(c.TLS.ACME.HTTPListen)
	if len(c.TLS.ACME.Domains) == 0 || c.TLS.ACME.Challenge != "http-01" {
		challenges = ""
	}
	var open []listener
	for _, l := range []listener{
		{"", "admin.listen", Addr(c.Admin.Listen)},
		{"", "admin_api.listen", Addr(c.AdminAPI.Listen)},
		{"", "tls.acme.http_listen", challenges},
		{"login", "login.client_listen", Addr(c.Login.ClientListen)},
		{"login", "login.http_listen", Addr(c.Login.HTTPListen)},
		{"login", "login.server_listen", c.Login.ServerAddr(all)},
		{"msg", "msg.listen", Addr(c.Msg.Listen)},
		{"msg", "msg.websocket_listen", Addr(c.Msg.WebSocketListen)},
		{"msg", "msg.server_listen", c.Msg.ServerAddr()},
		{"route", "route.listen", c.Route.Addr(all)},
		{"dbproxy", "dbproxy.listen", c.DBProxy.Addr(all)},
		{"msfs", "msfs.listen", Addr(c.MSFS.Listen)},
		{"file", "file.listen", Addr(c.File.Listen)},
		{"file", "file.server_listen", c.File.ServerAddr(all)},
		{"push", "push.listen", c.Push.Addr(all)},
		{"http", "http.listen", api},
		{"web", "web.listen", Addr(c.Web.Listen)},
	} {
		if l.addr != "" && (l.role == "" || c.Runs(l.role)) {
			open = append(open, l)
		}
	}
	return open
}

// checkAdminAPI reports what the port of the admin API lacks.
func (c *Config) checkAdminAPI(missing func(key, format string, args ...any)) {
	if Addr(c.AdminAPI.Listen) == "" {
		return
	}
	if c.AdminAPI.Tokens == "" {
		missing("admin_api.tokens", "needed with admin_api.listen: make the file with "+
			"teamtalk token add NAME --file FILE")
	}
	if c.Store != "mysql" && !c.Runs("dbproxy") {
		missing("admin_api.listen", "needs the role dbproxy in this process, because only that "+
			"may use the embedded store (setting store)")
	}
}

// checkPorts reports ports of this process that have the same address.
func (c *Config) checkPorts(wrong func(key, format string, args ...any)) {
	open := c.listeners()
	for i, l := range open {
		for _, other := range open[:i] {
			if collide(l.addr, other.addr) {
				wrong(l.key, "%s is also the address of %s (%s): each port needs one of its own",
					l.addr, other.key, other.addr)
				break
			}
		}
	}
}

// collide reports whether the system refuses to open both of two ports.
func collide(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && portA != "0" &&
		(hostA == hostB || covers(hostA, hostB) || covers(hostB, hostA))
}

// covers reports whether host is all addresses, and other one of them. 0.0.0.0 is those of IPv4.
func covers(host, other string) bool {
	ip := net.ParseIP(other)
	return host == "" || host == "::" ||
		host == "0.0.0.0" && (ip == nil || ip.To4() != nil || ip.IsUnspecified())
}
