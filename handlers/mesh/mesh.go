// Package mesh connects the message servers of a cluster without route servers. In the process
// of each message server it takes the place of the route server: the message server tells it
// which users come and leave, and gives it what concerns users elsewhere. The mesh keeps the
// devices of the local users in a whereabouts.Store, reads there which other message servers
// have a user, and sends to them over links of its own.
//
// Three kinds of servers have links to it: the message server of the same process (Local), the
// meshes of other message servers, and servers that would otherwise use route servers (both
// Servers). Each link between two meshes carries messages in one direction: from the mesh that
// dialed.
//
// DESIGN.md has the argument why no text is missed and why of two logins exactly one stays, and
// says what happens in each failure.
package mesh

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/latekick"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/opt"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/mesh/marks"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// Link is a link to the mesh of another message server. *link.Remote is one. None of the methods
// waits, except Close.
type Link = outgoing.Link

// Self is what the registry says of this process.
type Self struct {
	Epoch uint64 // 0: it is not registered yet
	// Lapses is how often its registration has ended without its will. Others may have removed
	// what it had in the store.
	Lapses uint64
}

// Options configures a Server. Store, Nodes, Name, Self and Dial must be set. Zero values of the
// others mean the defaults.
type Options struct {
	// Store has the whereabouts of all users.
	Store whereabouts.Store
	// Nodes has the message servers that are alive, under Role.
	Nodes *registry.View
	// Role is the role of message servers in Nodes. Default "msg".
	Role string
	// Name is the name of this message server in Nodes, and Self returns the rest.
	Name string
	Self func() Self
	// Dial opens a link to a node, whose events h gets. The link reconnects until it is closed.
	Dial func(n registry.Node, h session.LinkHandler) Link
	// Replaces reports whether a login with client ends a session with old. Default: if both
	// have one device class.
	Replaces func(client, old pb.ClientType) bool
	// StoreTimeout bounds a call to the store. Default 2 s.
	StoreTimeout time.Duration
	// LoginWait is the longest time that a login waits for the store. Default 3 s.
	LoginWait time.Duration
	// GroupWait is the part of it in which the groups of the user are waited for. Default 1 s.
	GroupWait time.Duration
	// GroupLinger is the time after which a group without a member here is not marked any more.
	// Default 5 minutes.
	GroupLinger time.Duration
	// LinkIdle is the time after which an unused link is closed. Default 5 minutes.
	LinkIdle time.Duration
	// LinkTimeout is the longest time that a server that dialed may be silent; 0: for ever.
	// LinkHeartbeat is the interval of this side's heartbeats; 0: none.
	LinkTimeout, LinkHeartbeat time.Duration
	// Window is how long changes of users are collected, to be told to the other message servers
	// together. 0: they are told at once.
	Window time.Duration
	// NoStatuses says that the message servers tell no client whether other users are online.
	NoStatuses bool
	// Now returns the time. Default time.Now.
	Now func() time.Time
	// Turn is waited for by the goroutines of the mesh before they work. Default: none.
	Turn mono.Turn
	// Log receives the events of nodes and of the store. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the mesh of one message server. Run must run while it is used.
type Server struct {
	opt     Options
	log     *slog.Logger
	metrics *metrics
	often   obs.Often
	local   session.LinkHandler
	servers session.LinkHandler

	lookups lookups
	writer  writer
	groups  groups
	burials chan burial

	// mu is taken before the locks of package outgoing, which says more.
	mu      sync.Mutex
	here    *session.Link // to the message server of this process; nil: not connected
	others  []*end        // accepted links, without those of meshes
	users   map[uint32]*user
	coming  []*coming         // oldest first; those that ended are skipped
	known   whereabouts.Known // judges entries
	kicks   latekick.Kicks
	parts   []*pb.ServerUserStat // of a list of the local users that has not arrived whole
	status  presence
	changes changes
	links   *outgoing.Links
}

// Bounds of what a mesh remembers of changes, see presence.
const (
	versionsKept = 2 * time.Minute
	maxVersions  = 1 << 17
)

// New returns a mesh that knows no user yet.
func New(o Options) *Server {
	opt.Default(&o.StoreTimeout, 2*time.Second)
	opt.Default(&o.LoginWait, 3*time.Second)
	opt.Default(&o.LinkIdle, 5*time.Minute)
	if o.Role == "" {
		o.Role = "msg"
	}
	if o.Replaces == nil {
		o.Replaces = pb.ClientType.SameClass
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: o, log: o.Log.With("role", "mesh"), users: map[uint32]*user{},
		burials: make(chan burial, maxBurials), known: whereabouts.NewKnown(nil, 0)}
	s.writer.Server, s.lookups.Server, s.status.Server = s, s, s
	s.changes.Server, s.changes.wake = s, make(chan struct{}, 1)
	s.changes.most = maxChanges
	s.status.forget()
	s.writer.wake, s.lookups.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	s.metrics = newMetrics(o.Registerer, s)
	s.links = newLinks(s)
	s.groups.Server = s
	s.groups = newGroups(s)
	s.local, s.servers = newLocal(s), newServers(s)
	return s
}

// newLinks makes the links of a mesh to the others.
func newLinks(s *Server) *outgoing.Links {
	o := &s.opt
	return outgoing.New(outgoing.Options{Lock: &s.mu, Dial: o.Dial,
		Introduce: func(to whereabouts.Node) *pb.IMRoleSet { return introduction(s.self(), to) },
		Lost:      func() { s.toLocal(lostNote()) },
		Missed: func(p *outgoing.Peer, missed time.Duration) {
			s.tellMissed(missed)
			s.changes.catchUp(p)
		},
		LateKicks: s.lateKicks, Idle: o.LinkIdle, Now: o.Now, Log: s.log,
		Drops: s.metrics.drops, Registerer: o.Registerer})
}

// Local returns the handler for the link of the message server of this process.
func (s *Server) Local() session.LinkHandler { return s.local }

// Servers returns the handler for links that other servers dial.
func (s *Server) Servers() session.LinkHandler { return s.servers }

// Connect sets the db_proxy, which is asked for the groups of users. While it does not answer, this
// message server gets the messages of all groups.
func (s *Server) Connect(db marks.DB) { s.groups.index.Connect(db) }

// Run serves until ctx ends. Then it writes what has changed, for StoreTimeout at most, and closes
// the links. The message server must have left by then.
func (s *Server) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){s.follow, s.lookups.look, s.writer.write,
		s.bury, s.tick, s.changes.send, s.groups.index.Run} {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
	s.changes.flush()
	s.links.Close()
}

// tickEvery is the interval at which the mesh looks at what has waited too long.
const tickEvery = 250 * time.Millisecond

// tick looks at what has waited too long.
func (s *Server) tick(ctx context.Context) {
	mono.Every(ctx.Done(), tickEvery, func() {
		s.opt.Turn.Wait("tick")
		s.expireComing()
		s.links.Check()
		s.lookups.checkStore()
		s.status.askOwed()
	})
}

// follow keeps the list of message servers up to date.
func (s *Server) follow(ctx context.Context) {
	for {
		list, changed := s.opt.Nodes.Nodes(s.opt.Role)
		s.setNodes(list)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		s.opt.Turn.Wait("follow")
	}
}

// setNodes takes a list of the message servers that are alive. Links to processes that have ended
// are closed, and their users go offline here.
func (s *Server) setNodes(list []registry.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := make([]registry.Node, 0, len(list))
	for _, n := range list {
		if n.Name != s.opt.Name {
			others = append(others, n)
		}
	}
	self := len(others) < len(list)
	s.known = whereabouts.NewKnown(list, s.known.Latest())
	for _, node := range s.links.SetNodes(others, s.known.Ended) {
		s.log.Info("message server has ended", "node", node.Name, "epoch", node.Epoch)
		s.status.leftBehind(node)
	}
	me := whereabouts.Node{Name: s.opt.Name, Epoch: s.writer.epoch}
	if !self && me.Epoch != 0 && s.known.Ended(me) { // the list is no older than its registration
		s.writer.missing = true // others may remove its entries, see checkStore
	} else if s.writer.missing {
		s.writer.missing = false
		s.writer.reassert(false)
	}
}

// self returns the identity of this process.
func (s *Server) self() whereabouts.Node {
	return whereabouts.Node{Name: s.opt.Name, Epoch: s.opt.Self().Epoch}
}

// missedNote returns the message that tells a server that others may have missed what it sent in
// the time before.
func missedNote(missed time.Duration) *pb.IMRoleSet {
	m := &pb.IMRoleSet{}
	m.SetMaster(0)
	m.SetFeatures(features)
	m.SetMissed(uint32(min(max(missed.Milliseconds(), 1), 1<<32-1)))
	return m
}

// tellMissed makes the local message server, and the other servers that keep what they have sent,
// send the texts and kicks of the latest time again: another message server may have missed them.
// The caller holds s.mu.
func (s *Server) tellMissed(missed time.Duration) {
	s.toLocal(missedNote(missed))
	for _, e := range s.others {
		if e.resent {
			_ = e.link.Send(0, missedNote(missed)) // a failed Send ends the link
		}
	}
}

// toLocal gives a message to the message server of this process. The caller holds s.mu, or no lock
// when the order does not matter.
func (s *Server) toLocal(m pb.Message) {
	if s.here == nil {
		s.metrics.drops.WithLabelValues("local_away").Inc()
		return
	}
	if err := s.here.Send(0, m); err != nil {
		s.metrics.drops.WithLabelValues("local_full").Inc()
		s.often.Warn(s.log, s.opt.Now(), "message not given to the message server", "cmd",
			m.Command().String(), "err", err)
	}
}
