package system

import (
	"context"
	"errors"
	"fmt"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/reload"
	"teamtalk/core/config"
	"teamtalk/core/config/apps"
	"teamtalk/handlers/dbproxy/grouprules"
	"teamtalk/handlers/httpapi"
)

// newReloader returns what takes over settings while the servers run.
func newReloader(s *system, opt *Options) *reload.Reloader {
	return reload.New(reload.Options{Load: opt.Reload, Live: &s.live, Files: reloadedFiles(s),
		Apply: func(cfg *config.Config) { applyLimits(s, cfg) }, Level: opt.Level, Audit: s.audit,
		Manager:   opt.Manager,
		Condition: func() string { return condition(context.Background(), s) },
		Ready:     s.ready, Log: s.log, Registerer: s.reg})
}

// reloadedFiles returns the functions that read the certificates and the file of systems again.
func reloadedFiles(s *system) (files []func() (use func(), err error)) {
	if s.tls != nil {
		files = append(files, func() (func(), error) { return s.tls.Prepare(s.log) })
	}
	if s.servers != nil {
		files = append(files, func() (func(), error) { return s.servers.Prepare(s.log) })
	}
	if s.api != nil && s.cfg.HTTP.AppsFile != "" {
		files = append(files, func() (func(), error) { return prepareApps(s) })
	}
	return files
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
