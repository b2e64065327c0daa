package dbproxy

import (
	"sync/atomic"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// linkState is session.Link.Data of the links.
type linkState struct {
	refusals atomic.Bool // the other server understands pb.IMRequestRefused
	parts    atomic.Bool // and pb.IMAnswerPart
	// left: it was told to send nothing, and cannot be told that this server returns.
	// Server.mu guards it.
	left bool
}

// takesRefusals reports whether the server at the other end of a link understands refusals.
func takesRefusals(l *session.Link) bool {
	st, ok := l.Data.(*linkState)
	return ok && st.refusals.Load()
}

// takesParts reports whether the server at the other end of a link puts answers together.
func takesParts(l *session.Link) bool {
	st, ok := l.Data.(*linkState)
	return ok && st.parts.Load() && l.TakesFrames()
}

// handleFeatures takes what the server at the other end of a link understands.
func (s *Server) handleFeatures(l *session.Link, _ uint16, m *pb.IMRoleSet) error {
	st, ok := l.Data.(*linkState)
	if !ok {
		return nil
	}
	if m.GetPeer() != "" {
		l.SetName(m.GetPeer())
		l.Log(s.log, "server named itself", "role", "dbproxy")
	}
	st.parts.Store(m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_PARTS) != 0)
	if m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.refusals.Store(true)
	if s.isWithdrawn() && !st.left {
		return l.Send(0, withdrawal())
	}
	return nil
}
