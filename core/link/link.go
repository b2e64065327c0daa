package link

import (
	"errors"
	"log/slog"
	"runtime/debug"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Peer is a server as seen by one that needs it. All methods may be called from anywhere, and none of them waits, except Close.
type Peer interface {
	// Name is what the configuration calls the peer.
	Name() string
	// Up reports whether the peer takes requests now.
	Up() bool
	// Send sends m, which belongs to the peer from then on. Messages of one key stay in order. The error is of kind im.Unavailable
	// (not up), im.Busy (queue full) or im.Closed, or says that m does not encode; m was not sent then.
	Send(key uint64, seq uint16, m pb.Message) error
	// Call sends req, whose attach_data it sets, and runs done on l with the answer or an error, exactly once, never before Call
	// returns. req belongs to the peer from then on, the answer to done. With a nil l done runs on a goroutine of its own choosing and must
	// not wait for anything.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// TryCall is Call without a loop, but returns the error when req was not sent; done does not
	// run then. So the caller knows before its next request, and can keep the order of the two.
	TryCall(key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error
	// CallEncoded is Call for who only passes the answer on: a large one may come as a *pb.Encoded, checked to be well-formed and not decoded.
	CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Close sends what was accepted, fails open calls with im.Closed, and returns when the handlers were told and will not be
	// called again. Not from a handler or continuation of this peer.
	Close() error
}

// answer ends a call that no table of calls holds (any more).
func answer(log *slog.Logger, l *session.Loop, done func(pb.Message, error), m pb.Message, err error) {
	if l != nil {
		l.PostResult(done, m, err)
		return
	}
	_ = guard(log, nil, func() { done(m, err) }) // logged and, for continuations, that is all
}

// refuse ends a call that never began. Call has not returned yet, so a continuation without a loop needs another goroutine.
func refuse(log *slog.Logger, l *session.Loop, done func(pb.Message, error), err error) {
	if l != nil {
		l.PostResult(done, nil, err)
		return
	}
	go answer(log, nil, done, nil, err)
}

// guard runs f, which is somebody else's code, and turns a panic into an error.
func guard(log *slog.Logger, m *peerMetrics, f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if m != nil {
				m.panics.Inc()
			}
			log.Error("handler of a link panicked", "err", v, "stack", string(debug.Stack()))
			err = session.ErrPanic
		}
	}()
	f()
	return nil
}

// A group chooses a peer and the peer chooses a connection, by the same key: the salts keep the one choice from deciding the other.
const (
	saltPeers = 1 << 32
	saltConns = 2 << 32
)

// choose picks one of n for a key by rendezvous: each candidate has a weight that follows from key and index, and the heaviest that is
// usable wins. When one goes, only its keys move. It returns -1 when none is usable.
func choose(salt, key uint64, n int, usable func(i int) bool) int {
	best, weight := -1, uint64(0)
	for i := range n {
		if !usable(i) {
			continue
		}
		if w := mix(key ^ mix(salt+uint64(i))); best < 0 || w > weight {
			best, weight = i, w
		}
	}
	return best
}

// mix spreads the bits of numbers that differ little (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ErrNotSent is in the chain of an error of a call whose request never left: it was not carried out,
// and will not be.
var ErrNotSent = errors.New("not sent")

// notSent adds ErrNotSent to an error of this package.
func notSent(err error) error {
	return im.WithKind(im.KindOf(err), "request", errors.Join(ErrNotSent, err))
}

func notUp(name string) error { return im.Errorf(im.Unavailable, "link to %s is down", name) }
func isClosed(name string) error {
	return im.Errorf(im.Closed, "link to %s: shutting down", name)
}
func queueFull(name string) error { return im.Errorf(im.Busy, "link to %s: queue is full", name) }

func orDefault[T ~int | ~int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

func logFor(l *slog.Logger, name string) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l.With("role", name)
}

func named(name, def string) string {
	if name == "" {
		return def
	}
	return name
}
