// Package route implements the route server: it tracks which users are online on which
// message servers, notifies the message servers of changes, and forwards messages for
// users that are connected to other message servers.
//
// # Order
//
// Message servers send over several event loops at the same time. Every change of a user,
// and the pushes that follow from it, happen under one lock, the user's stripe. So each
// message server receives a user's notifies in the order of the changes, and the last
// notify is the current state. A push never blocks.
//
// # Presence
//
// All message servers receive the following notifies, including the one that reported the
// change, as in the first implementation:
//
//   - A pc client connects: IMServerPCLoginStatusNotify 1, IMUserStatNotify online.
//   - A phone connects while a pc is online: IMServerPCLoginStatusNotify 1.
//   - The last pc client disconnects and a phone remains: IMServerPCLoginStatusNotify 0,
//     IMUserStatNotify offline.
//   - The last pc client disconnects and no client remains: IMUserStatNotify offline.
//   - Any other change sends nothing: the status of phones is not announced.
//
// When the link of a message server ends, its users go offline, with the same notifies.
// When the server reconnects and reports its users, those that were announced as offline
// are announced as online again. Others are not announced, so that a restart of the route
// server sends no notifies.
package route

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/latekick"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/core/trace"
	"teamtalk/proto/pb"
)

// Options configures a Server. Zero values mean the defaults.
type Options struct {
	// Whereabouts stores which users are online where. Default: a Table of the server's
	// own.
	Whereabouts Whereabouts
	// Flood forwards every message to all message servers, as the first implementation
	// did, and not only to those that hold one of its users. Clients cannot tell the
	// difference. It is for message servers that do not report their users.
	Flood bool
	// LinkTimeout is the longest time that a message server may be silent before its link
	// is closed and its users count as offline; 0: for ever. LinkHeartbeat is the interval
	// of this side's heartbeats; 0: none.
	LinkTimeout, LinkHeartbeat time.Duration
	// Trace records the ways of messages. nil: none.
	Trace *trace.Tracer
	// Now returns the time. Default time.Now.
	Now func() time.Time
	// Log records the message servers that connect and disconnect. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the route role: the session.LinkHandler of the message servers' links.
type Server struct {
	*router.Router[*session.Link]
	opt     Options
	log     *slog.Logger
	where   Whereabouts
	metrics metrics
	stripes [64]stripe

	mu       sync.Mutex                // held to replace servers
	servers  atomic.Pointer[[]*server] // copy on write
	absences []absence                 // with mu held
	kicks    latekick.Kicks            // with mu held
}

// server is one link: of a message server, or of another server that only sends.
type server struct {
	session *session.Link
	node    Node
	// slave is set when the message server takes presence from another route server.
	slave atomic.Bool
	// resent is set when the message server recognises texts that are sent again.
	resent atomic.Bool
	// repeats is set when the message server takes repeated messages.
	repeats atomic.Bool
	// files is set when the message server recognises repeated notifies of files.
	files atomic.Bool

	// The fields below are used only in the session's own calls, which run one at a time.
	users    map[uint32]int       // clients by user
	reported bool                 // it has sent the list of its users
	parts    []*pb.ServerUserStat // of a list that has not arrived whole
	missed   uint32               // for how many milliseconds it was not connected; 0: not known
}

// New returns a route server that knows no user yet.
func New(opt Options) *Server {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Whereabouts == nil {
		opt.Whereabouts = NewTable()
	}
	r := &Server{opt: opt, log: opt.Log, where: opt.Whereabouts}
	r.servers.Store(&[]*server{})
	for i := range r.stripes {
		r.stripes[i].init()
	}
	r.metrics = newMetrics(opt.Registerer, r)
	r.Router = router.New[*session.Link](router.Options{
		Role: "route", Log: opt.Log, Registerer: opt.Registerer})
	r.handlePresence()
	r.handleForwards()
	return r
}

// Open adds a link.
func (r *Server) Open(s *session.Link) error {
	s.SetTimeouts(r.opt.LinkTimeout, r.opt.LinkHeartbeat)
	sv := &server{session: s, node: Node(s.ID()), users: map[uint32]int{}}
	s.Data = sv
	r.mu.Lock()
	defer r.mu.Unlock()
	all := append(slices.Clone(*r.servers.Load()), sv)
	r.servers.Store(&all)
	s.Log(r.log, "server connected", "role", "route")
	return nil
}

// Close removes a link and takes its users offline.
func (r *Server) Close(s *session.Link, err error) {
	sv, ok := s.Data.(*server)
	if !ok {
		return
	}
	r.mu.Lock()
	all := slices.DeleteFunc(slices.Clone(*r.servers.Load()),
		func(o *server) bool { return o == sv })
	r.servers.Store(&all)
	r.mu.Unlock()
	s.Log(r.log, "server gone", "role", "route", "users", len(sv.users), "err", err)
	r.lose(sv)
}

func of(s *session.Link) *server { return s.Data.(*server) }

// find returns the servers of nodes, except the one of node except.
func (r *Server) find(nodes []Node, except Node) []*server {
	if len(nodes) == 0 || len(nodes) == 1 && nodes[0] == except {
		return nil
	}
	var found []*server
	for _, sv := range *r.servers.Load() {
		if sv.node != except && slices.Contains(nodes, sv.node) {
			found = append(found, sv)
		}
	}
	return found
}

// all returns all servers, except the one of node except.
func (r *Server) all(except Node) []*server {
	return slices.DeleteFunc(slices.Clone(*r.servers.Load()),
		func(sv *server) bool { return sv.node == except })
}

// masters returns the servers that take presence from this route server. A message server
// reports to every route server; if each of them sent it presence, it would receive every
// notify several times.
func (r *Server) masters() []*server {
	return slices.DeleteFunc(slices.Clone(*r.servers.Load()),
		func(sv *server) bool { return sv.slave.Load() })
}

// metrics counts forwards, notifies and errors.
type metrics struct {
	forwards prometheus.Counter
	nobody   *prometheus.CounterVec
	drops    prometheus.Counter
	notifies prometheus.Counter
	unknown  prometheus.Counter
	kicks    prometheus.Counter

	forgotten prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Server) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_route_" + name,
			Help: help})
	}
	m := metrics{
		forwards: counter("forwards_total",
			"Messages forwarded to a message server. One that is forwarded to two servers counts "+
				"twice."),
		nobody: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_route_forwards_nobody_total",
			Help: "Messages not forwarded because no other message server holds one of its " +
				"users, by command."}, []string{"cmd"}),
		drops: counter("drops_total",
			"Messages dropped because the link of a message server was full or closed."),
		notifies: counter("notifies_total", "Presence notifies sent to message servers."),
		unknown: counter("unknown_clients_total",
			"Reports of disconnected clients that were not known to be connected."),
		kicks: counter("kicks_not_kept_total",
			"Kicks of the HTTP API that are no longer sent to message servers that connect, "+
				"because too many followed them."),
		forgotten: counter("statuses_not_kept_total",
			"Users that message servers are no longer told of when they connect again, because "+
				"too many changed within ten minutes."),
	}
	if reg != nil {
		reg.MustRegister(m.forwards, m.nobody, m.drops, m.notifies, m.unknown,
			m.kicks, m.forgotten,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_route_servers",
				Help: "Servers connected."},
				func() float64 { return float64(len(*r.servers.Load())) }))
		if t, ok := r.where.(*Table); ok {
			reg.MustRegister(prometheus.NewGaugeFunc(
				prometheus.GaugeOpts{Name: "teamtalk_route_users", Help: "Users online."},
				func() float64 { return float64(t.Users()) }))
		}
	}
	return m
}

// handleHeartBeat does nothing: the arrival of a frame is enough to restart the idle
// limit.
func (r *Server) handleHeartBeat(*session.Link, uint16, *pb.IMHeartBeat) error { return nil }
