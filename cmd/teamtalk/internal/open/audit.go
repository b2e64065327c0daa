package open

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/audit"
	"teamtalk/core/config"
)

// Audit opens the audit log of the settings; nil when they have none. reg may be nil.
func Audit(
	cfg *config.Config, log *slog.Logger, reg prometheus.Registerer,
) (*audit.Log, error) {
	return audit.Open(audit.Options{File: cfg.Audit.File, Syslog: cfg.Audit.Syslog, Log: log,
		Registerer: reg})
}
