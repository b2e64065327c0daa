package system

import (
	"context"

	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/core/engine"
	"teamtalk/handlers/route"
)

// startRoute starts the route server and opens its port for other servers.
func (s *system) startRoute(context.Context) error {
	s.route = route.New(route.Options{
		Flood:       s.cfg.Route.Flood,
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat, Log: s.log,
		Registerer: s.reg, Trace: s.trace,
	})
	return s.ports.Open(&ports.Port{Name: "route"}, "route.listen",
		s.cfg.Route.Addr(s.cfg.AllInOne()), engine.Options{Links: s.route})
}
