package system

import (
	"context"
	"time"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/encryption"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/cert"
	"teamtalk/core/obs"
)

// openFiles opens files that are read or opened again at every SIGHUP: the certificates of TLS
// and the audit log.
func openFiles(s *system) (err error) {
	if s.tls, err = encryption.OpenClients(s.cfg, s.log, s.reg); err != nil {
		return err
	}
	if s.servers, err = encryption.OpenServers(&s.cfg.LinkTLS, s.log, s.reg); err != nil {
		return err
	}
	watchEnds(s)
	if s.audit, err = open.Audit(s.cfg, s.log, s.reg); err != nil {
		return err
	}
	if s.audit != nil {
		s.stops.Push(stops.CloseAdmin, "audit log", s.audit.Close)
	}
	if s.cfg.Audit.File != "" || s.cfg.Audit.Syslog != "" {
		s.ready.Add("audit log", func(context.Context) error {
			return obs.Degraded(s.audit.Failing())
		})
	}
	return nil
}

// watchEnds logs once a day which certificates end soon.
func watchEnds(s *system) {
	var all []interface{ WarnEnds(now time.Time) }
	if s.tls != nil {
		all = append(all, s.tls)
	}
	if s.servers != nil {
		all = append(all, s.servers)
	}
	if len(all) > 0 {
		s.stops.Go(stops.CloseAdmin, "watch of certificates", func(ctx context.Context) {
			cert.Watch(ctx, all...)
		})
	}
}
