package system

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/audit"
	"teamtalk/core/config"
)

// OpenAudit opens the audit log of the settings; nil when they have none. reg may be nil.
func OpenAudit(
	cfg *config.Config, log *slog.Logger, reg prometheus.Registerer,
) (*audit.Log, error) {
	return audit.Open(audit.Options{File: cfg.Audit.File, Syslog: cfg.Audit.Syslog, Log: log,
		Registerer: reg})
}

// reopenAudit opens the file of an audit log again.
func reopenAudit(a *audit.Log, log *slog.Logger) {
	if err := a.Reopen(); err != nil {
		log.Error("audit log not opened again, lines go to the old file", "err", err)
	}
}
