package open

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/audit"
	"teamtalk/core/config"
)

// keptEvents is how many of the last events of each class a process with the admin API keeps for
// it. Both classes have less than 2.5 MiB, because an event has eight texts of up to 256 bytes.
const keptEvents = 500

// Audit opens the audit log of the settings; nil when they have none, and no admin API that shows
// the last events. reg may be nil.
func Audit(
	cfg *config.Config, log *slog.Logger, reg prometheus.Registerer,
) (*audit.Log, error) {
	keep := 0
	if config.Addr(cfg.AdminAPI.Listen) != "" {
		keep = keptEvents
	}
	return audit.Open(audit.Options{File: cfg.Audit.File, Syslog: cfg.Audit.Syslog, Keep: keep,
		Log: log, Registerer: reg})
}
