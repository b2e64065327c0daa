package open

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"teamtalk/cmd/teamtalk/internal/system/address"
	"teamtalk/core/blob"
	"teamtalk/core/config"
	"teamtalk/sql/doctor"
	"teamtalk/sql/store"
)

// Doctor opens the doctor of the store that the settings name, with the files that are on
// this machine. done closes it. With repair the doctor may repair.
func Doctor(ctx context.Context, cfg *config.Config, repair bool, opt Options) (d *doctor.Doctor,
	done func() error, err error) {
	if err := cfg.CheckStore(); err != nil {
		return nil, nil, err
	}
	files, closeFiles := doctorFiles(cfg)
	if cfg.Store != "mysql" {
		d, err = doctor.OpenEmbedded(ctx, doctor.Embedded{Dir: cfg.DataDir, Files: files,
			Log: opt.Log})
	} else {
		d, err = doctorOfMySQL(ctx, cfg, repair, opt, files)
	}
	if err != nil {
		return nil, nil, errors.Join(err, closeFiles())
	}
	return d, func() error { return errors.Join(d.Close(), closeFiles()) }, nil
}

func doctorOfMySQL(ctx context.Context, cfg *config.Config, repair bool, opt Options,
	files doctor.Files) (*doctor.Doctor, error) {
	instances, err := Redis(cfg.Redis)
	if err != nil {
		return nil, err
	}
	encrypted, err := MySQLTLS(cfg.MySQL)
	if err != nil {
		return nil, err
	}
	return doctor.OpenMySQL(ctx, doctor.MySQL{Files: files, Repair: repair, Store: store.Options{
		Master: cfg.MySQL.Master.Reveal(), TLS: encrypted, Redis: instances, Logger: opt.Log}})
}

// doctorFiles opens the places of files that this machine has, to look at them.
func doctorFiles(cfg *config.Config) (f doctor.Files, done func() error) {
	// A command with the settings of a MySQL store may run on a machine without the files of the
	// servers: there only files that carry the address of this one are compared.
	f = doctor.Files{Whole: cfg.AllInOne() && cfg.Store != "mysql",
		Grace: cfg.File.CompareGrace, SmallURL: cfg.MSFS.URL,
		Expire: cfg.MSFS.ExpireAfter > 0 || cfg.MSFS.ExpireUnusedAfter > 0}
	folder := Folder(cfg, cfg.File.Dir, "files")
	if info, err := os.Stat(folder); err == nil && info.IsDir() {
		f.Waiting = folder
	}
	if at, err := net.ResolveTCPAddr("tcp", config.Addr(cfg.File.Listen)); err == nil {
		a := address.File(cfg, at)
		f.FileServer = net.JoinHostPort(a.IP, strconv.FormatUint(uint64(a.Port), 10))
	}
	var open []io.Closer
	if sounds, err := blob.ViewFolder(filepath.Join(cfg.DataDir, "audio")); err == nil {
		f.Sounds = sounds
		open = append(open, sounds)
	}
	if small, err := ViewBlobs(cfg); err == nil {
		f.Small = small
		if c, ok := small.(io.Closer); ok {
			open = append(open, c)
		}
	}
	return f, func() error {
		var errs []error
		for _, c := range open {
			errs = append(errs, c.Close())
		}
		return errors.Join(errs...)
	}
}
