package system

import (
	"context"
	"net"
	"time"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/link"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/handlers/mesh"
	"teamtalk/handlers/msg"
	"teamtalk/proto/pb"
	"teamtalk/sql/rediswhereabouts"
)

// meshPort is the name of the port for other message servers.
const meshPort = "message servers"

// maxMeshBackoff is the longest pause between attempts to reach another message server. Texts for
// it are kept for 35 s.
const maxMeshBackoff = 5 * time.Second

// startMesh starts what takes the place of route servers if the message servers find each other in
// Redis, and opens its port.
func startMesh(s *system) error {
	if !s.cfg.Mesh() {
		return nil
	}
	where, err := openWhereabouts(s)
	if err != nil {
		return err
	}
	s.where = where
	opt := mesh.Options{Store: where, Nodes: s.registry.View(), Role: config.RoleMsg, Name: s.node,
		Self: func() mesh.Self {
			return mesh.Self{Epoch: s.registry.Epoch(), Lapses: s.registry.Lapses()}
		},
		Dial: func(n registry.Node, h session.LinkHandler) mesh.Link {
			return dialNode(s, n, h)
		},
		// A change waits for this window, and for that of the message server that gets it.
		Window:      s.cfg.Msg.PresenceWindow / 2,
		NoStatuses:  msg.Presence(s.cfg.Msg.Tells()) == msg.PresenceNone,
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat,
		Log: s.log, Registerer: s.reg}
	if msg.DevicePolicy(s.cfg.Msg.DevicePolicy) == msg.OneClient {
		opt.Replaces = func(pb.ClientType, pb.ClientType) bool { return true }
	}
	s.mesh = mesh.New(opt)
	s.stops.Go(stops.CloseServers, "mesh of message servers", s.mesh.Run)
	s.stops.Go(stops.CloseServers, "watch of the whereabouts", func(ctx context.Context) {
		where.Watch(ctx, s.mesh.Reassert)
	})
	return s.ports.Open(&ports.Port{Name: meshPort}, "msg.server_listen", s.cfg.Msg.ServerAddr(),
		engine.Options{Links: s.mesh.Servers()})
}

// openWhereabouts opens the whereabouts, which are beside the unread counts.
func openWhereabouts(s *system) (*rediswhereabouts.Store, error) {
	i, err := open.WhereaboutsRedis(s.cfg)
	if err != nil {
		return nil, err
	}
	r := &s.cfg.Registry
	store := rediswhereabouts.Open(rediswhereabouts.Options{Redis: i, Timeout: r.Renew,
		Poll: r.Poll, Log: s.log, Registerer: s.reg})
	s.stops.Push(stops.CloseStore, "connections to the whereabouts", stops.Closing(store.Close))
	return store, nil
}

// dialNode opens a link to another message server.
func dialNode(s *system, n registry.Node, h session.LinkHandler) mesh.Link {
	dial := s.servers.Dial()
	if err := s.cfg.MayDial(n.Addr); err != nil {
		dial = func(context.Context, string) (net.Conn, error) { return nil, err }
	}
	return link.Dial(link.Options{Name: n.Name, Addr: n.Addr, Handler: h, Dial: dial,
		DialTimeout: s.cfg.Link.DialTimeout, Heartbeat: s.cfg.Link.Heartbeat,
		IdleLimit: s.cfg.Link.Timeout, MaxBackoff: min(s.cfg.Link.BackoffMax, maxMeshBackoff),
		CallTimeout: s.cfg.Link.CallTimeout, MaxFrame: s.cfg.LinkFrame(), Log: s.log,
		Metrics: s.links})
}

// routeOfMsg returns what the message server has as the route server of this process.
func routeOfMsg(s *system) session.LinkHandler {
	if s.mesh != nil {
		return s.mesh.Local()
	}
	return s.localRoute()
}
