package mesh

import (
	"sync"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

const (
	// maxWaiting and maxWaitingBytes bound the messages that wait for a link.
	maxWaiting      = 1 << 13
	maxWaitingBytes = 8 << 20
	// recoverEvery is the shortest time between two losses on one link that make texts be sent
	// again: a link that does not keep up must not get more.
	recoverEvery = 5 * time.Second
	// waitLasts is how long a message waits for a link, also to a message server that an entry
	// names and that is not in the list yet.
	waitLasts = 3 * time.Second
	// slowLink is the time after which a link that does not open counts as broken. Most open
	// within milliseconds.
	slowLink = 250 * time.Millisecond
)

// peer is another message server. Messages for it are sent over a link that is dialed when there
// are some. Any goroutine.
type peer struct {
	s    *Server
	node whereabouts.Node

	mu      sync.Mutex
	at      *registry.Node // nil: it is not in the list yet
	link    Link           // nil: not dialed
	number  int            // of the link
	up      bool           // the other side has accepted the introduction
	closed  bool
	used    time.Time
	waiting []pb.Message // for the link to open
	bytes   int          // of them
	since   time.Time    // when the first of them came
	// lost is since when messages may be lost; zero: none is.
	lost      time.Time
	recovered time.Time // when what was lost before was sent again
}

// sizeOf returns the memory that a message takes, in bytes.
func sizeOf(m pb.Message) int {
	switch m := m.(type) {
	case *pb.MsgData:
		return 256 + len(m.Data)
	case *pb.Encoded:
		return 256 + len(m.Shared())
	}
	return 256
}

// links are the other message servers. With Server.mu held.
type links struct {
	*Server
	peers map[whereabouts.Node]*peer
	order []whereabouts.Node // those that are alive, sorted by name
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
	// recentLasts is how long a message for all is kept for message servers that are not known
	// yet: a list of them is up to two seconds old. maxRecent and maxRecentBytes bound them.
	recentLasts    = 5 * time.Second
	maxRecent      = 1 << 13
	maxRecentBytes = 8 << 20
)

// spread sends a message to all other message servers, and to those that are found a moment later.
// The caller holds s.mu.
func (s *links) spread(m pb.Message) {
	for _, p := range s.everyPeer() {
		p.send(m)
	}
	size, now := sizeOf(m), s.opt.Now()
	s.recent, s.bytes = append(s.recent, recentMessage{m, now, size}), s.bytes+size
	s.prune(now)
}

// prune forgets the messages for all that are too old or too many.
func (s *links) prune(now time.Time) {
	n := 0
	for ; n < len(s.recent); n++ {
		r := &s.recent[n]
		if now.Sub(r.at) <= recentLasts && len(s.recent)-n <= maxRecent &&
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
// of the HTTP API. It recognises those that it has. The caller holds s.mu.
func (s *links) greet(n registry.Node) {
	p := s.peer(whereabouts.Node{Name: n.Name, Epoch: n.Epoch})
	p.found(n)
	s.prune(s.opt.Now())
	for _, r := range s.recent {
		p.send(r.m)
	}
	if len(s.lateKicks(0)) > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dial()
	}
}

// peer returns the message server that is a node. The caller holds s.mu.
func (s *links) peer(node whereabouts.Node) *peer {
	p := s.peers[node]
	if p == nil {
		p = &peer{s: s.Server, node: node}
		// A message server that was not reached before has missed nothing, except kicks that
		// came in the moments before.
		if n, ok := s.nodes[node.Name]; ok && n.Epoch == node.Epoch {
			p.at = &n
		}
		s.peers[node] = p
	}
	return p
}

// everyPeer returns all message servers that are alive, sorted by name. The caller holds s.mu.
func (s *links) everyPeer() []*peer {
	list := make([]*peer, len(s.order))
	for i, node := range s.order {
		list[i] = s.peer(node)
	}
	return list
}

// found takes the place of the message server from the list.
func (p *peer) found(n registry.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	moved := p.at != nil && p.at.Addr != n.Addr
	p.at = &n
	if moved {
		go p.hangUp()()
	}
	if len(p.waiting) > 0 || !p.lost.IsZero() {
		p.dial()
	}
}

// dial opens a link unless there is one. The caller holds p.mu.
func (p *peer) dial() {
	if p.link == nil && p.at != nil && p.at.Addr != "" && !p.closed {
		p.number++
		p.link = p.s.opt.Dial(*p.at, &peerEnd{p, p.number})
	}
}

// hangUp takes the link away. The caller, which holds p.mu, starts the function that is returned.
// It closes the link, and waits until what it has accepted is sent and its handlers have returned.
func (p *peer) hangUp() (closing func()) {
	l := p.link
	if l == nil {
		return func() {}
	}
	if p.up {
		p.s.metrics.links.Dec()
	}
	p.link, p.up = nil, false
	return func() { _ = l.Close() }
}

// close ends the peer. It waits for the link.
func (p *peer) close() {
	p.mu.Lock()
	p.closed = true
	closing := p.hangUp()
	p.drop("ended")
	p.mu.Unlock()
	closing()
}

// send sends a message, or keeps it until a link is open.
func (p *peer) send(m pb.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used = p.s.opt.Now(); p.closed {
		return // its clients are gone
	}
	if p.up {
		p.put(m)
		return
	}
	if len(p.waiting) >= maxWaiting || p.bytes >= maxWaitingBytes {
		p.s.metrics.drops.WithLabelValues("link_full").Inc()
		p.lose(p.used)
		return
	}
	if len(p.waiting) == 0 {
		p.since = p.used
	}
	p.waiting, p.bytes = append(p.waiting, m), p.bytes+sizeOf(m)
	p.dial()
}

// put gives a message to the link. The caller holds p.mu.
func (p *peer) put(m pb.Message) {
	if err := p.link.Send(0, 0, m); err != nil {
		p.s.metrics.drops.WithLabelValues("link_full").Inc()
		p.lose(p.s.opt.Now())
		return
	}
	p.s.metrics.sent.WithLabelValues(m.Command().String()).Inc()
}

// lose records that messages may be lost from a time on.
func (p *peer) lose(from time.Time) {
	if p.lost.IsZero() || from.Before(p.lost) {
		p.lost = from
	}
}

// drop drops the messages that wait.
func (p *peer) drop(reason string) {
	if len(p.waiting) > 0 {
		p.s.metrics.drops.WithLabelValues(reason).Add(float64(len(p.waiting)))
		p.lose(p.since)
		p.waiting, p.bytes = nil, 0
	}
}

// opened takes the other side's answer to the introduction: what waits is sent.
func (p *peer) opened(number int) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if number != p.number || p.link == nil || p.up {
		return
	}
	p.up = true
	p.s.metrics.links.Inc()
	waiting, since := p.waiting, p.lost
	p.waiting, p.bytes, p.lost = nil, 0, time.Time{}
	for _, m := range waiting {
		p.put(m)
	}
	p.recover(since)
}

// recover makes what may be lost since a time be sent again, unless it is zero. With the locks of
// the server and the peer held.
func (p *peer) recover(since time.Time) {
	var missed time.Duration
	if !since.IsZero() {
		missed = p.s.opt.Now().Sub(since)
		p.s.log.Info("what a message server may have missed is sent again", "node", p.node.Name,
			"missed", missed)
		note := introduction(p.s.self(), p.node)
		note.SetLost(true)
		p.put(note)
		p.s.tellMissed(missed)
		p.s.changes.catchUp(p)
		p.recovered = p.s.opt.Now()
	}
	for _, k := range p.s.lateKicks(missed) {
		p.put(k)
	}
}

// ended takes the end of a connection. The link makes another one. The local message server is told
// at once: acks and changes of groups may be lost, for ever if the other process has been killed.
func (p *peer) ended(number int) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if number != p.number || p.link == nil || !p.up {
		return
	}
	p.up = false
	p.s.metrics.links.Dec()
	p.lose(p.s.opt.Now().Add(-brokenLasts))
	p.s.toLocal(lostNote())
}

// unreachable reports whether an entry names a message server that acknowledges nothing now: its
// link has broken, or does not open. The caller holds s.mu.
func (s *links) unreachable(node whereabouts.Node, now time.Time) bool {
	p := s.peers[node]
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.up && (!p.lost.IsZero() || len(p.waiting) > 0 && now.Sub(p.since) >= slowLink)
}

// checkPeers drops what has waited too long, closes links that are not used, and makes what a full
// link did not take be sent again.
func (s *links) checkPeers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opt.Now()
	for _, p := range s.peers {
		s.links.checkPeer(p, now)
	}
}

func (s *links) checkPeer(p *peer, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.up && !p.lost.IsZero() && now.Sub(p.recovered) >= recoverEvery:
		since := p.lost
		p.lost = time.Time{}
		p.recover(since)
	case len(p.waiting) > 0 && now.Sub(p.since) >= waitLasts:
		reason := "unreachable"
		if p.at == nil {
			reason = "unknown_node"
		}
		p.drop(reason)
	case p.link != nil && len(p.waiting) == 0 && now.Sub(p.used) >= s.opt.LinkIdle &&
		p.lost.IsZero():
		go p.hangUp()()
	}
}

// peerEnd handles a link that this mesh dialed.
type peerEnd struct {
	p      *peer
	number int
}

// Open introduces this server.
func (e *peerEnd) Open(l *session.Link) error {
	return l.Send(0, introduction(e.p.s.self(), e.p.node))
}

// Close takes the end of a connection.
func (e *peerEnd) Close(*session.Link, error) { e.p.ended(e.number) }

// Frame takes the answer to the introduction. Nothing else is sent on this link.
func (e *peerEnd) Frame(l *session.Link, h pdu.Header, body []byte) {
	m := &pb.IMRoleSet{}
	if h.Command == m.Command() && m.ParseBody(body) == nil {
		e.Message(l, h.Seq, m)
	}
}

// Message takes the answer to the introduction.
func (e *peerEnd) Message(l *session.Link, _ uint16, m pb.Message) {
	r, ok := m.(*pb.IMRoleSet)
	if !ok {
		return
	}
	if r.GetNode() != e.p.node.Name || r.GetEpoch() != e.p.node.Epoch {
		l.Close(nil) // the address belongs to another server now
		return
	}
	e.p.opened(e.number)
}
