// Package refusal says how a failed request is refused, and whether it may succeed elsewhere
// or later.
package refusal

import (
	"errors"
	"log/slog"
	"strings"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// maxReason is the longest reason of a refusal, in bytes.
const maxReason = 500

// Of returns the refusal of a request with that attach_data. With elsewhere, the
// request was not carried out, and another db_proxy may carry it out.
func Of(attach []byte, err error, elsewhere bool) *pb.IMRequestRefused {
	reason := err.Error()
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	m := pb.IMRequestRefused_builder{Kind: kindOf(err).Enum(), AttachData: attach,
		Reason: proto.String(strings.ToValidUTF8(reason, ""))}.Build()
	if elsewhere {
		m.SetElsewhere(true)
	}
	if errors.Is(err, im.ErrInDoubt) {
		m.SetInDoubt(true)
	}
	if errors.Is(err, pdu.ErrLength) {
		m.SetTooLong(true)
	}
	return m
}

// kindOf returns the kind of a refusal because of err.
func kindOf(err error) pb.RefusalKind {
	switch {
	case Rejected(err):
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

// OfThisServer reports whether err, of a request that was not carried out, is the fault of
// this db_proxy or of its way to the store: another one may carry the request out.
func OfThisServer(err error) bool {
	switch im.KindOf(err) {
	case im.Busy, im.Unavailable, im.Closed:
		return !errors.Is(err, im.ErrInDoubt)
	}
	return false
}

// Rejected reports whether a message that failed with err can never be stored. Errors
// that are not listed may be temporary.
func Rejected(err error) bool {
	switch im.KindOf(err) {
	case im.Invalid, im.Malformed, im.NotFound, im.Denied:
		return true
	}
	return false
}

// Level returns the level at which a failure of kind k is logged: an error for a fault of this
// program, a warning for what is away or full, and info for a fault of the request.
func Level(k im.Kind) slog.Level {
	switch k {
	case im.Internal:
		return slog.LevelError
	case im.Busy, im.Unavailable, im.Closed:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
