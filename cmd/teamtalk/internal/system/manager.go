package system

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/cmd/teamtalk/internal/system/systemd"
)

// statusEvery is the interval at which the service manager is told what is not ready.
const statusEvery = 10 * time.Second

// tellManager tells the service manager that the process serves, then that it is alive, and what
// is not ready, until the returned task is stopped. The ports are open by now. Links to other
// servers may not be: those may start later than this process.
func tellManager(s *system, m *systemd.Manager) *stops.Background {
	m.Ready(serving(s))
	return stops.InBackground(func(ctx context.Context) {
		if m == nil {
			return
		}
		watch := stops.InBackground(func(ctx context.Context) { m.Watch(ctx, alive(s)) })
		defer watch.Stop()
		told := ""
		tick := time.NewTicker(statusEvery)
		defer tick.Stop()
		for {
			if now := condition(ctx, s); now != told && ctx.Err() == nil {
				m.Status(now)
				told = now
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// serving says what the process does, for the service manager.
func serving(s *system) string { return "Serving " + strings.Join(s.cfg.Roles, ", ") }

// condition returns serving, and the parts that are not ready or are degraded.
func condition(ctx context.Context, s *system) string {
	report := s.ready.Check(ctx)
	text := serving(s)
	for _, part := range slices.Sorted(maps.Keys(report.Checks)) {
		if why := report.Checks[part]; why != "ok" {
			text += "; " + part + ": " + why
		}
	}
	return text
}

// alive returns a function that returns nil when every event loop answers.
func alive(s *system) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, p := range s.ports.List() {
			if err := p.Alive(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}
