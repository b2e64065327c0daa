// Package open opens what the settings name outside the process: the store and its Redis
// instances, the place of small files, the push services, the audit log, and the systems that may
// call the HTTP API. The servers use it, and so do commands beside them. The caller closes the
// stores and the audit log.
package open

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/cert"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/pool"
	"teamtalk/sql/embedded"
	"teamtalk/sql/store"
)

// Options describe the use of a store. The zero value is for a server that logs
// nothing.
type Options struct {
	// Admin opens the store for a command, perhaps beside a running server: without the
	// server's lock on the embedded store.
	Admin bool
	// MustExist fails instead of making a new embedded store. It is for commands that
	// look for something in the store.
	MustExist  bool
	Log        *slog.Logger          // nil: no logs
	Registerer prometheus.Registerer // nil: no metrics
}

// Store opens the store that the settings name.
func Store(ctx context.Context, cfg *config.Config, opt Options) (im.Store, error) {
	if err := cfg.CheckStore(); err != nil {
		return nil, err
	}
	if cfg.Store == "mysql" {
		return MySQL(ctx, cfg, opt)
	}
	if opt.MustExist {
		file := filepath.Join(cfg.DataDir, embedded.FileName)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, im.Errorf(im.NotFound,
				"no store in %s: name the store's folder with --data-dir or "+
					"--config, or make a store with teamtalk serve or teamtalk user add",
				cfg.DataDir)
		}
	}
	s, err := embedded.Open(ctx, embedded.Options{
		Dir: cfg.DataDir, Workers: pool.SizesFor(cfg.Workers).SQLOpen, Admin: opt.Admin,
		Log: opt.Log, Metrics: opt.Registerer,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// MySQL opens the store on MySQL and Redis that the settings name.
func MySQL(ctx context.Context, cfg *config.Config, opt Options) (im.Store, error) {
	instances, err := Redis(cfg.Redis)
	if err != nil {
		return nil, err
	}
	encrypted, err := MySQLTLS(cfg.MySQL)
	if err != nil {
		return nil, err
	}
	slave := cfg.MySQL.Slave.Reveal()
	if opt.Admin {
		slave = "" // a command reads changes that any process has just made, so it reads the master
	}
	s, err := store.Open(ctx, store.Options{
		Master: cfg.MySQL.Master.Reveal(), Slave: slave, ReplicaWait: cfg.MySQL.ReplicaWait,
		TLS: encrypted, Redis: instances,
		Workers: pool.SizesFor(cfg.Workers).SQLOpen, NoRebuild: opt.Admin,
		Logger: opt.Log, Metrics: opt.Registerer,
	})
	if err != nil {
		return nil, fmt.Errorf("open the store on %s and Redis: %w", cfg.MySQL.Master, err)
	}
	return s, nil
}

// MySQLTLS reads the files of the section mysql. The result is nil without any.
func MySQLTLS(m config.MySQL) (*cert.Client, error) {
	if m.CA == "" && m.Certificate == "" && m.Key == "" {
		return nil, nil
	}
	return cert.LoadClient("mysql", m.CA, m.Certificate, m.Key)
}

// StoreName returns a name of the store for people, without passwords.
func StoreName(cfg *config.Config) string {
	if cfg.Store == "mysql" {
		return cfg.MySQL.Master.String()
	}
	return cfg.DataDir
}
