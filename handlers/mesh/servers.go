package mesh

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/registry"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// end is a link that another server dialed, or that of the local message server.
type end struct {
	link  *session.Link
	local bool
	// node is the message server whose mesh dialed. Without a name it is another server, which
	// is served as by a route server. With Server.mu held, or in the link's own calls.
	node whereabouts.Node
	// resent says that the other server sends again what others may have missed. With Server.mu
	// held.
	resent bool
	// refusals says that the other server understands IMRequestRefused. With Server.mu held.
	refusals bool
}

func of(l *session.Link) *end { return l.Data.(*end) }

// servers handles the links that other servers dial.
type servers struct {
	*router.Router[*session.Link]
	s *Server
}

func newServers(s *Server) *servers {
	h := &servers{s: s, Router: router.New[*session.Link](router.Options{Role: "mesh",
		Log: s.opt.Log, Registerer: s.opt.Registerer})}
	router.Handle(h.Router, router.Public, router.Ignore[*pb.IMHeartBeat])
	router.Handle(h.Router, router.Public, h.handleRoleSet)
	router.Handle(h.Router, router.Public, h.handleUsersStatReq)
	router.Handle(h.Router, router.Public, s.handleKick)
	router.Handle(h.Router, router.Public, s.status.handleChanges)
	s.handleForwards(h.Router)
	return h
}

// Open sets the idle limit and the heartbeats of a link.
func (h *servers) Open(l *session.Link) error {
	l.SetTimeouts(h.s.opt.LinkTimeout, h.s.opt.LinkHeartbeat)
	e := &end{link: l}
	l.Data = e
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.s.others = append(h.s.others, e)
	h.s.metrics.accepted.Inc()
	return nil
}

// Close forgets a link.
func (h *servers) Close(l *session.Link, err error) {
	e, ok := l.Data.(*end)
	if !ok {
		return
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.s.others = slices.DeleteFunc(h.s.others, func(o *end) bool { return o == e })
	h.s.metrics.accepted.Dec()
	l.Log(h.s.log, "server gone", "node", e.node.Name, "err", err)
}

// handleRoleSet takes the introduction of another server: a mesh names its message server. One that
// means another message server is refused. One that has left the registry is not: it may have texts
// of its last clients.
func (h *servers) handleRoleSet(l *session.Link, _ uint16, m *pb.IMRoleSet) error {
	s, e := h.s, of(l)
	self := s.self()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.node.Name != "":
		return s.takeLoss(e.node, m)
	case !m.HasNode():
		if !m.HasFeatures() {
			return nil
		}
		e.resent = m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_RESENT) != 0
		e.refusals = m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS) != 0
		return l.Send(0, pb.IMRoleSet_builder{Master: proto.Uint32(m.GetMaster()),
			Features: proto.Uint32(features)}.Build())
	}
	node := whereabouts.Node{Name: m.GetNode(), Epoch: m.GetEpoch()}
	var refusal error
	switch {
	case registry.CheckName(node.Name) != nil || node.Epoch == 0 ||
		node.Epoch > registry.MaxEpoch || node.Name == self.Name:
		refusal = im.Errorf(im.Denied, "%.64q with epoch %d is no message server", node.Name,
			node.Epoch)
	case m.GetToNode() != self.Name || m.GetToEpoch() != self.Epoch:
		refusal = im.Errorf(im.Denied, "it means message server %.64q with epoch %d",
			m.GetToNode(), m.GetToEpoch())
	}
	if refusal != nil {
		s.metrics.drops.WithLabelValues("not_introduced").Inc()
		l.Close(refusal)
		return refusal
	}
	e.node = node
	s.others = slices.DeleteFunc(s.others, func(o *end) bool { return o == e })
	l.Log(s.log, "message server connected", "node", node.Name, "epoch", node.Epoch)
	return l.Send(0, introduction(self, node))
}

// introduction returns the message with which a mesh introduces itself to another one.
func introduction(self, to whereabouts.Node) *pb.IMRoleSet {
	return pb.IMRoleSet_builder{Master: proto.Uint32(0),
		Features: proto.Uint32(features | uint32(pb.ServerFeature_SERVER_FEATURE_MESH)),
		Node:     proto.String(self.Name), Epoch: proto.Uint64(self.Epoch),
		ToNode: proto.String(to.Name), ToEpoch: proto.Uint64(to.Epoch)}.Build()
}

// takeLoss takes what another mesh says of losses: it asks for what was sent lately, or what it
// sent here may be lost.
func (s *Server) takeLoss(from whereabouts.Node, m *pb.IMRoleSet) error {
	if m.HasMissed() {
		s.tellMissed(time.Duration(m.GetMissed()) * time.Millisecond)
		if !s.known.Ended(from) {
			s.changes.catchUp(s.links.Peer(from))
		}
	}
	if m.GetLost() {
		s.toLocal(lostNote())
		s.status.doubt(from)
	}
	return nil
}

// lostNote returns the message that tells the local message server that messages of another one may
// be lost.
func lostNote() *pb.IMRoleSet {
	m := missedNote(0)
	m.ClearMissed()
	m.SetLost(true)
	return m
}

// handleUsersStatReq answers another server as a route server does.
func (h *servers) handleUsersStatReq(l *session.Link, seq uint16, m *pb.IMUsersStatReq) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.s.askStat(l, seq, m)
	return nil
}
