package dbproxy

import (
	"errors"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// linkState is session.Link.Data of the links.
type linkState struct {
	// refusals: the other server understands pb.IMRequestRefused.
	refusals atomic.Bool
	// left: it was told to send nothing, and cannot be told that this server returns.
	// Server.mu guards it.
	left bool
}

// takesRefusals reports whether the server at the other end of a link understands
// refusals.
func takesRefusals(l *session.Link) bool {
	st, ok := l.Data.(*linkState)
	return ok && st.refusals.Load()
}

// maxReason is the longest reason of a refusal, in bytes.
const maxReason = 500

// refusalOf returns the refusal of a request with that attach_data. With elsewhere, the
// request was not carried out, and another db_proxy may carry it out.
func refusalOf(attach []byte, err error, elsewhere bool) *pb.IMRequestRefused {
	reason := err.Error()
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	m := pb.IMRequestRefused_builder{Kind: refusalKind(err).Enum(), AttachData: attach,
		Reason: proto.String(strings.ToValidUTF8(reason, ""))}.Build()
	if elsewhere {
		m.SetElsewhere(true)
	}
	if errors.Is(err, im.ErrInDoubt) {
		m.SetInDoubt(true)
	}
	return m
}

// refusalKind returns the kind of a refusal because of err.
func refusalKind(err error) pb.RefusalKind {
	switch {
	case rejected(err):
		return pb.RefusalKind_REFUSAL_KIND_INVALID
	case im.KindOf(err) == im.Busy:
		return pb.RefusalKind_REFUSAL_KIND_BUSY
	case im.KindOf(err) == im.Unavailable:
		return pb.RefusalKind_REFUSAL_KIND_UNAVAILABLE
	case im.KindOf(err) == im.Closed:
		return pb.RefusalKind_REFUSAL_KIND_CLOSED
	}
	return pb.RefusalKind_REFUSAL_KIND_FAILED
}

// ofThisServer reports whether err, of a request that was not carried out, is the fault of
// this db_proxy or of its way to the store: another one may carry the request out.
func ofThisServer(err error) bool {
	switch im.KindOf(err) {
	case im.Busy, im.Unavailable, im.Closed:
		return !errors.Is(err, im.ErrInDoubt)
	}
	return false
}

// handleFeatures takes what the server at the other end of a link understands.
func (s *Server) handleFeatures(l *session.Link, _ uint16, m *pb.IMRoleSet) error {
	st, ok := l.Data.(*linkState)
	if !ok || m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.refusals.Store(true)
	if s.withdrawn && !st.left {
		return l.Send(0, withdrawal())
	}
	return nil
}
