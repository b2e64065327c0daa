package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/obs"
	"teamtalk/core/registry"
	"teamtalk/sql/redisregistry"
)

// openRegistry opens the registry and begins to read the servers of other processes, unless the
// settings turn it off. It does not wait for Redis.
func openRegistry(s *system) error {
	if !s.cfg.Registry.Enabled {
		return nil
	}
	name, err := NodeName(s.cfg)
	if err != nil {
		return err
	}
	i, err := open.RegistryRedis(s.cfg)
	if err != nil {
		return err
	}
	opt := open.RegistryOptions(s.cfg, i)
	opt.Roles, opt.Log, opt.Registerer = config.Roles(), s.log, s.reg
	s.draining.s = s
	opt.Ordered = s.draining.order
	s.registry, s.node = redisregistry.Open(opt), name
	s.stops.Push(stops.CloseStore, "connections to the registry", stops.Closing(s.registry.Close))
	s.ready.Add("registry", func(context.Context) error {
		return obs.Degraded(s.registry.State())
	})
	// Until the links are closed, they follow the other servers.
	s.stops.Go(stops.CloseStore, "reading of the registry", s.registry.Watch)
	return nil
}

// register registers the servers of this process, whose ports are all open.
func register(s *system, v obs.Version) {
	r := s.registry
	if r == nil {
		return
	}
	run := stops.InBackground(func(ctx context.Context) {
		err := r.Run(ctx, func() []registry.Node { return nodesOf(s, s.node, v) })
		if replaced := new(redisregistry.ReplacedError); errors.As(err, &replaced) {
			err = &ReplacedError{&config.Error{Problems: []config.Problem{{Key: "node.name",
				Origin: s.cfg.Origin("node.name"), Msg: replaced.Error()}}}}
		}
		if err != nil {
			s.fail(err)
		}
	})
	s.stops.Push(stops.AnnounceEnd, "registry", s.draining.announceEnd)
	if s.msg != nil {
		s.stops.Push(stops.ReleaseClients, "message server", s.draining.releaseAtEnd)
	}
	s.stops.Push(stops.LeaveRegistry, "registry", func(ctx context.Context) error {
		run.Stop()
		if err := r.Leave(ctx); err != nil && r.Epoch() > 0 {
			s.log.Warn("the registry still has this process until its lease ends", "err", err)
		}
		return nil
	})
}

// ReplacedError is the error of a process whose name another process has taken.
type ReplacedError struct{ cause *config.Error }

// Error names the setting and the other process.
func (e *ReplacedError) Error() string { return e.cause.Error() }

// ExitCode returns 3. A service manager must not restart the process: it would take the name
// back, and the two would end each other again and again.
func (*ReplacedError) ExitCode() int { return 3 }

// NodeName returns the name of this process: the setting's, else that of the machine. A name that
// several machines have is refused.
func NodeName(cfg *config.Config) (string, error) {
	if cfg.Node.Name != "" {
		return cfg.Node.Name, nil
	}
	host, err := os.Hostname()
	host = strings.ToLower(host)
	if err == nil {
		err = registry.CheckName(host)
	}
	if err == nil && (host == "localhost" || strings.HasPrefix(host, "localhost.")) {
		err = fmt.Errorf("other machines have the name %s as well", host)
	}
	if err != nil {
		return "", &config.Error{Problems: []config.Problem{{Key: "node.name",
			Origin: cfg.Origin("node.name"), Msg: fmt.Sprintf("needed with registry.enabled, "+
				"because the name of this machine does not serve: %v", err)}}}
	}
	return host, nil
}

// nodesOf returns the servers of this process with their present load.
func nodesOf(s *system, name string, v obs.Version) []registry.Node {
	var nodes []registry.Node
	for _, role := range s.cfg.Roles {
		n := registry.Node{Name: name, Role: role, Version: v.Version,
			Draining: s.draining.has(role), Renew: s.cfg.Registry.Renew.Milliseconds()}
		switch role {
		case roleMsg:
			n.Capacity, n.Load.Users = int64(s.clientLimit()), int64(s.msg.Online())
			addPort(s, &n, meshPort, "clients")
			n.Pages = pagesAddress(s, portWebSocket)
		case roleLogin:
			addPort(s, &n, "login servers", "login")
			if s.login.http != nil {
				n.Load.Connections += int64(s.login.http.Open())
				at := s.login.http.Addr().(*net.TCPAddr)
				n.Clients = append(n.Clients, "http://"+clientHost(s, at)+"/msg_server")
			}
		case roleFile:
			n.Capacity = int64(min(s.budget.Limit(), s.live.Load().File.MaxConnections))
			addPort(s, &n, "file servers", "file")
			n.Pages = pagesAddress(s, roleFile)
		case roleRoute, RoleDBProxy:
			addPort(s, &n, role, "")
		case rolePush:
			addPort(s, &n, role, "")
			if !pushes(&s.cfg.Push) {
				n.Addr = "" // it has nothing to send a push with
			}
		case roleMSFS:
			if s.msfs.url != "" { // without a port
				n.Clients = []string{s.msfs.url}
			}
			if s.msfs.at != nil {
				n.Pages = clientHost(s, s.msfs.at)
			}
		case roleHTTP:
			if s.api == nil || s.api.url == "" {
				continue // nobody may call it
			}
			n.Clients, n.Pages = []string{s.api.url}, clientHost(s, s.api.at)
		case roleWeb:
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
	for _, p := range s.ports {
		if p.name == name {
			return clientHost(s, p.Addr().(*net.TCPAddr))
		}
	}
	return ""
}

// addPort adds the addresses and the connections of two ports, for servers and for clients; "":
// there is none.
func addPort(s *system, n *registry.Node, servers, clients string) {
	for _, p := range s.ports {
		at := p.Addr().(*net.TCPAddr)
		switch p.name {
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
func clientAddresses(s *system, p *port, at *net.TCPAddr) []string {
	join := func(host string, port int) string {
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	switch p.name {
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
