// Package route decides for the route server: it knows which users are online on which message servers, tells everyone when that changes,
// and forwards what concerns users elsewhere.
//
// # Order
//
// Message servers talk over several event loops at once. Everything that changes one user happens under one lock, the user's stripe, and
// what follows from it is pushed before the lock is left: so each message server hears of a user's changes in the order in which they
// happened, and the last word is the truth. Pushing never waits.
//
// # Presence
//
// What message servers are told, all of them, the reporting one included, as the first implementation did:
//
//   - A pc client comes: IMServerPCLoginStatusNotify 1, IMUserStatNotify online.
//   - A phone comes while a pc is online: IMServerPCLoginStatusNotify 1.
//   - The last pc client goes, and a phone stays: IMServerPCLoginStatusNotify 0, IMUserStatNotify offline.
//   - The last pc client goes, and nothing stays: IMUserStatNotify offline.
//   - Else nothing: phones are not announced.
//
// A message server that is lost takes its users with it, with the same notifies. When it comes back and reports them, those that
// were announced as gone are announced again; others are not, so that a restart of the route server is silent.
package route

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Options sets up a Server. Zero values mean the defaults.
type Options struct {
	// Whereabouts says who is where. Default: a Table of the server's own.
	Whereabouts Whereabouts
	// Flood forwards everything to all message servers, as the first implementation did, not only to those that hold a user concerned. Clients
	// cannot tell the difference; it is for message servers that do not report their users.
	Flood bool
	// LinkTimeout is how long a message server may be silent before its users count as gone, LinkHeartbeat how long this side
	// may be. Defaults 30 s and 5 s.
	LinkTimeout, LinkHeartbeat time.Duration
	// Log gets message servers coming and going. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the route role: the session.Handler of the message servers' links.
type Server struct {
	*router.Router
	opt     Options
	log     *slog.Logger
	where   Whereabouts
	metrics metrics
	stripes [64]stripe

	mu      sync.Mutex                // of those who change servers
	servers atomic.Pointer[[]*server] // replaced, never changed
}

// server is one link: a message server, or another that only sends.
type server struct {
	session *session.Session
	node    Node
	// slave says that this route server is not the one the message server listens to for presence.
	slave atomic.Bool

	// Below: within the session's own calls only, which come one after another.
	users    map[uint32]int // clients by user
	reported bool           // it has sent its users
}

// New makes a route server that knows nobody yet.
func New(opt Options) *Server {
	if opt.LinkTimeout <= 0 {
		opt.LinkTimeout = 30 * time.Second
	}
	if opt.LinkHeartbeat <= 0 {
		opt.LinkHeartbeat = 5 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
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
	r.Router = router.New(router.Options{Role: "route", Log: opt.Log, Registerer: opt.Registerer})
	r.handlePresence()
	r.handleForwards()
	return r
}

// Open takes in a link.
func (r *Server) Open(s *session.Session) error {
	if s.Loop() != nil {
		s.SetIdleLimit(r.opt.LinkTimeout)
		s.SetKeepAlive(r.opt.LinkHeartbeat)
	}
	sv := &server{session: s, node: Node(s.ID()), users: map[uint32]int{}}
	s.Data = sv
	r.mu.Lock()
	defer r.mu.Unlock()
	all := append(slices.Clone(*r.servers.Load()), sv)
	r.servers.Store(&all)
	r.log.Info("server connected", "role", "route", "conn", s.ID(), "peer", s.Remote())
	return nil
}

// Close takes a link out, and its users with it.
func (r *Server) Close(s *session.Session, err error) {
	sv, ok := s.Data.(*server)
	if !ok {
		return
	}
	r.mu.Lock()
	all := slices.DeleteFunc(slices.Clone(*r.servers.Load()), func(o *server) bool { return o == sv })
	r.servers.Store(&all)
	r.mu.Unlock()
	r.log.Info("server gone", "role", "route", "conn", s.ID(), "peer", s.Remote(), "users", len(sv.users), "err", err)
	r.lose(sv)
}

func of(s *session.Session) *server { return s.Data.(*server) }

// find returns the servers with the given nodes, except one.
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

// all returns all servers, without except.
func (r *Server) all(except Node) []*server {
	return slices.DeleteFunc(slices.Clone(*r.servers.Load()), func(sv *server) bool { return sv.node == except })
}

// masters returns the servers that listen to this route server for presence. With several route servers each message server reports to
// all, and would hear everything as many times.
func (r *Server) masters() []*server {
	return slices.DeleteFunc(slices.Clone(*r.servers.Load()), func(sv *server) bool { return sv.slave.Load() })
}

// metrics counts what the role does beyond answering.
type metrics struct {
	forwards prometheus.Counter
	nobody   *prometheus.CounterVec
	drops    prometheus.Counter
	notifies prometheus.Counter
	unknown  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Server) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_route_" + name, Help: help})
	}
	m := metrics{
		forwards: counter("forwards_total", "Messages sent on to a message server; one that goes to two counts twice."),
		nobody: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_route_forwards_nobody_total",
			Help: "Messages not sent on because no other message server holds a user concerned, by command."}, []string{"cmd"}),
		drops:    counter("drops_total", "Messages lost because a message server's link was full or closed."),
		notifies: counter("notifies_total", "Presence notifies sent to message servers."),
		unknown:  counter("unknown_clients_total", "Clients reported as gone that were not known to be there."),
	}
	if reg != nil {
		reg.MustRegister(m.forwards, m.nobody, m.drops, m.notifies, m.unknown,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_route_servers", Help: "Servers connected."},
				func() float64 { return float64(len(*r.servers.Load())) }))
		if t, ok := r.where.(*Table); ok {
			reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_route_users", Help: "Users online."},
				func() float64 { return float64(t.Users()) }))
		}
	}
	return m
}

// handleHeartBeat has nothing to do: that something came is what counts.
func (r *Server) handleHeartBeat(*session.Session, uint16, *pb.IMHeartBeat) error { return nil }
