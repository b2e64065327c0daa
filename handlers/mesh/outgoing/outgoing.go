// Package outgoing has the links on which a mesh sends to the meshes of other message servers.
// It dials a message server when there is a message for it, keeps messages until the link is
// open, and tells the mesh what may be lost.
//
// Two kinds of locks are held here, always in this order:
//
//  1. Options.Lock, the lock of the mesh. The caller holds it for most methods of Links. Links
//     takes it itself for events of links (opened, ended) and in Check.
//  2. Peer.mu, that of one message server. Peer.Send takes it, with or without the lock of the
//     mesh.
//
// With Peer.mu held the lock of the mesh is never taken, and no other Peer.mu. Lost, Missed and
// LateKicks of Options are called with the lock of the mesh held. Peer.mu may be held as well, so
// they send to no Peer. Dial and Introduce may be called with both locks, one or none.
//
// handlers/mesh/DESIGN.md says when a mesh dials another one, and what a loss causes.
package outgoing

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

const (
	// BrokenLasts is for how long a link may have been broken before it was lost.
	BrokenLasts = 35 * time.Second
	// WaitLasts is how long a message waits for a link, also to a message server that an entry
	// names and that is not in the list yet.
	WaitLasts = 3 * time.Second
	// RecentLasts is how long a message for all is kept for message servers that are not known
	// yet: a list of them is up to two seconds old.
	RecentLasts = 5 * time.Second
)

// Link is a link to the mesh of another message server. *link.Remote is one. None of the methods
// waits, except Close.
type Link interface {
	Send(key uint64, seq uint16, m pb.Message) error
	Close() error
}

// Options configures Links. All but Registerer must be set.
type Options struct {
	// Lock is the lock of the mesh. See the comment of the package for the order of locks.
	Lock sync.Locker
	// Dial opens a link to a node, whose events h gets. The link reconnects until it is closed.
	Dial func(n registry.Node, h session.LinkHandler) Link
	// Introduce returns the message with which the mesh introduces itself to a message server.
	Introduce func(to whereabouts.Node) *pb.IMRoleSet
	// Lost is called when a link is lost: what the other side has sent, acks and changes of
	// groups, may be lost.
	Lost func()
	// Missed is called when a message server may have missed what was sent to it in the time
	// before, and its link takes messages again.
	Missed func(p *Peer, missed time.Duration)
	// LateKicks returns the kicks that a message server may have missed to which there was no
	// link for some time.
	LateKicks func(missed time.Duration) []pb.Message
	// Idle is the time after which an unused link is closed.
	Idle time.Duration
	// Now returns the time.
	Now func() time.Time
	// Log receives the losses.
	Log *slog.Logger
	// Drops counts the messages that are dropped, by reason: link_full, unreachable,
	// unknown_node, ended.
	Drops *prometheus.CounterVec
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Links are the other message servers. With Options.Lock held, except Check.
type Links struct {
	opt  Options
	open prometheus.Gauge
	sent *prometheus.CounterVec
	// peers are all message servers that are known, and sorted are the same, by name.
	peers  map[whereabouts.Node]*Peer
	sorted []*Peer
	// nodes are the message servers that are alive, by name, and order are the same, sorted by
	// name.
	nodes map[string]registry.Node
	order []whereabouts.Node
	// recent are the latest messages for all, oldest first, and bytes is their size.
	recent []recentMessage
	bytes  int
}

// recentMessage is a message that was sent to all message servers at a time.
type recentMessage struct {
	m    pb.Message
	at   time.Time
	size int
}

const (
	// maxRecent and maxRecentBytes bound the messages for all that are kept.
	maxRecent      = 1 << 13
	maxRecentBytes = 8 << 20
)

// New returns the links of a mesh, which knows no other message server yet.
func New(o Options) *Links {
	s := &Links{opt: o, peers: map[whereabouts.Node]*Peer{}, nodes: map[string]registry.Node{},
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "teamtalk_mesh_links",
			Help: "Links open to other message servers."}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_mesh_frames_sent_total",
			Help: "Messages sent to other message servers, by command."}, []string{"cmd"})}
	if o.Registerer != nil {
		o.Registerer.MustRegister(s.open, s.sent)
	}
	return s
}

// SizeOf returns the memory that a message takes, in bytes.
func SizeOf(m pb.Message) int {
	switch m := m.(type) {
	case *pb.MsgData:
		return 256 + len(m.Data)
	case *pb.Encoded:
		return 256 + len(m.Shared())
	}
	return 256
}

// SetNodes takes a list of the other message servers that are alive, sorted by name. ended
// reports whether the process of a node has ended: its link is closed. SetNodes returns those of
// the list before that have ended. The caller holds Options.Lock.
func (s *Links) SetNodes(list []registry.Node,
	ended func(whereabouts.Node) bool) (gone []whereabouts.Node) {
	before, order := s.nodes, s.order
	s.nodes, s.order = make(map[string]registry.Node, len(list)), nil
	for _, n := range list {
		s.nodes[n.Name] = n
		s.order = append(s.order, nodeOf(n))
	}
	s.sorted = slices.DeleteFunc(s.sorted, func(p *Peer) bool {
		if !ended(p.node) {
			return false
		}
		delete(s.peers, p.node)
		go p.close()
		return true
	})
	for _, node := range order {
		if ended(node) {
			gone = append(gone, node)
		}
	}
	for _, n := range list {
		if was, ok := before[n.Name]; !ok || was.Epoch != n.Epoch || was.Addr != n.Addr {
			s.greet(n)
		}
	}
	return gone
}

func nodeOf(n registry.Node) whereabouts.Node {
	return whereabouts.Node{Name: n.Name, Epoch: n.Epoch}
}

// Spread sends a message to all other message servers, and to those that are found a moment later.
// The caller holds Options.Lock.
func (s *Links) Spread(m pb.Message) {
	for _, p := range s.Every() {
		p.Send(m)
	}
	size, now := SizeOf(m), s.opt.Now()
	s.recent, s.bytes = append(s.recent, recentMessage{m, now, size}), s.bytes+size
	s.prune(now)
}

// prune forgets the messages for all that are too old or too many.
func (s *Links) prune(now time.Time) {
	n := 0
	for ; n < len(s.recent); n++ {
		r := &s.recent[n]
		if now.Sub(r.at) <= RecentLasts && len(s.recent)-n <= maxRecent &&
			s.bytes <= maxRecentBytes {
			break
		}
		s.bytes -= r.size
		*r = recentMessage{}
	}
	if s.recent = s.recent[n:]; len(s.recent) == 0 {
		s.recent = nil // release what append has grown
	}
}

// greet sends a message server that is found the messages for all that it has missed, and the kicks
// of the HTTP API. It recognises those that it has. The caller holds Options.Lock.
func (s *Links) greet(n registry.Node) {
	p := s.Peer(nodeOf(n))
	p.found(n)
	s.prune(s.opt.Now())
	for _, r := range s.recent {
		p.Send(r.m)
	}
	if len(s.opt.LateKicks(0)) > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dial()
	}
}

// Peer returns the message server that is a node. The caller holds Options.Lock.
func (s *Links) Peer(node whereabouts.Node) *Peer {
	p := s.peers[node]
	if p == nil {
		p = &Peer{s: s, node: node}
		// A message server that was not reached before has missed nothing, except kicks that
		// came in the moments before.
		if n, ok := s.nodes[node.Name]; ok && n.Epoch == node.Epoch {
			p.at = &n
		}
		s.peers[node] = p
		at, _ := slices.BinarySearchFunc(s.sorted, node, compareNode)
		s.sorted = slices.Insert(s.sorted, at, p)
	}
	return p
}

// compareNode compares the node of a peer with another one.
func compareNode(p *Peer, n whereabouts.Node) int {
	return cmp.Or(cmp.Compare(p.node.Name, n.Name), cmp.Compare(p.node.Epoch, n.Epoch))
}

// Every returns all message servers that are alive, sorted by name. The caller holds Options.Lock.
func (s *Links) Every() []*Peer {
	list := make([]*Peer, len(s.order))
	for i, node := range s.order {
		list[i] = s.Peer(node)
	}
	return list
}

// Alive returns how many other message servers are alive. The caller holds Options.Lock.
func (s *Links) Alive() int { return len(s.order) }

// Unreachable reports whether an entry names a message server that acknowledges nothing now: its
// link has broken, or does not open. The caller holds Options.Lock.
func (s *Links) Unreachable(node whereabouts.Node, now time.Time) bool {
	p := s.peers[node]
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.up && (!p.lost.IsZero() || len(p.waiting) > 0 && now.Sub(p.since) >= slowLink)
}

// Check drops what has waited too long, closes links that are not used, and makes what a full link
// did not take be sent again. It is called every now and then, without Options.Lock.
func (s *Links) Check() {
	s.opt.Lock.Lock()
	defer s.opt.Lock.Unlock()
	now := s.opt.Now()
	for _, p := range s.sorted {
		p.check(now)
	}
}

// Close closes all links, and waits until what they have accepted is sent. The caller does not
// hold Options.Lock.
func (s *Links) Close() {
	var wg sync.WaitGroup
	s.opt.Lock.Lock()
	for _, p := range s.peers {
		wg.Go(p.close)
	}
	s.opt.Lock.Unlock()
	wg.Wait()
}
