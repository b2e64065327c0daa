package system

import (
	"context"
	"fmt"
	"slices"
	"time"

	"teamtalk/cmd/teamtalk/internal/system/peering"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/obs"
	"teamtalk/core/session"
)

// A role that runs in another process is a nil session.LinkHandler. The functions below
// return it, because an interface that holds a nil pointer would not compare equal to
// nil.

// localDB returns the dbproxy of this process; nil when it runs elsewhere.
func (s *system) localDB() session.LinkHandler {
	if s.db == nil {
		return nil
	}
	return s.db
}

// localRoute returns the route server of this process, or the mesh in its place; nil when it runs
// elsewhere.
func (s *system) localRoute() session.LinkHandler {
	switch {
	case s.mesh != nil:
		return s.mesh.Servers()
	case s.route != nil:
		return s.route
	}
	return nil
}

// localLogin returns the login server of this process, as message servers reach it; nil
// when it runs elsewhere.
func (s *system) localLogin() session.LinkHandler {
	if s.login == nil {
		return nil
	}
	return s.login.server.Servers()
}

// newLinker returns what opens the links to other servers. The registry is open.
func newLinker(s *system) *peering.Linker {
	opt := peering.Options{Config: s.cfg, Node: s.node, MaxFrame: s.cfg.LinkFrame(),
		Dial: s.servers.Dial(), Answers: s.answers, Metrics: s.links, Log: s.log}
	if s.registry != nil {
		opt.View = s.registry.View()
	}
	return peering.New(opt)
}

// group opens links to the servers of one role. Stop closes them.
func (s *system) group(p peering.Peers) (*link.Group, error) {
	g, end, err := s.linker.Open(p)
	if err != nil {
		return nil, err
	}
	phase := stops.CloseLinks
	if p.Role == config.RoleLogin { // these send clients to this process
		phase = stops.LeaveLogins
	}
	s.stops.Push(phase, "link to "+p.Role, stops.Closing(end))
	return g, nil
}

// needs makes a group of links a condition for being ready, under a name.
func (s *system) needs(name string, g *link.Group) {
	s.ready.Add(name, func(context.Context) error { return s.linker.Check(g) })
}

// needsDisk makes the disk, or bucket, of a role's files a condition for being ready, if
// the process has no role that works without files. Otherwise the process is ready, since
// only the role refuses new files, and /readyz says so. The log says it at the start.
// minFree names the setting that reserves space.
func needsDisk(s *system, role, minFree string, ping obs.Check) {
	others := slices.ContainsFunc(s.starts(), func(other starter) bool {
		return other.role != config.RoleFile && other.role != config.RoleMSFS &&
			s.cfg.Runs(other.role)
	})
	check := func(ctx context.Context) error {
		err := ping(ctx)
		if im.KindOf(err) == im.Busy {
			err = fmt.Errorf("no new files are accepted: %w (setting %s)", err, minFree)
		}
		if others {
			return obs.Degraded(err)
		}
		return err
	}
	s.ready.Add(role, check)
	ctx, cancel := context.WithTimeout(context.Background(), obs.DefaultCheckTimeout)
	defer cancel()
	if err := check(ctx); err != nil {
		s.log.Warn("a role starts without a place for its files", "role", role, "err", err)
	}
}

// linkPatience is how long a starting message server waits for its links before it
// listens for clients.
const linkPatience = 2 * time.Second

// awaitLinks waits until all groups are up, for linkPatience at most. A client that
// connects earlier would be refused, and stock clients handle that worse than a port that
// is not open yet: Windows pauses for 3 s, Android tries again at once, 15 to 200 times a
// second. When the other servers stay away, the port opens all the same, so that clients
// are told why they cannot log in.
func awaitLinks(ctx context.Context, groups ...*link.Group) {
	ctx, cancel := context.WithTimeout(ctx, linkPatience)
	defer cancel()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for _, g := range groups {
		for !g.Up() {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// warnOpenLinks logs a warning when other machines reach a port for servers that accepts peers
// without a certificate.
func warnOpenLinks(s *system) {
	if !s.servers.Proven() && s.ports.Beyond(false) {
		s.log.Warn("the ports for servers accept peers without a certificate, as the settings " +
			"allow (section link_tls): let only servers reach them")
	}
}
