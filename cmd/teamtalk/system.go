package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/core/web"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/file"
	"teamtalk/handlers/login"
	"teamtalk/handlers/msg"
	"teamtalk/handlers/push"
	"teamtalk/handlers/route"
	"teamtalk/pool"
)

// The roles, as the configuration names them.
const (
	roleLogin   = "login"
	roleMsg     = "msg"
	roleRoute   = "route"
	roleDBProxy = "dbproxy"
	roleMSFS    = "msfs"
	roleFile    = "file"
	rolePush    = "push"
	roleHTTP    = "http"
)

// system is the servers of one process: the only place that knows all of them. start puts them together from the bottom up – store, db_proxy,
// route, login, message server, their links, the ports of clients last – and Stop takes them down so that what was accepted is
// finished and answered.
type system struct {
	cfg    *config.Config
	log    *slog.Logger
	demo   bool
	reg    *prometheus.Registry
	ready  *obs.Ready
	budget *engine.Budget
	links  *link.Metrics

	admin *obs.Admin
	store im.Store
	pool  *pool.Pool
	db    *dbproxy.Server
	dbEnd dbProxyEnd
	route *route.Server
	login *login.Server
	msg   *msg.Server
	msfs  *smallFiles
	file  *file.Server
	push  *push.Server
	api   *httpAPI

	fileEnd fileEnd

	ports  []*port
	peers  []link.Peer // in the order of making
	http   *web.Server // login's
	failed chan error  // a part that ended by itself
}

// port is a listener of the engine.
type port struct {
	name    string // as in "clients"
	clients bool   // people's clients, not servers
	*engine.Server
}

// startSystem starts the roles of cfg; in a demo, people on this machine may register. When it returns without an error every port is open. On an error nothing is left behind.
func startSystem(ctx context.Context, cfg *config.Config, log *slog.Logger, demo bool) (_ *system, err error) {
	if err := cfg.CheckServe(); err != nil {
		return nil, err
	}
	s := &system{
		cfg: cfg, log: log, demo: demo, failed: make(chan error, 16),
		reg: obs.NewRegistry(obs.ReadVersion(version, revision)), ready: obs.NewReady(0),
	}
	s.links = link.NewMetrics(s.reg)
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = s.Stop(stop) // the first error is the one to tell
		}
	}()
	if s.budget, err = engine.NewBudget(); err != nil {
		return nil, err
	}
	// Nothing is ready until all of it is: the admin port opens first, so that a probe gets an answer meanwhile.
	s.ready.Set("start", errors.New("starting"))
	if addr := config.Addr(cfg.Admin.Listen); addr != "" {
		s.admin, err = obs.StartAdmin(obs.AdminOptions{Addr: addr, Gatherer: s.reg, Ready: s.ready, PProf: cfg.Admin.PProf, Log: log})
		if err != nil {
			return nil, fmt.Errorf("%w (setting admin.listen)", err)
		}
	}
	for _, step := range []struct {
		role  string
		start func(context.Context) error
	}{
		{roleMSFS, s.startMSFS}, {rolePush, s.startPush}, {roleDBProxy, s.startDBProxy}, {roleRoute, s.startRoute}, {roleFile, s.startFile}, {roleHTTP, s.startHTTPAPI}, {roleLogin, s.startLogin}, {roleMsg, s.startMsg},
	} {
		if cfg.Runs(step.role) {
			if err := step.start(ctx); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range s.ports {
		go s.watch(p)
	}
	s.ready.Set("start", nil)
	return s, nil
}

// watch reports a port whose engine ends by itself.
func (s *system) watch(p *port) {
	if err := p.Err(); err != nil {
		s.fail(fmt.Errorf("port for %s: %w", p.name, err))
	}
}

func (s *system) fail(err error) {
	select {
	case s.failed <- err:
	default: // one is enough to end the process
	}
}

// listen opens a port for a role. where is the setting, for the error. An empty address opens none.
func (s *system) listen(p *port, where, addr string, opt engine.Options) error {
	if addr == "" {
		return nil
	}
	opt.Name, opt.Addr = p.name, addr
	opt.Loops, opt.Budget, opt.Log, opt.Registerer = s.cfg.Loops, s.budget, s.log, s.reg
	if !p.clients {
		opt.MaxFrame, opt.MaxBuffered = int(s.cfg.Link.MaxFrame), 64<<20
	}
	srv, err := engine.Start(opt)
	if err != nil {
		return fmt.Errorf("%w (setting %s)", err, where)
	}
	p.Server = srv
	s.ports = append(s.ports, p)
	return nil
}

func (s *system) startDBProxy(ctx context.Context) error {
	cfg := s.cfg
	sizes := pool.SizesFor(cfg.Workers)
	store, err := openStore(ctx, cfg, storeOptions{Log: s.log, Registerer: s.reg})
	if err != nil {
		return err
	}
	s.store = store
	s.ready.Add("store", store.Ping)
	s.pool = pool.New(pool.Options{Workers: sizes.Workers, Queue: cfg.DBProxy.Queue, Logger: s.log, Registerer: s.reg})
	sounds, err := s.openSounds()
	if err != nil {
		return err
	}
	text, err := im.NewTextCipher(string(cfg.Keys.Text))
	if err != nil {
		return fmt.Errorf("%w (setting keys.text_key)", err)
	}
	attempts := cfg.DBProxy.LoginLockAttempts
	if attempts == 0 {
		attempts = -1
	}
	s.db = dbproxy.New(dbproxy.Options{
		Store: store, Tasks: s.pool, Sounds: sounds, Text: text, HistoryLimit: cfg.DBProxy.HistoryLimit,
		LockAttempts: attempts, LockWindow: cfg.DBProxy.LoginLockWindow,
		Timeout:     cfg.Link.CallTimeout * 4 / 5, // over before message servers give up
		LinkTimeout: cfg.Link.Timeout, LinkHeartbeat: cfg.Link.Heartbeat, Log: s.log, Registerer: s.reg,
	})
	batches := pool.BatchOptions[*dbproxy.Pending]{Shards: cfg.DBProxy.MessageShards, Failed: s.db.FailBatch}
	if batches.Shards == 0 {
		// Where database and servers share two cores, two batches at once wait for each other less than four, and are larger: see bench/PERFORMANCE.md.
		batches.Shards = min(s.pool.BatchWorkers(), 4, max(2, runtime.GOMAXPROCS(0)))
	}
	if cfg.Store == "embedded" {
		if cfg.DBProxy.MessageShards == 0 {
			batches.Shards = 1 // SQLite has one writer: two batches at once would only wait for each other
		}
		// Each conversation has pages of its own, which a batch writes once: with hundreds of conversations at work it is large batches that catch up.
		batches.MaxItems, batches.MaxBytes = 1024, 1<<20
	}
	s.db.SetMessages(pool.NewBatcher(s.pool, batches, (*dbproxy.Pending).Size, s.db.AppendBatch))
	s.dbEnd.sync = inBackground(func(ctx context.Context) { s.db.RunSync(ctx, cfg.DBProxy.SessionSync) })
	if keep := cfg.DBProxy.FileExpiry; keep > 0 {
		s.dbEnd.expiry = inBackground(func(ctx context.Context) { s.db.RunFileExpiry(ctx, keep) })
	}
	return s.listen(&port{name: "dbproxy"}, "dbproxy.listen", cfg.DBProxy.Addr(cfg.AllInOne()), engine.Options{Handler: s.db})
}

func (s *system) startRoute(context.Context) error {
	s.route = route.New(route.Options{
		Flood: s.cfg.Route.Flood, LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat, Log: s.log, Registerer: s.reg,
	})
	return s.listen(&port{name: "route"}, "route.listen", s.cfg.Route.Addr(s.cfg.AllInOne()), engine.Options{Handler: s.route})
}

func (s *system) startLogin(context.Context) error {
	cfg := s.cfg.Login
	var nets []netip.Prefix
	for _, n := range cfg.IP2Networks {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return fmt.Errorf("setting login.ip2_networks: %w", err)
		}
		nets = append(nets, p)
	}
	register, from := s.registration()
	s.login = login.New(login.Options{
		IP2Networks: nets, MSFSPrior: s.filesURL(), MSFSBackup: cfg.MSFSBackup, Discovery: cfg.Discovery, Register: register, RegisterNetworks: from,
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat, Log: s.log, Registerer: s.reg,
	})
	err := s.listen(&port{name: "login servers"}, "login.server_listen", cfg.ServerAddr(s.cfg.AllInOne()),
		engine.Options{Handler: s.login.Servers()})
	if err != nil {
		return err
	}
	err = s.listen(&port{name: "login", clients: true}, "login.client_listen", config.Addr(cfg.ClientListen),
		engine.Options{Handler: s.login.Clients(), MaxConns: max(1, s.budget.Limit()/2)}) // the rest is for message servers' clients, who stay
	if err != nil {
		return err
	}
	return s.startHTTP(config.Addr(cfg.HTTPListen))
}

// startHTTP opens the HTTP port of the login server.
func (s *system) startHTTP(addr string) error {
	if addr == "" {
		return nil
	}
	l, err := web.Listen(addr)
	if err != nil {
		return fmt.Errorf("%w (setting login.http_listen)", err)
	}
	s.http = s.serveWeb(l, web.Options{Name: "login", Handler: s.login.HTTP(), MaxConns: s.cfg.Login.HTTPMaxConnections})
	return nil
}

// serveWeb answers HTTP. Of the connections that this process may have the port takes a quarter at most: a crowd on all three of these ports still leaves some to
// the others.
func (s *system) serveWeb(l *net.TCPListener, opt web.Options) *web.Server {
	opt.MaxConns = min(opt.MaxConns, max(1, s.budget.Limit()/4))
	opt.Budget, opt.Log, opt.Registerer = s.budget, s.log, s.reg
	srv := web.Serve(l, opt)
	go func() {
		if err := srv.Err(); err != nil {
			s.fail(err)
		}
	}()
	return srv
}

func (s *system) startMsg(context.Context) error {
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
		AckWait: cfg.AckWait, RedeliverAfter: never(cfg.RedeliverAfter), ResendWindow: never(cfg.ResendWindow),
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

// needs makes a group of links a condition for being ready, under a name.
func (s *system) needs(name string, g *link.Group) {
	s.ready.Add(name, func(context.Context) error {
		if !g.Up() {
			return fmt.Errorf("no %s server is connected", g.Name())
		}
		return nil
	})
}

// group makes the links to the servers of one role: to the one in this process, if it is here, and to those at the addresses.
func (s *system) group(name string, here session.Handler, addrs []string, conns int, handler session.Handler) (*link.Group, error) {
	var peers []link.Peer
	if here != nil {
		p, err := link.Local(link.LocalOptions{
			Name: name, CallerName: roleMsg, Caller: handler, Callee: here, CallTimeout: s.cfg.Link.CallTimeout, Log: s.log, Metrics: s.links,
		})
		if err != nil {
			return nil, err
		}
		peers = append(peers, p)
	}
	for _, addr := range addrs {
		for range conns {
			peers = append(peers, link.Dial(link.Options{
				Name: name, Addr: addr, Handler: handler, DialTimeout: s.cfg.Link.DialTimeout, Heartbeat: s.cfg.Link.Heartbeat,
				IdleLimit: s.cfg.Link.Timeout, MaxBackoff: s.cfg.Link.BackoffMax, CallTimeout: s.cfg.Link.CallTimeout,
				MaxFrame: int(s.cfg.Link.MaxFrame), Log: s.log, Metrics: s.links,
			}))
		}
	}
	s.peers = append(s.peers, peers...)
	return link.NewGroup(name, s.log, peers...), nil
}

// advertised is where clients reach the message server: as set, else the host listened on, else an address of this machine.
func (s *system) advertised(p *port) (ip1, ip2 string, number int) {
	cfg := s.cfg.Msg
	ip1, ip2, number = cfg.AdvertiseIP1, cfg.AdvertiseIP2, cfg.AdvertisePort
	if ip1 == "" {
		if host, _, err := net.SplitHostPort(cfg.Listen); err == nil {
			ip1 = host
		}
		if addr, err := netip.ParseAddr(ip1); ip1 == "" || (err == nil && addr.IsUnspecified()) {
			ip1 = ownAddress()
		}
	}
	if ip2 == "" {
		ip2 = ip1
	}
	if number == 0 {
		number = p.Addr().(*net.TCPAddr).Port
	}
	return ip1, ip2, number
}

// ownAddress is an IPv4 address under which others reach this machine, as far as it can tell; 127.0.0.1 where it has no network.
func ownAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// Wait returns when ctx ends, or with the error of a part that ended by itself.
func (s *system) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// Stop ends everything: no new connections, no new messages; what was accepted is stored and answered; then clients and links are
// closed, and the store last. When ctx ends first, what is left is cut off, and the error says what.
func (s *system) Stop(ctx context.Context) error {
	var errs []error
	do := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", what, err))
		}
	}
	s.ready.Set("stop", errors.New("stopping"))
	for _, p := range s.ports {
		p.Refuse()
	}
	if s.api != nil {
		do("HTTP API", s.api.stop(ctx))
	}
	s.fileEnd.endCompare()
	if s.msg != nil {
		do("message server", s.msg.Drain(ctx))
	}
	if s.db != nil {
		do("dbproxy", s.db.Drain(ctx))
	}
	if s.pool != nil {
		do("pool", s.pool.Close(ctx))
	}
	do("dbproxy", s.dbEnd.stop())
	// Clients before links: their going is told to the other servers.
	for _, clients := range []bool{true, false} {
		for _, p := range slices.Backward(s.ports) {
			if p.clients == clients {
				do("port for "+p.name, p.Close(ctx))
			}
		}
		if clients {
			for _, peer := range slices.Backward(s.peers) {
				do("link to "+peer.Name(), peer.Close())
			}
		}
	}
	do("file", s.fileEnd.stop(ctx))
	if s.push != nil {
		do("push", s.push.Drain(ctx))
	}
	if s.http != nil {
		do("login HTTP", s.http.Close(ctx))
	}
	if s.msfs != nil {
		do("msfs", s.msfs.stop(ctx))
	}
	if s.store != nil {
		do("store", s.store.Close())
	}
	if s.admin != nil {
		do("admin", s.admin.Close(ctx))
	}
	return errors.Join(errs...)
}
