package mesh

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// The store orders the logins of a user: each write has a larger version than the one before, and
// returns the entries of the others. So of two logins at the same time the later one sees the
// earlier, and kicks it. The kick has the version of its login, and a login that has a larger one
// stays, whatever else was delayed.

// maxHeld bounds the kicks of a user that wait for a login.
const maxHeld = 16

// handleLocalKick takes a kick of the local message server. A login announces itself, so that the
// message servers that it has to kick are known. A login without an announcement has to be written
// first. All other kicks go to the message servers that have the user now.
func (s *Server) handleLocalKick(_ *session.Link, _ uint16, m *pb.IMServerKickUser) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.GetReason() != uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER) || m.HasAge() {
		s.forward(true, []uint32{m.GetUserId()}, m)
		return nil
	}
	u := s.user(m.GetUserId())
	if c := u.oldest(m.GetClientType()); c != nil && c.version != 0 {
		s.sendKick(m, s.stillAlive(c.others), c.version)
		return nil
	}
	p := u.more()
	p.kicks = append(p.kicks, m)
	s.writer.changed(u)
	return nil
}

// stillAlive returns the entries whose processes have not ended meanwhile.
func (s *Server) stillAlive(entries []whereabouts.Entry) []whereabouts.Entry {
	var list []whereabouts.Entry
	for _, e := range entries {
		if !s.known.Ended(e.Node) {
			list = append(list, e)
		}
	}
	return list
}

// sendKick sends the kick of a login to the message servers that had the user before it.
func (s *Server) sendKick(m *pb.IMServerKickUser, others []whereabouts.Entry, version uint64) {
	if len(others) == 0 {
		return
	}
	kick := proto.CloneOf(m)
	kick.SetVersion(version)
	for _, e := range others {
		s.links.Peer(e.Node).Send(kick)
	}
}

// takeKick takes a kick of another message server.
func (s *Server) takeKick(m *pb.IMServerKickUser) {
	u := s.users[m.GetUserId()]
	if u == nil || !m.HasVersion() {
		s.toLocal(m)
		return
	}
	switch s.judge(u, m) {
	case kickNow:
		s.toLocal(m)
	case kickLater:
		p := u.more()
		if p.held = append(p.held, m); len(p.held) > maxHeld {
			p.held = p.held[1:]
			s.metrics.drops.WithLabelValues("kicks_full").Inc()
		}
	case kickNever:
		s.metrics.late.Inc()
	}
}

// verdict says what happens to a kick of another message server.
type verdict uint8

const (
	kickNow verdict = iota
	kickLater
	kickNever
)

// judge compares a kick with the logins here. It waits for those that are not written, or whose
// clients have not come.
func (s *Server) judge(u *user, m *pb.IMServerKickUser) verdict {
	client := m.GetClientType()
	if u.pending != nil && slices.ContainsFunc(u.coming,
		func(c *coming) bool { return s.opt.Replaces(client, c.client) }) {
		return kickLater
	}
	for _, d := range u.devices {
		switch {
		case !s.opt.Replaces(client, d.client):
		case d.version > m.GetVersion():
			return kickNever
		case d.version == 0 && (u.dirty || u.busy):
			return kickLater
		}
	}
	return kickNow
}

// judgeHeld judges the kicks that wait, after a change of the user.
func (s *Server) judgeHeld(u *user) {
	if u.pending == nil || len(u.held) == 0 {
		return
	}
	held := u.held
	u.held = nil
	for _, m := range held {
		s.takeKick(m)
	}
}

// A kick of the HTTP API has a number. The HTTP server tells its caller that the kick will happen
// when this server has confirmed it, and may be killed then. So this server sends the kick to all
// message servers, and keeps it for those to which it has no link. Each gets it when the link is
// open again, with its age, so that it ends no later login.

// handleKick takes a kick of another mesh, or of an HTTP server.
func (s *Server) handleKick(l *session.Link, seq uint16, m *pb.IMServerKickUser) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case of(l).node.Name != "":
		s.takeKick(m)
		return nil
	case !m.HasNumber():
		s.forward(false, []uint32{m.GetUserId()}, m)
		return nil
	}
	out := proto.CloneOf(m)
	out.ClearNumber()
	at := s.opt.Now().Add(-time.Duration(m.GetAge()) * time.Millisecond)
	s.metrics.drops.WithLabelValues("kicks_full").Add(float64(s.kicks.Keep(out, at)))
	for _, p := range s.links.Every() {
		p.Send(out)
	}
	s.toLocal(out)
	return l.Send(seq, m)
}

// lateKicks returns the kicks that a message server may have missed to which there was no link for
// some time.
func (s *Server) lateKicks(missed time.Duration) []pb.Message {
	return s.kicks.Missed(s.opt.Now(), missed+outgoing.BrokenLasts)
}
