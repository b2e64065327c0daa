package system

import (
	"context"
	"fmt"
	"net"
	"time"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/peering"
	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/spool"
	"teamtalk/handlers/file"
	"teamtalk/pool"
)

// startFile opens the spool, the links and the ports of the file server.
func (s *system) startFile(context.Context) error {
	opt := s.fileOptions()
	var err error
	if opt.Spool, err = s.openSpool(); err != nil {
		return err
	}
	// The file server has workers of its own: a disk that is slow with files must not
	// delay messages.
	workers := pool.New(pool.Options{
		Name: "file", Workers: s.cfg.File.Workers, Logger: s.log, Registerer: s.reg,
	})
	s.stops.Push(stops.FinishFiles, "file workers", workers.Close)
	opt.Tasks = workers
	if opt.List, err = s.fileList(); err != nil {
		return err
	}
	if err := s.fileOnline(&opt); err != nil {
		return err
	}
	s.file = file.New(opt)
	return s.serveFiles()
}

// fileOptions returns the options that the settings hold.
func (s *system) fileOptions() file.Options {
	cfg := &s.cfg.File
	return file.Options{
		MaxTasks: cfg.MaxTasks, MaxUserTasks: cfg.MaxUserTasks, UploadWindow: cfg.UploadWindow,
		Grace: cfg.CompareGrace, LoginDeadline: cfg.LoginDeadline,
		IdleTimeout: cfg.IdleTimeout,
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat,
		Log: s.log, Registerer: s.reg,
	}
}

// openSpool opens the folder of the files.
func (s *system) openSpool() (*spool.Spool, error) {
	cfg := &s.cfg.File
	store, err := spool.Open(spool.Options{
		Dir:     open.Folder(s.cfg, cfg.Dir, "files"),
		MinFree: int64(cfg.MinFree), Quota: int64(cfg.Quota),
		MaxFiles: cfg.MaxTasks, MaxUserFiles: cfg.MaxUserTasks,
		KeepUnfinished: cfg.KeepUnfinished, KeepWaiting: cfg.KeepWaiting,
		KeepFetched: cfg.KeepFetched, Log: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("%w (setting file.dir)", err)
	}
	s.spool = store
	s.stops.Push(stops.FinishFiles, "spool", stops.Closing(store.Close))
	needsDisk(s, config.RoleFile, "file.min_free", store.Ping)
	return store, nil
}

// fileOnline links the file server to the route servers, which know whether a user is
// online. Without any, or with check_online off, the check is left out.
func (s *system) fileOnline(opt *file.Options) error {
	cfg, here := &s.cfg.File, s.localRoute()
	if cfg.CheckOnline == "off" || here == nil && len(cfg.Route) == 0 && s.registry == nil {
		return nil
	}
	opt.Routes = &file.Routes{}
	routes, err := s.group(peering.Peers{Role: config.RoleRoute, Here: here, Addrs: cfg.Route,
		Handler: opt.Routes})
	if err != nil {
		return err
	}
	opt.Online = routes
	if cfg.CheckOnline == "auto" {
		opt.Unchecked = routes.Empty // a deployment may have none
	}
	s.ready.Add("file route", func(context.Context) error {
		if opt.Unchecked != nil && routes.Empty() {
			return nil
		}
		return s.linker.Check(routes) // until then no client could log in to a transfer
	})
	return nil
}

// fileList links the file server to the dbproxies that hold the list of waiting files. It
// returns nil when there are none, or when the settings turn the comparison off.
func (s *system) fileList() (file.Peer, error) {
	cfg, here := &s.cfg.File, s.localDB()
	switch {
	case cfg.Compare == 0:
		return nil, nil
	case here == nil && len(cfg.DBProxy) == 0 && s.registry == nil:
		s.log.Info("the files are not compared with the list of waiting files: "+
			"no dbproxy is named (setting file.dbproxy)", "role", config.RoleFile)
		return nil, nil
	}
	return s.group(peering.Peers{Role: config.RoleDBProxy, Here: here, Addrs: cfg.DBProxy,
		Handler: file.ListLink{}})
}

// listEvery is the interval at which a file server lists the files that were finished.
const listEvery = 2 * time.Second

// serveFiles opens the ports of the file server and starts its background tasks.
func (s *system) serveFiles() error {
	cfg := &s.cfg.File
	clients := &ports.Port{Name: "file", Clients: true}
	err := s.ports.Open(clients, "file.listen", config.Addr(cfg.Listen), engine.Options{
		Clients: s.file.Clients(), MaxConns: min(s.ports.Budget.Limit(), cfg.MaxConnections),
		MaxFrame: file.MaxFrame,
	})
	if err != nil {
		return err
	}
	if clients.Server != nil {
		s.file.SetAddresses(address.File(s.cfg, clients.Addr().(*net.TCPAddr)))
	}
	s.stops.Go(stops.FinishFiles, "spool sweep", func(ctx context.Context) {
		s.file.RunSweep(ctx, time.Minute)
	})
	s.stops.Go(stops.FinishFiles, "file notifies", s.file.RunNotices)
	if cfg.Compare > 0 {
		s.stops.Go(stops.EndComparison, "file comparison", func(ctx context.Context) {
			s.file.RunCompare(ctx, cfg.Compare)
		})
		s.stops.Go(stops.EndComparison, "file listing", func(ctx context.Context) {
			s.file.RunListing(ctx, listEvery, cfg.Compare+cfg.CompareGrace)
		})
	}
	return s.ports.Open(&ports.Port{Name: "file servers"}, "file.server_listen",
		cfg.ServerAddr(s.cfg.AllInOne()), engine.Options{Links: s.file.Servers()})
}
