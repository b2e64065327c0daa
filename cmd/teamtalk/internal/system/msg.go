package system

import (
	"context"
	"os"
	"time"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/handlers/msg"
)

func (s *system) startMsg(ctx context.Context) error {
	cfg := s.cfg.Msg
	never := func(d time.Duration) time.Duration {
		if d == 0 {
			return -1 // the settings say 0 for never, the options for their default
		}
		return d
	}
	rate := cfg.Rate
	if rate == 0 {
		rate = -1
	}
	limit := s.budget.Limit()
	if cfg.MaxConnections > 0 {
		limit = min(limit, cfg.MaxConnections)
	}
	host, _ := os.Hostname()
	opt := msg.Options{
		MaxConns: limit, HostName: host,
		Policy: msg.DevicePolicy(cfg.DevicePolicy), Ack: msg.AckPolicy(cfg.Ack), Presence: msg.Presence(cfg.Presence),
		PresenceWindow: never(cfg.PresenceWindow), PushText: pushText(s.cfg), TextKey: string(s.cfg.Keys.Text),
		RequireCipher: cfg.RequireCipher, AckWait: cfg.AckWait, RedeliverAfter: never(cfg.RedeliverAfter), ResendWindow: never(cfg.ResendWindow),
		Rate: rate, RateBurst: float64(cfg.RateBurst), LoginDeadline: cfg.LoginDeadline, PCTimeout: cfg.PCTimeout, MobileTimeout: cfg.MobileTimeout,
		Log: s.log, Registerer: s.reg,
	}
	m, err := msg.New(opt)
	if err != nil {
		return err
	}
	s.msg = m
	// What is not here stays a nil interface: a nil pointer in one would not be.
	var dbHere, routeHere, loginHere session.Handler
	if s.db != nil {
		dbHere = s.db
	}
	if s.route != nil {
		routeHere = s.route
	}
	if s.login != nil {
		loginHere = s.login.Servers()
	}
	db, err := s.group("dbproxy", dbHere, s.cfg.Msg.DBProxy, s.cfg.Msg.DBProxyConnections, m.DBLink())
	if err != nil {
		return err
	}
	routes, err := s.group("route", routeHere, s.cfg.Msg.Route, 1, m.RouteLink())
	if err != nil {
		return err
	}
	m.Connect(db.Class(link.ClassMessage), db.Class(link.ClassLogin), routes)
	if err := s.connectPush(m); err != nil {
		return err
	}
	if err := s.connectFiles(m); err != nil {
		return err
	}
	awaitLinks(ctx, db, routes)
	clients := &port{name: "clients", clients: true}
	err = s.listen(clients, "msg.listen", config.Addr(cfg.Listen),
		engine.Options{Handler: m, MaxConns: limit, MaxFrame: int(cfg.MaxFrame), MaxBuffered: int(cfg.SlowConsumer)})
	if err != nil {
		return err
	}
	// Login servers last: from now on clients are sent here.
	if clients.Server != nil {
		m.Announce(s.advertised(clients))
	}
	logins, err := s.group("login", loginHere, s.cfg.Msg.Login, 1, m.LoginLink())
	if err != nil {
		return err
	}
	for _, g := range []*link.Group{db, routes, logins} {
		s.needs(g.Name(), g)
	}
	return nil
}

// linkPatience is how long a message server that starts waits for its links before it listens for
// clients.
const linkPatience = 2 * time.Second

// awaitLinks waits until all groups are up, for linkPatience at most. A client that connects before
// that would be refused, and stock clients take that worse than a port that is not open yet: Windows
// pauses for 3 s, Android tries again at once, 15 to 200 times a second. When the other servers stay
// away the port opens all the same, so that clients are told why they cannot log in.
func awaitLinks(ctx context.Context, groups ...*link.Group) {
	ctx, cancel := context.WithTimeout(ctx, linkPatience)
	defer cancel()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for _, g := range groups {
		for !g.Up() {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// connectFiles links the message server to the file servers: to the one in this process, if it is here, and to those at the addresses. Each has a link of
// its own, since only the server that made a transfer has it.
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
	return nil
}

func (s *system) connectFile(m *msg.Server, here session.Handler, addrs []string) error {
	l := m.FileLink()
	g, err := s.group("file", here, addrs, 1, l)
	if err != nil {
		return err
	}
	m.ConnectFile(l, g)
	return nil
}
