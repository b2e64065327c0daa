// Package reload reads the settings, and the files that they name, again while the servers run: at
// SIGHUP. It takes over all that a running server can, or nothing when anything is wrong.
package reload

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/system/check"
	"teamtalk/cmd/teamtalk/internal/system/systemd"
	"teamtalk/core/audit"
	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// Options configure a Reloader. All but Level, Audit and Manager are required.
type Options struct {
	// Load returns the settings as they are now in their sources.
	Load func() (*config.Config, error)
	// Live are the settings of the servers, with those values that were taken over before.
	Live *atomic.Pointer[config.Config]
	// Files read the files that settings name. Each returns the function that uses what it has
	// read.
	Files []func() (use func(), err error)
	// Apply sets the limits of settings in the parts that run.
	Apply func(*config.Config)
	// Level is that of Log, for changes of log.level; nil: it stays.
	Level *slog.LevelVar
	// Audit is the audit log, which a rotation has moved; nil: there is none.
	Audit *audit.Log
	// Manager is told when a reload begins, and afterwards the Condition of the process; nil:
	// there is none.
	Manager   *systemd.Manager
	Condition func() string
	// Ready gets the refusal of settings.
	Ready      *obs.Ready
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Reloader takes over settings. Any goroutine.
type Reloader struct {
	opt  Options
	done *prometheus.CounterVec

	mu    sync.Mutex
	ended bool
}

// New returns the Reloader of servers that run.
func New(opt Options) *Reloader {
	r := &Reloader{opt: opt, done: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_settings_reloads_total",
		Help: "SIGHUPs at which the settings and files were read again, by result: ok, or " +
			"refused, which changes nothing.",
	}, []string{"result"})}
	opt.Registerer.MustRegister(r.done)
	return r
}

// Again reads everything again, unless End was called. The audit log is opened again in any case.
// The log has the result.
func (r *Reloader) Again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if m := r.opt.Manager; m != nil {
		m.Reloading()
		defer func() { m.Ready(r.opt.Condition()) }()
	}
	log := r.opt.Log
	if a := r.opt.Audit; a != nil {
		if err := a.Reopen(); err != nil {
			log.Error("audit log not opened again, lines go to the old file", "err", err)
		}
	}
	if err := r.reload(); err != nil {
		r.done.WithLabelValues("refused").Inc()
		r.opt.Ready.Set("settings", obs.Degraded(fmt.Errorf("not read again, those before stay: %w",
			err)))
		for line := range strings.Lines(err.Error()) {
			log.Error("settings not read again, those before stay, and all certificates",
				"err", strings.TrimSpace(line))
		}
		return
	}
	r.done.WithLabelValues("ok").Inc()
	r.opt.Ready.Set("settings", nil)
}

// End waits for a call of Again that runs. Later ones have no effect.
func (r *Reloader) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// reload takes over what has changed. After an error nothing has.
func (r *Reloader) reload() error {
	next, err := r.opt.Load()
	if err != nil {
		return err
	}
	if err := check.Start(next, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	running := r.opt.Live.Load()
	var kept []string
	if (running.MSFS.Quota == 0) != (next.MSFS.Quota == 0) {
		kept = append(kept, "msfs.quota") // files are counted from the start, or not at all
	}
	merged, changed, restart := running.Reload(next, kept...)
	level, err := obs.ParseLevel(merged.Log.Level)
	if err != nil {
		return err
	}
	files, err := r.files()
	if err != nil {
		return err
	}
	for _, use := range files {
		use()
	}
	r.opt.Live.Store(merged)
	r.opt.Apply(merged)
	if r.opt.Level != nil {
		r.opt.Level.Set(level)
	}
	r.opt.Log.Info("settings read again", "changed", strings.Join(changed, ", "))
	if len(restart) > 0 {
		r.opt.Log.Warn("settings were changed that take effect at a restart", "settings",
			strings.Join(restart, ", "))
	}
	return nil
}

// files reads the files again, and returns the functions that use what was read.
func (r *Reloader) files() (use []func(), err error) {
	for _, read := range r.opt.Files {
		f, err := read()
		if err != nil {
			return nil, err
		}
		use = append(use, f)
	}
	return use, nil
}
