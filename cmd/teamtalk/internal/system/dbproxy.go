package system

import (
	"context"
	"fmt"
	"runtime"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/media"
	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/cmd/teamtalk/internal/system/tracing"
	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/dbproxy/passwords"
	"teamtalk/pool"
)

// replicated is a store that may have a replica for reads.
type replicated interface {
	// ReplicaState returns why the replica is out of use, nil while it is used.
	ReplicaState() error
}

// startDBProxy opens the store, starts its workers and dbproxy's background tasks, and
// opens the port for other servers.
func (s *system) startDBProxy(ctx context.Context) error {
	cfg := &s.cfg.DBProxy
	store, err := open.Store(ctx, s.cfg, open.Options{Log: s.log, Registerer: s.reg})
	if err != nil {
		return err
	}
	s.store = store
	s.stops.Push(stops.CloseStore, "store", stops.Closing(store.Close))
	s.ready.Add("store", store.Ping)
	if r, ok := store.(replicated); ok && s.cfg.MySQL.Slave.Reveal() != "" {
		s.ready.Add("replica", func(context.Context) error {
			return obs.Degraded(r.ReplicaState())
		})
	}
	policy, err := open.PasswordPolicy(s.cfg, store)
	if err != nil {
		return err
	}
	tellPasswords(ctx, s.log, store, policy)
	workers := pool.New(pool.Options{
		Workers: pool.SizesFor(s.cfg.Workers).Workers, Queue: cfg.Queue, Logger: s.log,
		Registerer: s.reg,
	})
	s.stops.Push(stops.CloseWorkers, "workers", workers.Close)
	files := filesOf(s)
	sounds, err := files.Sounds()
	if err != nil {
		return err
	}
	text, err := im.NewTextCipher(string(s.cfg.Keys.Text))
	if err != nil {
		return fmt.Errorf("%w (setting keys.text_key)", err)
	}
	db := dbproxy.New(dbproxy.Options{
		Store: store, Tasks: workers, Sounds: sounds, Text: text, HistoryLimit: cfg.HistoryLimit,
		MaxFrame: s.cfg.LinkFrame(), MaxAnswer: int(s.cfg.Link.MaxAnswer),
		Lock: open.LoginLimits(cfg),
		Passwords: passwords.Settings{Policy: policy, Workers: s.cfg.Password.Workers,
			Remember: s.cfg.Password.Remember},
		Groups:      groupLimits(cfg),
		Timeout:     s.cfg.Link.CallTimeout * 4 / 5, // ends before message servers give up
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat,
		Log: s.log, Registerer: s.reg,
	})
	batches := s.batches(workers)
	batches.Failed = db.FailBatch
	db.SetMessages(pool.NewBatcher(workers, batches, (*dbproxy.Pending).Size,
		tracing.Batches(s.trace, db.AppendBatch)))
	s.db = db
	s.stops.Push(stops.DrainRequests, "dbproxy", db.Drain)
	if err := startUpkeep(s, db, files); err != nil {
		return err
	}
	return s.ports.Open(&ports.Port{Name: "dbproxy"}, "dbproxy.listen", cfg.Addr(s.cfg.AllInOne()),
		engine.Options{Links: db})
}

// filesOf returns the small files of a dbproxy server in this process.
func filesOf(s *system) *media.Files {
	f := &media.Files{Config: s.cfg, TicketKey: s.ticketKey, Stops: &s.stops, Log: s.log}
	if s.msfs != nil {
		f.Here, f.URL = s.msfs.server, s.msfs.url
	}
	if s.registry != nil {
		f.View = s.registry.View()
	}
	return f
}

// startUpkeep starts the background tasks of a dbproxy server.
func startUpkeep(s *system, db *dbproxy.Server, files *media.Files) error {
	cfg := &s.cfg.DBProxy
	s.stops.Go(stops.EndUpkeep, "sync", func(ctx context.Context) {
		db.RunSync(ctx, cfg.SessionSync)
	})
	s.stops.Go(stops.EndUpkeep, "watch of the store", func(ctx context.Context) {
		db.Watch(ctx, s.store.Ping)
	})
	if keep := cfg.FileExpiry; keep > 0 {
		s.stops.Go(stops.EndUpkeep, "file expiry", func(ctx context.Context) {
			db.RunFileExpiry(ctx, keep)
		})
	}
	if err := startMessageExpiry(s); err != nil {
		return err
	}
	return files.KeepAvatars(s.store)
}

// batches returns how many batches of messages are stored at the same time, and their
// size.
func (s *system) batches(workers *pool.Pool) pool.BatchOptions[*dbproxy.Pending] {
	opt := pool.BatchOptions[*dbproxy.Pending]{Shards: s.cfg.DBProxy.MessageShards}
	if opt.Shards == 0 {
		// Where the database and the servers share two cores, two batches at a time wait
		// less for each other than four, and are larger: see bench/PERFORMANCE.md.
		opt.Shards = min(workers.BatchWorkers(), 4, max(2, runtime.GOMAXPROCS(0)))
	}
	if s.cfg.Store == "embedded" {
		if s.cfg.DBProxy.MessageShards == 0 {
			opt.Shards = 1 // SQLite has one writer: a second batch would only wait for the first
		}
		// Each conversation has pages of its own, which a batch writes once. With
		// hundreds of active conversations only large batches keep up.
		opt.MaxItems, opt.MaxBytes = 1024, 1<<20
	}
	return opt
}
