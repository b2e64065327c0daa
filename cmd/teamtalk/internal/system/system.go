// Package system puts the servers of one process together: stores, handlers, listeners and the
// links between them. It is the only package that knows all of them.
package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/budget"
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
	RoleDBProxy = "dbproxy"
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
	budget *budget.Budget
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

// Options say what runs in this process.
type Options struct {
	Config  *config.Config
	Log     *slog.Logger
	Version obs.Version
	// Demo adds two users and lets people on this machine register.
	Demo bool
}

// Run runs the roles of the configuration until ctx ends or a part fails. It writes to out
// where the servers listen once every port is open. Accepted work is finished before it returns,
// within the configuration's shutdown timeout.
func Run(ctx context.Context, opt Options, out io.Writer) error {
	cfg, log := opt.Config, opt.Log
	if cfg.Admin.PProf {
		runtime.SetMutexProfileFraction(mutexProfileFraction)
	}
	s, err := start(ctx, opt)
	if err != nil {
		return err
	}
	defer spareProcessors(cfg.Loops)()
	defer inBackground(trimMemory).stop()
	if opt.Demo {
		err = admin.MakeDemoUsers(ctx, s.store)
	}
	if err == nil {
		s.banner(out, opt.Version)
		err = s.Wait(ctx)
	}
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

// mutexProfileFraction is the inverse of the share of lock waits that the profiler records: enough
// to show which lock is contended, too few to cost anything.
const mutexProfileFraction = 20

// start starts the roles of the configuration. Every port is open when it returns without an
// error. On an error it stops what it has started.
func start(ctx context.Context, opt Options) (_ *system, err error) {
	cfg, log, demo := opt.Config, opt.Log, opt.Demo
	if err := cfg.CheckServe(); err != nil {
		return nil, err
	}
	s := &system{
		cfg: cfg, log: log, demo: demo, failed: make(chan error, 16),
		reg: obs.NewRegistry(opt.Version), ready: obs.NewReady(0),
	}
	s.links = link.NewMetrics(s.reg)
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = s.Stop(stop) // the first error is the one to tell
		}
	}()
	if s.budget, err = budget.New(); err != nil {
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
		{roleMSFS, s.startMSFS}, {rolePush, s.startPush}, {RoleDBProxy, s.startDBProxy}, {roleRoute, s.startRoute}, {roleFile, s.startFile}, {roleHTTP, s.startHTTPAPI}, {roleLogin, s.startLogin}, {roleMsg, s.startMsg},
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
