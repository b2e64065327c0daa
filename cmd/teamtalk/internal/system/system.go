// Package system assembles the servers of one process: stores, handlers, listeners and
// the links between them. It is the only package that knows all of them.
//
// Each role has a file with its start. A start makes the role's parts and pushes the stop
// of each on one stack (package stops), whose phases are the order in which a process ends.
package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/system/encryption"
	"teamtalk/cmd/teamtalk/internal/system/peering"
	"teamtalk/cmd/teamtalk/internal/system/process"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/cmd/teamtalk/internal/system/systemd"
	"teamtalk/core/audit"
	"teamtalk/core/budget"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/origin"
	"teamtalk/core/proxyproto"
	"teamtalk/core/spool"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/file"
	"teamtalk/handlers/mesh"
	"teamtalk/handlers/msg"
	"teamtalk/handlers/push"
	"teamtalk/handlers/route"
	"teamtalk/sql/redisregistry"
)

// The roles, as the configuration names them.
const (
	roleLogin   = "login"
	roleMsg     = "msg"
	roleRoute   = "route"
	RoleDBProxy = "dbproxy"
	roleMSFS    = "msfs"
	roleFile    = "file"
	rolePush    = "push"
	roleHTTP    = "http"
	roleWeb     = "web"
)

// system is the servers of one process. start makes its parts from the bottom up: the
// stores, dbproxy, route, login and the message server, then their links, then the
// clients' ports. Stop takes them down in the order of the phases.
type system struct {
	cfg *config.Config
	// live are the settings with those values that have changed since the start.
	live   atomic.Pointer[config.Config]
	log    *slog.Logger
	demo   bool
	build  obs.Version
	reg    *prometheus.Registry
	ready  *obs.Ready
	budget *budget.Budget
	// releaser keeps the loops from waking the process longer than they work.
	releaser *process.Releaser
	// strangers bounds the connections without a login on the clients' ports.
	strangers *engine.Strangers
	// trusted are the networks that have no bound for an address.
	trusted origin.Networks
	// forwarders are the networks of HTTP proxies.
	forwarders origin.Networks
	proxies    *proxyproto.Proxies
	tls        *encryption.Clients // nil: no TLS
	servers    *encryption.Servers // nil: no TLS between servers
	audit      *audit.Log          // nil: none
	ticketKey  []byte              // of tickets for uploads; nil: none
	links      *link.Metrics
	// answers bounds the answers in parts that arrive on all links.
	answers *link.Answers
	// registry has the servers of all processes, and node is the name of this one; nil and
	// empty: the settings turn it off.
	registry *redisregistry.Registry
	node     string
	linker   *peering.Linker
	draining draining

	// The roles that run here; nil for the others.
	msfs  *smallFiles
	push  *push.Server
	db    *dbproxy.Server
	route *route.Server
	file  *file.Server
	api   *httpAPI
	web   *chatPage
	where whereabouts.Store // of message servers without route servers; nil: with
	login *loginServer
	msg   *msg.Server
	mesh  *mesh.Server // in the place of route servers

	admin *obs.Admin // nil: no admin port
	// console is the URL of the page of the administrators; empty: none.
	console string
	routes  *routeServers // nil: none are used by the HTTP APIs yet
	store   im.Store      // dbproxy's; nil without that role
	// opened is the store of the HTTP APIs in a process without dbproxy; nil: not opened.
	opened im.Store
	// openUsers are the users whose password everybody knows.
	openUsers []string
	ports     []*port      // in the order of opening
	pages     *port        // of the message server, for WebSockets; nil: none
	webs      []webPort    // for clients and other systems
	spool     *spool.Spool // of the file server

	stops  stops.Stack
	failed chan error // errors of parts that ended by themselves
}

// port is a listener of the engine.
type port struct {
	name    string // for the banner and errors, such as "clients"
	clients bool   // the peers are users' clients, not servers
	*engine.Server
}

// Options select and describe the servers of this process.
type Options struct {
	Config  *config.Config
	Log     *slog.Logger
	Version obs.Version
	// Demo adds two users and lets users on this machine register.
	Demo bool
	// Reload returns the settings as they are now in the sources of Config. SIGHUP reads
	// them again. Default: Config.
	Reload func() (*config.Config, error)
	// Level is that of Log, for changes of log.level. Default: it stays.
	Level *slog.LevelVar
	// TerminalGone reports whether the terminal at which the process was started is gone. The
	// SIGHUP of its end then ends the process. Default: there is none.
	TerminalGone func() bool
	// Manager is told the state of the process. Default: there is none.
	Manager *systemd.Manager
}

// Run runs the roles of the configuration until ctx ends or a part fails. Once every port
// is open it writes the addresses of the servers to out. It finishes accepted work before
// it returns, within the configuration's shutdown timeout.
func Run(ctx context.Context, opt Options, out io.Writer) error {
	cfg, log := opt.Config, opt.Log
	if cfg.Admin.PProf {
		runtime.SetMutexProfileFraction(mutexProfileFraction)
	}
	if opt.Reload == nil {
		opt.Reload = func() (*config.Config, error) { return cfg, nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer process.FollowClock(log)()
	hangups := process.CatchHangups()
	defer hangups.Stop()
	s, err := start(ctx, opt)
	if err != nil {
		return explained(ctx, opt, err)
	}
	process.LimitMemory(log)
	defer process.SpareProcessors(cfg.Loops)()
	defer stops.InBackground(process.TrimMemory).Stop()
	defer stops.InBackground(s.releaser.Run).Stop()
	err = serveUntil(ctx, cancel, s, opt, hangups, out)
	opt.Manager.Stopping()
	if err != nil {
		log.Error("stopping because of a failure", "err", err)
	} else {
		log.Info("stopping", "timeout", cfg.ShutdownTimeout)
	}
	stop, cancel := context.WithTimeout(context.Background(), cfg.ShutdownTimeout)
	defer cancel()
	if stopErr := s.Stop(stop); stopErr != nil {
		log.Warn("not everything ended in order", "err", stopErr)
		if err == nil {
			err = stopErr
		}
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// serveUntil says that the servers are there, and waits until ctx ends or one of them fails. cancel
// ends ctx.
func serveUntil(ctx context.Context, cancel func(), s *system, opt Options,
	hangups *process.Hangups, out io.Writer) error {
	if opt.Demo {
		if err := makeDemoUsers(ctx, opt.Config, s.store); ctx.Err() != nil {
			return nil // the process was told to end meanwhile
		} else if err != nil {
			return err
		}
	}
	findOpenUsers(ctx, s)
	s.banner(out, opt.Version)
	again := newReloader(s, &opt)
	hangups.Run(func() {
		if opt.TerminalGone != nil && opt.TerminalGone() {
			cancel()
			return
		}
		again.again()
	})
	defer tellManager(s, opt.Manager).Stop()
	defer again.end()
	return s.Wait(ctx)
}

// explained returns what Check says about the settings whose start failed with err, so that a
// start and "config check" refuse the same settings with the same lines and exit code. The log
// then has err, unless err is of that kind. It returns err if Check finds nothing, as when a port
// is taken.
func explained(ctx context.Context, opt Options, err error) error {
	if ctx.Err() != nil {
		return err
	}
	wrong := Check(opt.Config, slog.New(slog.DiscardHandler))
	if wrong == nil {
		return err
	}
	if known := new(config.Error); !errors.As(err, &known) {
		opt.Log.Error("the start failed", "err", err)
	}
	return wrong
}

// failedStartTimeout bounds the stop of the parts that ran when a start failed.
const failedStartTimeout = 5 * time.Second

// mutexProfileFraction is the inverse of the share of lock waits that the profiler
// records: enough to show which lock is contended, too few to cost anything.
const mutexProfileFraction = 20

// start starts the roles of the configuration. Every port is open when it returns without
// an error. On an error it stops the parts that it has started.
func start(ctx context.Context, opt Options) (_ *system, err error) {
	cfg, log := opt.Config, opt.Log
	if err := cfg.CheckServe(); err != nil {
		return nil, err
	}
	s := &system{
		cfg: cfg, log: log, demo: opt.Demo, build: opt.Version, failed: make(chan error, 16),
		reg: obs.NewRegistry(opt.Version), ready: obs.NewReady(0), ticketKey: newTicketKey(cfg),
		releaser: process.NewReleaser(),
	}
	s.live.Store(cfg)
	s.links = link.NewMetrics(s.reg)
	s.answers = link.NewAnswers(int(s.cfg.Link.MaxAnswer))
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), failedStartTimeout)
			defer cancel()
			_ = s.Stop(stop) // the first error is the cause
		}
	}()
	if s.budget, err = budget.New(); err != nil {
		return nil, err
	}
	reportShed(s)
	if err := parseNetworks(s); err != nil {
		return nil, err
	}
	s.strangers = newStrangers(&cfg.Strangers, s.trusted, s.reg)
	if s.proxies, err = newProxies(&cfg.Proxy, s.budget.Limit(), log, s.reg); err != nil {
		return nil, err
	}
	if err := openFiles(s); err != nil {
		return nil, err
	}
	// The process is not ready until all parts are. The admin port opens first, so that
	// probes get an answer during the start.
	s.ready.Set("start", errors.New("starting"))
	if err := s.startAdmin(); err != nil {
		return nil, err
	}
	if err := openRegistry(s); err != nil {
		return nil, err
	}
	s.linker = newLinker(s)
	if err := startEach(ctx, s); err != nil {
		return nil, err
	}
	if err := startAdminAPI(ctx, s, opt); err != nil {
		return nil, err
	}
	if err := startACME(s); err != nil {
		return nil, err
	}
	register(s, opt.Version)
	warnOpenLinks(s)
	s.ready.Set("start", nil)
	return s, nil
}

// parseNetworks reads the networks of machines that are trusted.
func parseNetworks(s *system) (err error) {
	s.trusted, err = origin.ParseNetworks("strangers.trusted_networks", s.cfg.Strangers.Trusted)
	if err == nil {
		s.forwarders, err = origin.ParseNetworks("http.trusted_proxies", s.cfg.HTTP.TrustedProxies)
	}
	return err
}

// starter starts a role.
type starter struct {
	role  string
	start func(context.Context) error
}

// startEach starts the roles of the settings.
func startEach(ctx context.Context, s *system) error {
	for _, step := range s.starts() {
		if s.cfg.Runs(step.role) {
			if err := step.start(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// starts lists the roles in the order of starting: each can use those before it.
func (s *system) starts() []starter {
	return []starter{
		{roleMSFS, s.startMSFS}, {rolePush, s.startPush}, {RoleDBProxy, s.startDBProxy},
		{roleRoute, s.startRoute},
		{roleMsg, func(context.Context) error { return startMesh(s) }},
		{roleFile, s.startFile}, {roleHTTP, s.startHTTPAPI},
		{roleLogin, s.startLogin}, {roleMsg, s.startMsg},
		{roleWeb, func(context.Context) error { return startWeb(s) }},
	}
}

// reportShed counts and logs the connections for which the process has no descriptor.
func reportShed(s *system) {
	s.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "teamtalk_accept_shed_total",
		Help: "Connections closed on arrival because the process was short of file descriptors, " +
			"or because all connections of the admin port were being answered.",
	}, func() float64 { return float64(s.budget.Shed()) }))
	var often obs.Often
	s.budget.Refused = func(port net.Addr) {
		often.Warn(s.log, mono.Now(), "connections refused: the process is short of file "+
			"descriptors, raise its limit of open files", "port", port.String())
	}
}

// maxAdmin bounds the connections of the admin port.
const maxAdmin = 64

// boundAdmin bounds the connections of the admin port.
func boundAdmin(s *system, tcp *net.TCPListener) net.Listener {
	l := s.budget.Listener(tcp, maxAdmin)
	s.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "teamtalk_admin_displaced_total",
		Help: "Waiting connections of the admin port closed to make room for others.",
	}, func() float64 { return float64(l.Displaced()) }))
	return l
}

// startAdmin opens the admin port, unless the settings turn it off.
func (s *system) startAdmin() error {
	addr := config.Addr(s.cfg.Admin.Listen)
	if addr == "" {
		return nil
	}
	a, err := obs.StartAdmin(obs.AdminOptions{
		Addr: addr, Gatherer: s.reg, Ready: s.ready, PProf: s.cfg.Admin.PProf, Log: s.log,
		Bound: func(l *net.TCPListener) net.Listener { return boundAdmin(s, l) },
	})
	if err != nil {
		return fmt.Errorf("%w (setting admin.listen)", err)
	}
	if at := a.Addr().(*net.TCPAddr); s.cfg.Admin.PProf && !at.IP.IsLoopback() {
		s.log.Warn("the admin port shows the flags and the stacks of this process to everybody "+
			"that reaches it: turn admin.pprof off, or let admin.listen be on 127.0.0.1",
			"addr", at.String())
	}
	s.admin = a
	s.stops.Push(stops.CloseAdmin, "admin", a.Close)
	return nil
}

// watch reports a port whose engine ends by itself.
func (s *system) watch(p *port) {
	if err := p.Err(); err != nil {
		s.fail(fmt.Errorf("port for %s: %w", p.name, err))
	}
}

// fail reports that a part ended by itself. Any goroutine.
func (s *system) fail(err error) {
	select {
	case s.failed <- err:
	default: // one error is enough to end the process
	}
}

// listen opens a port for a role. where names the setting, for the error. An empty
// address opens no port and leaves p.Server nil.
func (s *system) listen(p *port, where, addr string, opt engine.Options) error {
	if addr == "" {
		return nil
	}
	if err := serve(s, p, where, addr, opt); err != nil {
		return err
	}
	s.ports = append(s.ports, p)
	return nil
}

// serve starts the engine of a port. With an empty address it has no listener.
func serve(s *system, p *port, where, addr string, opt engine.Options) error {
	opt.Name, opt.Addr = p.name, addr
	opt.Loops, opt.Budget, opt.Log, opt.Registerer = s.cfg.Loops, s.budget, s.log, s.reg
	opt.Ended = s.releaser.Ended
	if p.clients {
		opt.Strangers, opt.Proxies = s.strangers, s.proxies
		s.tls.Port(&opt)
	} else {
		opt.MaxFrame, opt.MaxBuffered = linkFrame(s.cfg), 64<<20
		s.servers.Port(&opt)
	}
	srv, err := engine.Start(opt)
	if err != nil {
		return fmt.Errorf("%w (setting %s)", err, where)
	}
	p.Server = srv
	last := stops.CloseServers
	if p.clients {
		last = stops.CloseClients
	}
	s.stops.Push(stops.RefuseConnections, "port for "+p.name, stops.Plainly(srv.Refuse))
	s.stops.Push(last, "port for "+p.name, srv.Close)
	go s.watch(p)
	return nil
}

// linkFrame returns the longest frame between servers. A request of a client grows on its
// way: the message server adds its attach_data, and the user. link.max_frame, which may be
// equal to msg.max_frame, does not count these bytes.
func linkFrame(c *config.Config) int { return int(c.Link.MaxFrame) + 1<<10 }

// Wait returns nil when ctx ends, or the error of a part that ended by itself.
func (s *system) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// Stop ends all parts in the order of the phases: no new connections, then no new
// messages. Accepted messages are stored and answered. Then clients and links are closed,
// and the store last. When ctx ends first, the remaining work is cut off, and the error
// names it.
func (s *system) Stop(ctx context.Context) error {
	s.ready.Set("stop", errors.New("stopping"))
	return s.stops.Run(ctx)
}
