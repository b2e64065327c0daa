package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/check"
	"teamtalk/cmd/teamtalk/internal/system/systemd"
	"teamtalk/core/config"
	"teamtalk/core/config/apps"
	"teamtalk/core/obs"
	"teamtalk/handlers/dbproxy/grouprules"
	"teamtalk/handlers/httpapi"
)

// reloader reads the settings, and the files that they name, again while the servers run: at
// SIGHUP. It takes over all that a running server can, or nothing when anything is wrong.
type reloader struct {
	s       *system
	load    func() (*config.Config, error)
	level   *slog.LevelVar
	manager *systemd.Manager
	done    *prometheus.CounterVec

	mu    sync.Mutex
	ended bool
}

// newReloader returns the reloader of servers that run.
func newReloader(s *system, opt *Options) *reloader {
	r := &reloader{s: s, load: opt.Reload, level: opt.Level, manager: opt.Manager,
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_settings_reloads_total",
			Help: "SIGHUPs at which the settings and files were read again, by result: ok, or " +
				"refused, which changes nothing.",
		}, []string{"result"})}
	s.reg.MustRegister(r.done)
	return r
}

// again reads everything again, unless end was called. The audit log, which a rotation has moved,
// is opened again in any case.
func (r *reloader) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	s := r.s
	if r.manager != nil {
		r.manager.Reloading()
		defer func() { r.manager.Ready(condition(context.Background(), s)) }()
	}
	if s.audit != nil {
		reopenAudit(s.audit, s.log)
	}
	if err := r.reload(); err != nil {
		r.done.WithLabelValues("refused").Inc()
		s.ready.Set("settings", obs.Degraded(fmt.Errorf("not read again, those before stay: %w",
			err)))
		for line := range strings.Lines(err.Error()) {
			s.log.Error("settings not read again, those before stay, and all certificates",
				"err", strings.TrimSpace(line))
		}
		return
	}
	r.done.WithLabelValues("ok").Inc()
	s.ready.Set("settings", nil)
}

// end waits for a call of again that runs. Later ones have no effect.
func (r *reloader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// reload takes over what has changed. After an error nothing has.
func (r *reloader) reload() error {
	s := r.s
	next, err := r.load()
	if err != nil {
		return err
	}
	if err := check.Start(next, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	running := s.live.Load()
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
	s.live.Store(merged)
	applyLimits(s, merged)
	if r.level != nil {
		r.level.Set(level)
	}
	s.log.Info("settings read again", "changed", strings.Join(changed, ", "))
	if len(restart) > 0 {
		s.log.Warn("settings were changed that take effect at a restart", "settings",
			strings.Join(restart, ", "))
	}
	return nil
}

// files reads the certificates and the file of systems again, and returns the functions that use
// what was read.
func (r *reloader) files() (use []func(), err error) {
	s := r.s
	var list []func() (func(), error)
	if s.tls != nil {
		list = append(list, func() (func(), error) { return s.tls.Prepare(s.log) })
	}
	if s.servers != nil {
		list = append(list, func() (func(), error) { return s.servers.Prepare(s.log) })
	}
	if s.api != nil && s.cfg.HTTP.AppsFile != "" {
		list = append(list, func() (func(), error) { return prepareApps(s) })
	}
	for _, prepare := range list {
		f, err := prepare()
		if err != nil {
			return nil, err
		}
		use = append(use, f)
	}
	return use, nil
}

// errNoAccounts is the refusal of an apps file that opens the registration in a process that has
// none of the stores to which it would add users.
var errNoAccounts = errors.New("it lets users register, and this process has opened no store for " +
	"them: restart it")

// prepareApps reads the file of systems again, and returns the function that puts its content in
// the place of that in use. The login server of this process then tells clients whether they may
// register.
func prepareApps(s *system) (use func(), err error) {
	name := s.cfg.HTTP.AppsFile
	file, err := apps.Load(name)
	if err != nil {
		return nil, fmt.Errorf("http.apps_file: %w", err)
	}
	list, register := open.Apps(file)
	if register != nil {
		if s.api.store == nil {
			return nil, fmt.Errorf("http.apps_file: %s: %w", name, errNoAccounts)
		}
		if register.Passwords, err = open.PasswordPolicy(s.cfg, s.api.store); err != nil {
			return nil, err
		}
		register.Accounts = accounts{s.api.store, s.db}
	}
	replace, err := s.api.server.Prepare(list, register)
	if err != nil {
		return nil, fmt.Errorf("http.apps_file: %s: %w", name, err)
	}
	return func() {
		replace()
		s.api.register = register
		if s.login != nil {
			s.login.server.SetRegister(s.registration())
		}
		s.log.Info("file of systems read again", "file", name, "systems", len(list),
			"registration", describe(register))
	}, nil
}

// describe returns for which users the registration is open, for the log.
func describe(r *httpapi.Register) string {
	switch {
	case r == nil:
		return "closed"
	case r.Open:
		return "open"
	}
	return fmt.Sprintf("with %d invite codes", len(r.Invites))
}

// applyLimits sets the limits of the settings in the parts that run.
func applyLimits(s *system, cfg *config.Config) {
	s.ports.SetBounds(cfg)
	for _, p := range s.ports.List() {
		switch p.Name {
		case "clients", "websocket":
			p.SetMaxConns(s.clientLimit())
		case "file":
			p.SetMaxConns(min(s.ports.Budget.Limit(), cfg.File.MaxConnections))
		}
	}
	if s.pages != nil && s.pages.Server != nil { // also without a port of its own
		s.pages.SetMaxConns(s.clientLimit())
	}
	if s.msg != nil {
		s.msg.SetMaxConns(s.clientLimit())
		s.msg.SetRate(cfg.Msg.Rate, float64(cfg.Msg.RateBurst))
	}
	if s.msfs != nil {
		s.msfs.setLimits(&cfg.MSFS)
	}
	if s.spool != nil {
		s.spool.SetBounds(int64(cfg.File.Quota), int64(cfg.File.MinFree))
	}
	if s.db != nil {
		s.db.SetGroupLimits(groupLimits(&cfg.DBProxy))
	}
}

// groupLimits returns the bounds of groups in the section dbproxy.
func groupLimits(c *config.DBProxy) grouprules.Limits {
	return grouprules.Limits{Creations: c.GroupCreations, Adds: c.GroupAdds, Gains: c.GroupGains,
		Memberships: c.GroupMemberships, Left: c.GroupLeft}
}
