package system

import (
	"context"
	"fmt"
	"io"
	"net"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/blob"
	"teamtalk/core/config"
	"teamtalk/core/obs"
	"teamtalk/core/web"
	"teamtalk/handlers/msfs"
)

// smallFiles is the role msfs while it runs.
type smallFiles struct {
	server *msfs.Server
	url    string       // at which clients reach it
	at     *net.TCPAddr // listened on; nil: no port
	folder *blob.Folder // nil: a bucket
}

// setLimits sets the limits of uploads, and of the folder.
func (m *smallFiles) setLimits(c *config.MSFS) {
	m.server.SetBudget(int64(c.UploadRate), int64(c.UploadBurst))
	if m.folder != nil {
		m.folder.SetMinFree(int64(c.MinFree))
		m.folder.ChangeQuota(int64(c.Quota))
	}
}

// startMSFS opens the store of small files and the port for them.
func (s *system) startMSFS(context.Context) error {
	cfg := &s.cfg.MSFS
	store, err := open.Blobs(s.cfg)
	if err != nil {
		return fmt.Errorf("msfs: %w", err)
	}
	if c, ok := store.(io.Closer); ok {
		s.stops.Push(stops.CloseWeb, "msfs store", stops.Closing(c.Close))
	}
	needsDisk(s, config.RoleMSFS, "msfs.min_free", store.Ping)
	var l *net.TCPListener
	if addr := config.Addr(cfg.Listen); addr != "" {
		if l, err = web.Listen(addr); err != nil {
			return fmt.Errorf("%w (setting msfs.listen)", err)
		}
	}
	usage := countFiles(s, store)
	if usage != nil {
		s.ready.Add("msfs quota", quotaLeft(usage))
	}
	m := &smallFiles{url: address.Web(s.cfg, cfg.URL, l)}
	m.server = msfs.New(msfs.Options{
		Store: store, URL: m.url, MaxSize: int64(cfg.MaxSize), MaxUploads: cfg.MaxUploads,
		Budget: msfs.Budget{Rate: int64(cfg.UploadRate), Burst: int64(cfg.UploadBurst),
			Trusted: s.ports.Trusted},
		Tickets: msfs.Tickets{Key: s.ticketKey,
			Required: s.cfg.MSFS.Tickets == config.TicketsRequired},
		Expiry:      msfs.Expiry{After: cfg.ExpireAfter, Unused: cfg.ExpireUnusedAfter},
		Usage:       usage,
		ScaledCache: int64(cfg.ScaledCache), ScalePixels: cfg.ScalePixels, Log: s.log,
		Registerer: s.reg,
	})
	m.folder, _ = store.(*blob.Folder)
	s.msfs = m
	if cfg.ExpireAfter > 0 || cfg.ExpireUnusedAfter > 0 {
		s.stops.Go(stops.CloseWeb, "expiry of small files", m.server.RunExpiry)
	}
	if l != nil {
		m.at = l.Addr().(*net.TCPAddr)
		limit := func(c *config.Config) int { return c.MSFS.MaxConnections }
		srv := s.ports.ServeWeb(l, limit, web.Options{Name: "msfs", Handler: m.server})
		s.stops.Push(stops.CloseWeb, "msfs", srv.Close)
	}
	return nil
}

// countFiles counts the files of a folder with a quota in the background, and returns how much
// of the quota is used; nil without a quota.
func countFiles(s *system, store blob.Store) func() blob.Usage {
	folder, ok := store.(*blob.Folder)
	if !ok || folder.Usage().Quota == 0 {
		return nil
	}
	s.log.Info("counting the small files for the quota", "role", config.RoleMSFS)
	s.stops.Go(stops.CloseWeb, "count of small files", func(ctx context.Context) {
		n, err := folder.Count(ctx)
		u := folder.Usage()
		args := []any{"role", config.RoleMSFS, "files", n, "used_bytes", u.Bytes,
			"quota_bytes", u.Quota}
		switch {
		case ctx.Err() != nil: // the process ends
		case err != nil:
			s.log.Error("small files not counted to the end; the quota counts the rest as "+
				"nothing", append(args, "err", err)...)
		case u.Bytes >= u.Quota:
			s.log.Warn("small files use up the quota, no more are accepted (setting msfs.quota)",
				args...)
		default:
			s.log.Info("small files are counted", args...)
		}
	})
	return folder.Usage
}

// quotaLeft returns a check of the quota. A quota that is used up leaves the process ready, also
// one that only holds files: downloads go on, and a proxy that stops to use the process would
// end them. Anybody that can upload could cause that.
func quotaLeft(usage func() blob.Usage) obs.Check {
	return func(context.Context) error {
		u := usage()
		if u.Bytes < u.Quota-u.Quota/100 {
			return nil
		}
		return obs.Degraded(fmt.Errorf("new files are refused: %d of %d bytes are used (settings "+
			"msfs.quota, msfs.expire_unused_after)", u.Bytes, u.Quota))
	}
}

// filesURL returns the URL of small files that login servers tell clients: the setting's,
// else that of the small file server in this process. Empty: that of a registered one.
func (s *system) filesURL() string {
	if s.cfg.Login.MSFSPrior != "" || s.msfs == nil {
		return s.cfg.Login.MSFSPrior
	}
	return s.msfs.url
}
