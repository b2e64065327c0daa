package link

import (
	"errors"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Refusal is in the chain of a call's error when the peer answered that it did not serve
// the request. A peer does so only when Options.Features announced that this server
// understands it.
type Refusal struct {
	// Reason is the peer's reason, for operators.
	Reason string
	// Elsewhere says that the peer did not carry the request out and never will, and that
	// another server may. A Group has given the request to its other members by then, as
	// far as they were up.
	Elsewhere bool
	// InDoubt says that the request may have been carried out.
	InDoubt bool
	// TooLong says that the answer is longer than servers carry.
	TooLong bool
}

// Error returns the peer's reason.
func (r *Refusal) Error() string { return r.Reason }

// Is reports whether the refusal says what target says.
func (r *Refusal) Is(target error) bool { return target == ErrTooLong && r.TooLong }

// refusalKinds are the kinds of errors for the kinds of refusals.
var refusalKinds = map[pb.RefusalKind]im.Kind{
	pb.RefusalKind_REFUSAL_KIND_FAILED:      im.Internal,
	pb.RefusalKind_REFUSAL_KIND_INVALID:     im.Invalid,
	pb.RefusalKind_REFUSAL_KIND_BUSY:        im.Busy,
	pb.RefusalKind_REFUSAL_KIND_UNAVAILABLE: im.Unavailable,
	pb.RefusalKind_REFUSAL_KIND_CLOSED:      im.Closed,
}

// refused returns the error of a call that the peer called name refused.
func refused(name string, m *pb.IMRequestRefused) error {
	return im.WithKind(refusalKinds[m.GetKind()], "refused by "+name, &Refusal{
		Reason: m.GetReason(), Elsewhere: m.GetElsewhere(), InDoubt: m.GetInDoubt(),
		TooLong: m.GetTooLong()})
}

// goesElsewhere reports whether another server may carry out a request whose call ended
// with err: the peer said so, or did not get the request because its connection ended.
func goesElsewhere(err error) bool {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Elsewhere
	}
	kind := im.KindOf(err)
	return errors.Is(err, ErrNotSent) && (kind == im.Unavailable || kind == im.Closed)
}

// introduce tells the peer the features and the name of this server. Nothing without features.
func introduce(s *session.Link, features uint32, name string) error {
	if features == 0 {
		return nil
	}
	m := &pb.IMRoleSet{}
	m.SetMaster(0)
	m.SetFeatures(features)
	m.SetPeer(name)
	return s.Send(0, m)
}

// readiness is what a peer said of itself on a connection.
type readiness uint32

const (
	takesAll  readiness = iota // it takes requests
	withdrawn                  // it asked for none for now
	stopped                    // it takes none on this connection any more
)

// after returns the readiness after an IMStopReceivePacket. A peer that has stopped does
// not return.
func (r readiness) after(m *pb.IMStopReceivePacket) readiness {
	switch {
	case r == stopped, !m.GetMayReturn() && !m.GetReturned():
		return stopped
	case m.GetReturned():
		return takesAll
	}
	return withdrawn
}

// String names what the peer does, for the log.
func (r readiness) String() string {
	return [...]string{"takes requests again", "takes no requests for now",
		"takes no more requests"}[r]
}
