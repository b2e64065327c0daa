package main

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
		KeepUnfinished: cfg.KeepUnfinished, KeepWaiting: cfg.KeepWaiting, KeepFetched: cfg.KeepFetched, Log: s.log,
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
		LoginDeadline: cfg.LoginDeadline, IdleTimeout: cfg.IdleTimeout, LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat,
		Log: s.log, Registerer: s.reg,
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
	return s.listen(&port{name: "file servers"}, "file.server_listen", cfg.ServerAddr(s.cfg.AllInOne()), engine.Options{Handler: s.file.Servers()})
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
