package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/handlers/file"
	"teamtalk/pool"
)

// fileEnd is what the file server needs until its last segment is on the disk.
type fileEnd struct {
	pool  *pool.Pool
	sweep *background // Server.RunSweep
	list  *background // Server.RunCompare
	spool *spool.Spool
}

// startFile opens the spool and the ports of the file server.
func (s *system) startFile(context.Context) error {
	cfg := &s.cfg.File
	dir := cfg.Dir
	if dir == "" {
		dir = filepath.Join(s.cfg.DataDir, "files")
	}
	store, err := spool.Open(spool.Options{
		Dir: dir, MinFree: int64(cfg.MinFree), Quota: int64(cfg.Quota), MaxFiles: cfg.MaxTasks, MaxUserFiles: cfg.MaxUserTasks,
		KeepUnfinished: cfg.KeepUnfinished, KeepWaiting: cfg.KeepWaiting,
		KeepFetched: max(cfg.KeepFetched, 1), // the settings say 0s for not at all, the options for their default
		Log:         s.log,
	})
	if err != nil {
		return fmt.Errorf("%w (setting file.dir)", err)
	}
	s.fileEnd.spool = store
	s.ready.Add("file", store.Ping)
	// Workers of its own: a disk that is slow with files must not hold up messages.
	s.fileEnd.pool = pool.New(pool.Options{Name: "file", Workers: cfg.Workers, Logger: s.log, Registerer: s.reg})
	opt := file.Options{
		Spool: store, Tasks: s.fileEnd.pool, MaxTasks: cfg.MaxTasks, MaxUserTasks: cfg.MaxUserTasks, UploadWindow: cfg.UploadWindow,
		Grace: cfg.CompareGrace, LoginDeadline: cfg.LoginDeadline, IdleTimeout: cfg.IdleTimeout, LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat,
		Log: s.log, Registerer: s.reg,
	}
	if opt.List, err = s.fileList(); err != nil {
		return err
	}
	if cfg.CheckOnline != "off" && (s.route != nil || len(cfg.Route) > 0) {
		var here session.Handler
		if s.route != nil {
			here = s.route
		}
		routes, err := s.group("route", here, cfg.Route, 1, file.RouteLink{})
		if err != nil {
			return err
		}
		opt.Online = routes
		s.needs("file route", routes) // until then nobody could log in to a transfer
	}
	if opt.Grace == 0 {
		opt.Grace = -1 // the settings say 0 for none, the options for their default
	}
	s.file = file.New(opt)
	clients := &port{name: "file", clients: true}
	err = s.listen(clients, "file.listen", config.Addr(cfg.Listen),
		engine.Options{Handler: s.file.Clients(), MaxConns: min(s.budget.Limit(), cfg.MaxConnections), MaxFrame: file.MaxFrame})
	if err != nil {
		return err
	}
	if clients.Server != nil {
		s.file.SetAddresses(fileAddress(cfg, clients.Addr().(*net.TCPAddr)))
	}
	s.fileEnd.sweep = inBackground(func(ctx context.Context) { s.file.RunSweep(ctx, time.Minute) })
	if cfg.Compare > 0 {
		s.fileEnd.list = inBackground(func(ctx context.Context) { s.file.RunCompare(ctx, cfg.Compare) })
	}
	return s.listen(&port{name: "file servers"}, "file.server_listen", cfg.ServerAddr(s.cfg.AllInOne()), engine.Options{Handler: s.file.Servers()})
}

// fileList links the file server to the db_proxies that have the list of files that wait: the one in this process, if it is here, and those at the addresses. nil when there
// are none.
func (s *system) fileList() (file.Peer, error) {
	var here session.Handler
	if s.db != nil {
		here = s.db
	}
	switch {
	case s.cfg.File.Compare == 0:
		return nil, nil
	case here == nil && len(s.cfg.File.DBProxy) == 0:
		s.log.Info("files are not compared with the list of those that wait: no dbproxy is named (setting file.dbproxy)", "role", roleFile)
		return nil, nil
	}
	return s.group("dbproxy", here, s.cfg.File.DBProxy, 1, file.ListLink{})
}

// endCompare stops asking db_proxy, before that is stopped.
func (e fileEnd) endCompare() {
	if e.list != nil {
		e.list.stop()
	}
}

// fileAddress is where clients reach the file server: as set, else the host listened on, else an address of this machine.
func fileAddress(cfg *config.File, at *net.TCPAddr) file.Address {
	a := file.Address{IP: cfg.AdvertiseIP, Port: uint32(cfg.AdvertisePort)}
	if a.IP == "" {
		a.IP = at.IP.String()
		if ip, ok := netip.AddrFromSlice(at.IP); !ok || ip.IsUnspecified() {
			a.IP = ownAddress()
		}
	}
	if a.Port == 0 {
		a.Port = uint32(at.Port)
	}
	return a
}

// stop finishes what the spool was given, and closes it. After the port of the clients. It may be called when little, or nothing, was started.
func (e fileEnd) stop(ctx context.Context) error {
	var errs []error
	e.endCompare()
	if e.sweep != nil {
		e.sweep.stop()
	}
	if e.pool != nil {
		errs = append(errs, e.pool.Close(ctx))
	}
	if e.spool != nil {
		errs = append(errs, e.spool.Close())
	}
	return errors.Join(errs...)
}
