package outgoing

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
	// slowLink is the time after which a link that does not open counts as broken. Most open
	// within milliseconds.
	slowLink = 250 * time.Millisecond
)

// Peer is another message server. Messages for it are sent over a link that is dialed when there
// are some. Any goroutine.
type Peer struct {
	s    *Links
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

// found takes the place of the message server from the list.
func (p *Peer) found(n registry.Node) {
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
func (p *Peer) dial() {
	if p.link == nil && p.at != nil && p.at.Addr != "" && !p.closed {
		p.number++
		p.link = p.s.opt.Dial(*p.at, &peerEnd{p, p.number})
	}
}

// hangUp takes the link away. The caller, which holds p.mu, starts the function that is returned.
// It closes the link, and waits until what it has accepted is sent and its handlers have returned.
func (p *Peer) hangUp() (closing func()) {
	l := p.link
	if l == nil {
		return func() {}
	}
	if p.up {
		p.s.open.Dec()
	}
	p.link, p.up = nil, false
	return func() { _ = l.Close() }
}

// close ends the peer. It waits for the link.
func (p *Peer) close() {
	p.mu.Lock()
	p.closed = true
	closing := p.hangUp()
	p.drop("ended")
	p.mu.Unlock()
	closing()
}

// Node returns the node that the message server is.
func (p *Peer) Node() whereabouts.Node { return p.node }

// Send sends a message, or keeps it until a link is open. A message without room is dropped and
// counted, and Options.Missed is called later. With or without Options.Lock.
func (p *Peer) Send(m pb.Message) {
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
		p.s.opt.Drops.WithLabelValues("link_full").Inc()
		p.lose(p.used)
		return
	}
	if len(p.waiting) == 0 {
		p.since = p.used
	}
	p.waiting, p.bytes = append(p.waiting, m), p.bytes+SizeOf(m)
	p.dial()
}

// put gives a message to the link. The caller holds p.mu.
func (p *Peer) put(m pb.Message) {
	if err := p.link.Send(0, 0, m); err != nil {
		p.s.opt.Drops.WithLabelValues("link_full").Inc()
		p.lose(p.s.opt.Now())
		return
	}
	p.s.sent.WithLabelValues(m.Command().String()).Inc()
}

// lose records that messages may be lost from a time on.
func (p *Peer) lose(from time.Time) {
	if p.lost.IsZero() || from.Before(p.lost) {
		p.lost = from
	}
}

// drop drops the messages that wait.
func (p *Peer) drop(reason string) {
	if len(p.waiting) > 0 {
		p.s.opt.Drops.WithLabelValues(reason).Add(float64(len(p.waiting)))
		p.lose(p.since)
		p.waiting, p.bytes = nil, 0
	}
}

// opened takes the other side's answer to the introduction: what waits is sent.
func (p *Peer) opened(number int) {
	p.s.opt.Lock.Lock()
	defer p.s.opt.Lock.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if number != p.number || p.link == nil || p.up {
		return
	}
	p.up = true
	p.s.open.Inc()
	waiting, since := p.waiting, p.lost
	p.waiting, p.bytes, p.lost = nil, 0, time.Time{}
	for _, m := range waiting {
		p.put(m)
	}
	p.recover(since)
}

// recover makes what may be lost since a time be sent again, unless it is zero. With the locks of
// the mesh and the peer held.
func (p *Peer) recover(since time.Time) {
	var missed time.Duration
	if !since.IsZero() {
		missed = p.s.opt.Now().Sub(since)
		p.s.opt.Log.Info("what a message server may have missed is sent again", "node",
			p.node.Name, "missed", missed)
		note := p.s.opt.Introduce(p.node)
		note.SetLost(true)
		p.put(note)
		p.s.opt.Missed(p, missed)
		p.recovered = p.s.opt.Now()
	}
	for _, k := range p.s.opt.LateKicks(missed) {
		p.put(k)
	}
}

// ended takes the end of a connection. The link makes another one. The mesh is told at once: acks
// and changes of groups may be lost, for ever if the other process has been killed.
func (p *Peer) ended(number int) {
	p.s.opt.Lock.Lock()
	defer p.s.opt.Lock.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if number != p.number || p.link == nil || !p.up {
		return
	}
	p.up = false
	p.s.open.Dec()
	p.lose(p.s.opt.Now().Add(-BrokenLasts))
	p.s.opt.Lost()
}

// check drops what has waited too long, closes the link if it is not used, and makes what a full
// link did not take be sent again. The caller holds Options.Lock.
func (p *Peer) check(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.up && !p.lost.IsZero() && now.Sub(p.recovered) >= recoverEvery:
		since := p.lost
		p.lost = time.Time{}
		p.recover(since)
	case len(p.waiting) > 0 && now.Sub(p.since) >= WaitLasts:
		reason := "unreachable"
		if p.at == nil {
			reason = "unknown_node"
		}
		p.drop(reason)
	case p.link != nil && len(p.waiting) == 0 && now.Sub(p.used) >= p.s.opt.Idle &&
		p.lost.IsZero():
		go p.hangUp()()
	}
}

// peerEnd handles a link that this mesh dialed.
type peerEnd struct {
	p      *Peer
	number int
}

// Open introduces this server.
func (e *peerEnd) Open(l *session.Link) error {
	return l.Send(0, e.p.s.opt.Introduce(e.p.node))
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
