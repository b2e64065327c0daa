package system

import (
	"context"
	"fmt"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
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

// peers locates the servers of one role, and says how to talk to them.
type peers struct {
	name    string              // of the role
	here    session.LinkHandler // the server in this process; nil: there is none
	addrs   []string            // of servers in other processes
	conns   int                 // connections to each of addrs; 0: one
	handler session.LinkHandler // of the calling server: receives the peers' frames
	send    bool                // the servers send clients to this one
}

// group opens links to the servers of one role. Stop closes them.
func (s *system) group(p peers) (*link.Group, error) {
	var all []link.Server
	var features uint32
	if p.name == RoleDBProxy {
		features = uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS |
			pb.ServerFeature_SERVER_FEATURE_PARTS)
	}
	end := closeLinks
	if p.send {
		end = leaveLogins
	}
	add := func(server string, peer link.Peer) {
		all = append(all, link.Server{Name: server, Conns: []link.Peer{peer}})
		s.stops.push(end, "link to "+peer.Name(), closing(peer.Close))
	}
	if p.here != nil {
		local, err := link.Local(link.LocalOptions{
			Name: p.name, CallerName: roleMsg, Caller: p.handler, Callee: p.here,
			Features:    features,
			CallTimeout: s.cfg.Link.CallTimeout, Log: s.log, Metrics: s.links,
		})
		if err != nil {
			return nil, err
		}
		add(local.Name(), local)
	}
	for _, addr := range p.addrs {
		for range max(p.conns, 1) {
			add(addr, link.Dial(link.Options{
				Name: p.name, Addr: addr, Handler: p.handler, Features: features,
				Dial:        s.servers.dial(),
				DialTimeout: s.cfg.Link.DialTimeout,
				Heartbeat:   s.cfg.Link.Heartbeat, IdleLimit: s.cfg.Link.Timeout,
				MaxBackoff: s.cfg.Link.BackoffMax, CallTimeout: s.cfg.Link.CallTimeout,
				MaxFrame: linkFrame(s.cfg), Answers: s.answers, Log: s.log, Metrics: s.links,
			}))
		}
	}
	return link.NewGroup(p.name, s.log, all...), nil
}

// needs makes a group of links a condition for being ready, under a name.
func (s *system) needs(name string, g *link.Group) {
	s.ready.Add(name, func(context.Context) error {
		if !g.Up() {
			return fmt.Errorf("no %s server is connected", g.Name())
		}
		if g.Withdrawn() {
			return fmt.Errorf("the store of every %s server fails", g.Name())
		}
		return nil
	})
}

// needsDisk makes the disk, or bucket, of a role's files a condition for being ready, if
// the process has no role that works without files. Otherwise the process is ready, since
// only the role refuses new files, and /readyz says so. The log says it at the start.
// minFree names the setting that reserves space.
func needsDisk(s *system, role, minFree string, ping obs.Check) {
	others := slices.ContainsFunc(s.starts(), func(other starter) bool {
		return other.role != roleFile && other.role != roleMSFS && s.cfg.Runs(other.role)
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
