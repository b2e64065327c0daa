package system

import (
	"context"
	"errors"
	"fmt"
	"os"

	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/peering"
	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/link"
	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/core/websocket"
	"teamtalk/handlers/msg"
)

// startMsg starts the message server: first its links, then the clients' port, and the
// links to login servers last, because login servers send clients here from then on.
func (s *system) startMsg(ctx context.Context) error {
	cfg := &s.cfg.Msg
	m, err := msg.New(s.msgOptions())
	if err != nil {
		return err
	}
	s.msg = m
	s.stops.Push(stops.DrainMessages, "message server", m.Drain)
	db, err := s.group(peering.Peers{
		Role: config.RoleDBProxy, Here: s.localDB(), Addrs: cfg.DBProxy,
		Conns: cfg.DBProxyConnections, Handler: m.DBLink(),
	})
	if err != nil {
		return err
	}
	routes, err := s.group(peering.Peers{
		Role: config.RoleRoute, Here: routeOfMsg(s), Addrs: cfg.Route, Handler: m.RouteLink(),
		Listed: s.mesh != nil,
	})
	if err != nil {
		return err
	}
	if s.mesh != nil {
		s.mesh.Connect(db.Class(link.ClassLogin))
	}
	m.Connect(db.Class(link.ClassMessage), db.Class(link.ClassLogin), routes)
	if err := s.connectPush(m); err != nil {
		return err
	}
	if err := s.connectFiles(m); err != nil {
		return err
	}
	awaitLinks(ctx, db, routes)
	if err := s.serveClients(m); err != nil {
		return err
	}
	s.needs(config.RoleDBProxy, db)
	s.needs(config.RoleRoute, routes)
	return connectLogins(s, m)
}

// connectLogins links the message server to the login servers, which send clients here from then
// on. With the registry they find it there, and read from there how many clients it has: no link
// is needed, except to one in this process, which works while Redis is away.
func connectLogins(s *system, m *msg.Server) error {
	if s.member.ReadByLogins() {
		s.ready.Add(config.RoleLogin, func(context.Context) error {
			if s.registry.View().Count(config.RoleLogin) == 0 {
				return obs.Degraded(errors.New("no login server is registered: no client is " +
					"sent here"))
			}
			return nil
		})
		return nil
	}
	logins, err := s.group(peering.Peers{
		Role: config.RoleLogin, Here: s.localLogin(), Addrs: s.cfg.Msg.Login,
		Handler: m.LoginLink(), Listed: true,
	})
	if err == nil {
		s.needs(config.RoleLogin, logins)
	}
	return err
}

// alone reports whether no other message server can be connected to that of this process.
func alone(s *system) bool {
	return s.route != nil && len(s.cfg.Msg.Route) == 0 &&
		s.cfg.Route.Addr(s.cfg.AllInOne()) == ""
}

// msgOptions returns the options that the settings hold.
func (s *system) msgOptions() msg.Options {
	cfg := &s.cfg.Msg
	host, _ := os.Hostname()
	return msg.Options{
		Proxies: s.ports.Trusted, MaxConns: s.clientLimit(), HostName: host, Alone: alone(s),
		Listed:    s.member.ReadByLogins(),
		Announces: s.mesh != nil, Whereabouts: s.mesh != nil,
		Policy: msg.DevicePolicy(cfg.DevicePolicy), Ack: msg.AckPolicy(cfg.Ack),
		Presence: msg.Presence(cfg.Tells()), PresenceWindow: cfg.PresenceWindow,
		PushText: cfg.PushText, TextKey: string(s.cfg.Keys.Text),
		RequireCipher: cfg.RequireCipher, AckWait: cfg.AckWait,
		RedeliverAfter: cfg.RedeliverAfter, ResendWindow: cfg.ResendWindow,
		Hold: cfg.Hold,
		Rate: cfg.Rate, RateBurst: float64(cfg.RateBurst),
		TicketKey:     s.ticketKey,
		LoginDeadline: cfg.LoginDeadline, PCTimeout: cfg.PCTimeout,
		MobileTimeout: cfg.MobileTimeout,
		Audit:         s.audit, Log: s.log, Registerer: s.reg, Trace: s.trace,
	}
}

// clientLimit returns how many clients may be connected to the message server.
func (s *system) clientLimit() int {
	limit := s.ports.Budget.Limit()
	if most := s.live.Load().Msg.MaxConnections; most > 0 {
		return min(limit, most)
	}
	return limit
}

// portWebSocket is the name of the port for clients that use WebSocket.
const portWebSocket = "websocket"

// serveClients opens the clients' port.
func (s *system) serveClients(m *msg.Server) error {
	cfg := &s.cfg.Msg
	clients := &ports.Port{Name: "clients", Clients: true}
	err := s.ports.Open(clients, "msg.listen", config.Addr(cfg.Listen), engine.Options{
		Clients: m, MaxConns: s.clientLimit(), MaxFrame: int(cfg.MaxFrame),
		MaxBuffered: int(cfg.SlowConsumer),
	})
	if err != nil {
		return err
	}
	if err := serveWebSocket(s, m); err != nil {
		return err
	}
	if clients.Server != nil {
		m.Announce(address.Msg(&s.cfg.Msg, clients.Addr()))
	}
	return nil
}

// serveWebSocket opens the port for clients that use WebSocket, unless the settings turn it off.
// The page of this process needs no port.
func serveWebSocket(s *system, m *msg.Server) error {
	cfg := &s.cfg.Msg
	origins, err := websocket.ParseOrigins(cfg.WebSocketOrigins)
	if err != nil {
		return fmt.Errorf("setting msg.websocket_origins: %w", err)
	}
	p, where := &ports.Port{Name: portWebSocket, Clients: true}, "msg.websocket_listen"
	opt := engine.Options{
		Clients: m, MaxConns: s.clientLimit(), MaxFrame: int(cfg.MaxFrame),
		MaxBuffered: int(cfg.SlowConsumer), WebSocket: &engine.WebSocket{
			Origins: origins, LoginDeadline: cfg.WebSocketLogin},
	}
	if s.pages = p; config.Addr(cfg.WebSocketListen) == "" && s.cfg.ServesWeb() {
		return s.ports.Serve(p, where, "", opt)
	}
	return s.ports.Open(p, where, config.Addr(cfg.WebSocketListen), opt)
}

// connectFiles links the message server to the file servers: to the one in this process,
// if there is one, and to those at the addresses of the settings, or to those that are
// registered. Each file server has a group of its own, since only the server that made a
// transfer knows it.
func (s *system) connectFiles(m *msg.Server) error {
	if s.file != nil {
		if err := s.connectFile(m, s.file.Servers(), nil); err != nil {
			return err
		}
	}
	for _, addr := range s.cfg.Msg.File {
		if err := s.connectFile(m, nil, []string{addr}); err != nil {
			return err
		}
	}
	all := peering.Peers{Role: config.RoleFile, Addrs: s.cfg.Msg.File}
	if s.file != nil {
		all.Here = s.file.Servers()
	}
	if s.linker.Follows(all) {
		end := s.linker.Each(config.RoleFile, s.file != nil, func() peering.Member {
			l := m.FileLink()
			return peering.Member{Handler: l,
				Joined: func(g *link.Group) { m.ConnectFile(l, g) },
				Left:   func() { m.DisconnectFile(l) }}
		})
		s.stops.Push(stops.CloseLinks, "links to registered file servers", stops.Closing(end))
	}
	return nil
}

// connectFile links the message server to one file server.
func (s *system) connectFile(m *msg.Server, here session.LinkHandler, addrs []string) error {
	l := m.FileLink()
	g, err := s.group(peering.Peers{Role: config.RoleFile, Here: here, Addrs: addrs, Handler: l,
		Listed: true})
	if err != nil {
		return err
	}
	m.ConnectFile(l, g)
	return nil
}
