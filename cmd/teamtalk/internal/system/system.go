// Package system assembles the servers of one process: stores, handlers, listeners and
// the links between them. It is the only package that knows all of them.
//
// Each role has a file with its start. A start makes the role's parts and pushes the stop
// of each on one stack (package stops), whose phases are the order in which a process ends.
package system

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/check"
	"teamtalk/cmd/teamtalk/internal/system/encryption"
	"teamtalk/cmd/teamtalk/internal/system/membership"
	"teamtalk/cmd/teamtalk/internal/system/peering"
	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/cmd/teamtalk/internal/system/process"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/cmd/teamtalk/internal/system/systemd"
	"teamtalk/cmd/teamtalk/internal/system/tracing"
	"teamtalk/core/audit"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/obs"
	"teamtalk/core/spool"
	"teamtalk/core/trace"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/file"
	"teamtalk/handlers/mesh"
	"teamtalk/handlers/msg"
	"teamtalk/handlers/push"
	"teamtalk/handlers/route"
	"teamtalk/sql/redisregistry"
)

// system is the servers of one process. start makes its parts from the bottom up: the
// stores, dbproxy, route, login and the message server, then their links, then the
// clients' ports. Stop takes them down in the order of the phases.
type system struct {
	cfg *config.Config
	// live are the settings with those values that have changed since the start.
	live  atomic.Pointer[config.Config]
	log   *slog.Logger
	demo  bool
	build obs.Version
	reg   *prometheus.Registry
	ready *obs.Ready
	// releaser keeps the loops from waking the process longer than they work.
	releaser  *process.Releaser
	tls       *encryption.Clients // nil: no TLS
	servers   *encryption.Servers // nil: no TLS between servers
	audit     *audit.Log          // nil: none
	trace     *trace.Tracer       // nil: none
	ticketKey []byte              // of tickets for uploads; nil: none
	links     *link.Metrics
	// answers bounds the answers in parts that arrive on all links.
	answers *link.Answers
	// registry has the servers of all processes, and node is the name of this one; nil and
	// empty: the settings turn it off.
	registry *redisregistry.Registry
	node     string
	member   *membership.Member // nil: there is no registry
	linker   *peering.Linker

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
	ports     *ports.Ports
	pages     *ports.Port  // of the message server, for WebSockets; nil: none
	spool     *spool.Spool // of the file server

	stops  stops.Stack
	failed chan error // errors of parts that ended by themselves
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
		again.Again()
	})
	defer tellManager(s, opt.Manager).Stop()
	defer again.End()
	return s.Wait(ctx)
}

// explained returns what check.Start says about the settings whose start failed with err, so that a
// start and "config check" refuse the same settings with the same lines and exit code. The log
// then has err, unless err is of that kind. It returns err if check.Start finds nothing, as when a
// port is taken.
func explained(ctx context.Context, opt Options, err error) error {
	if ctx.Err() != nil {
		return err
	}
	wrong := check.Start(opt.Config, slog.New(slog.DiscardHandler))
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
	if err := errors.Join(openFiles(s), openTrace(s)); err != nil {
		return nil, err
	}
	s.ports, err = ports.New(ports.Options{Config: cfg, Clients: s.tls, Servers: s.servers,
		Ended: s.releaser.Ended, Failed: s.fail, Stops: &s.stops, Log: log, Registerer: s.reg})
	if err != nil {
		return nil, err
	}
	// The process is not ready until all parts are. The admin port opens first, so that
	// probes get an answer during the start.
	s.ready.Set("start", errors.New("starting"))
	s.reg.MustRegister(s.ready.StateMetrics(), obs.DiskMetrics(open.Folders(cfg)))
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

// openTrace opens the traces of messages, if the settings name a collector.
func openTrace(s *system) (err error) {
	name, err := membership.Name(s.cfg)
	if err != nil { // the registry would refuse the name, collectors take it
		name, _ = os.Hostname()
	}
	s.trace, err = tracing.Open(&s.cfg.Trace, name, s.build, s.log, s.reg)
	if s.trace.On() {
		s.stops.Push(stops.CloseStore, "traces", s.trace.Close)
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
		{config.RoleMSFS, s.startMSFS}, {config.RolePush, s.startPush},
		{config.RoleDBProxy, s.startDBProxy}, {config.RoleRoute, s.startRoute},
		{config.RoleMsg, func(context.Context) error { return startMesh(s) }},
		{config.RoleFile, s.startFile}, {config.RoleHTTP, s.startHTTPAPI},
		{config.RoleLogin, s.startLogin}, {config.RoleMsg, s.startMsg},
		{config.RoleWeb, func(context.Context) error { return startWeb(s) }},
	}
}

// fail reports that a part ended by itself. Any goroutine.
func (s *system) fail(err error) {
	select {
	case s.failed <- err:
	default: // one error is enough to end the process
	}
}

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
