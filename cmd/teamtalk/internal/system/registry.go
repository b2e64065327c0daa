package system

import (
	"net"
	"strconv"

	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/membership"
	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/core/config"
	"teamtalk/core/obs"
	"teamtalk/core/registry"
)

// openRegistry opens the registry and begins to read the servers of other processes, unless the
// settings turn it off.
func openRegistry(s *system) (err error) {
	s.member, err = membership.Open(membership.Options{Config: s.cfg, Ready: s.ready,
		Stops: &s.stops, Log: s.log, Registerer: s.reg})
	if s.member != nil {
		s.registry, s.node = s.member.Registry, s.member.Name
	}
	return err
}

// register registers the servers of this process, whose ports are all open.
func register(s *system, v obs.Version) {
	servers := membership.Servers{Failed: s.fail,
		Nodes: func() []registry.Node { return nodesOf(s, s.node, v) }}
	if s.msg != nil {
		servers.Messages = s.msg
	}
	if s.db != nil {
		servers.Requests = s.db
	}
	s.member.Register(servers)
}

// nodesOf returns the servers of this process with their present load.
func nodesOf(s *system, name string, v obs.Version) []registry.Node {
	var nodes []registry.Node
	for _, role := range s.cfg.Roles {
		n := registry.Node{Name: name, Role: role, Version: v.Version,
			Draining: s.member.Drains(role), Renew: s.cfg.Registry.Renew.Milliseconds()}
		switch role {
		case config.RoleMsg:
			n.Capacity, n.Load.Users = int64(s.clientLimit()), int64(s.msg.Online())
			addPort(s, &n, meshPort, "clients")
			n.Pages = pagesAddress(s, portWebSocket)
		case config.RoleLogin:
			addPort(s, &n, "login servers", "login")
			if s.login.http != nil {
				n.Load.Connections += int64(s.login.http.Open())
				at := s.login.http.Addr().(*net.TCPAddr)
				n.Clients = append(n.Clients, "http://"+clientHost(s, at)+"/msg_server")
			}
		case config.RoleFile:
			n.Capacity = int64(min(s.ports.Budget.Limit(), s.live.Load().File.MaxConnections))
			addPort(s, &n, "file servers", "file")
			n.Pages = pagesAddress(s, config.RoleFile)
		case config.RoleRoute, config.RoleDBProxy:
			addPort(s, &n, role, "")
		case config.RolePush:
			addPort(s, &n, role, "")
			if !pushes(&s.cfg.Push) {
				n.Addr = "" // it has nothing to send a push with
			}
		case config.RoleMSFS:
			if s.msfs.url != "" { // without a port
				n.Clients = []string{s.msfs.url}
			}
			if s.msfs.at != nil {
				n.Pages = clientHost(s, s.msfs.at)
			}
		case config.RoleHTTP:
			if s.api == nil || s.api.url == "" {
				continue // nobody may call it
			}
			n.Clients, n.Pages = []string{s.api.url}, clientHost(s, s.api.at)
		case config.RoleWeb:
			if s.web == nil {
				continue // it is off
			}
			n.Clients, n.Load.Connections = []string{s.web.url}, int64(s.web.port.Open())
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// pagesAddress returns the address at which web servers reach a port of the engine; "": there is no
// such port.
func pagesAddress(s *system, name string) string {
	p := s.ports.Named(name)
	if p == nil {
		return ""
	}
	return clientHost(s, p.Addr().(*net.TCPAddr))
}

// addPort adds the addresses and the connections of two ports, for servers and for clients; "":
// there is none.
func addPort(s *system, n *registry.Node, servers, clients string) {
	for _, p := range s.ports.List() {
		at := p.Addr().(*net.TCPAddr)
		switch p.Name {
		case servers:
			n.Addr = net.JoinHostPort(s.cfg.Registry.Host(at.String()), strconv.Itoa(at.Port))
		case clients:
			n.Clients = clientAddresses(s, p, at)
		default:
			continue
		}
		n.Load.Connections += int64(p.Open())
	}
}

// clientAddresses returns the addresses of a port that clients are told.
func clientAddresses(s *system, p *ports.Port, at *net.TCPAddr) []string {
	join := func(host string, port int) string {
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	switch p.Name {
	case "clients":
		ip1, ip2, number := address.Msg(&s.cfg.Msg, p.Addr())
		if ip1 == ip2 {
			return []string{join(ip1, number)}
		}
		return []string{join(ip1, number), join(ip2, number)}
	case "file":
		a := address.File(s.cfg, at)
		return []string{join(a.IP, int(a.Port))}
	}
	return []string{clientHost(s, at)}
}

// clientHost returns the host and the port of a port of login.
func clientHost(s *system, at *net.TCPAddr) string {
	host := s.cfg.Registry.Host(at.String())
	if host == "" {
		host = address.Own()
	}
	return net.JoinHostPort(host, strconv.Itoa(at.Port))
}
