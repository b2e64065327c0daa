package link

import (
	"errors"
	"log/slog"
	"runtime/debug"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Peer is another server. None of the methods waits, except Close. Any goroutine.
type Peer interface {
	// Name returns the peer's name in the configuration.
	Name() string
	// Up reports whether a request would be sent now.
	Up() bool
	// Withdrawn reports whether the peer, which is up, asked for no requests for now,
	// because it cannot serve all of them. Those that no other server can be given are
	// sent to it all the same.
	Withdrawn() bool
	// Send sends m. From here on m belongs to the peer. Messages of one key stay in
	// order. The error has kind im.Unavailable (not up), im.Busy (queue full) or
	// im.Closed, or says that m does not encode. With an error m was not sent.
	Send(key uint64, seq uint16, m pb.Message) error
	// Call sends req, whose attach_data it sets, and runs done on l with the answer or an
	// error: exactly once, and never before Call returns. From here on req belongs to the
	// peer, and the answer belongs to done. With a nil l, done runs on a goroutine of the
	// link and must not wait.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done)
	// TryCall is Call without a loop that returns the error when req was not sent; done
	// does not run then. So the caller knows the failure before its next request, and can
	// keep the order of the two.
	TryCall(key uint64, seq uint16, req pb.Attachment, done Done) error
	// CallEncoded is Call for a caller that only passes the answer on. A large answer may
	// be a *pb.Encoded, which is well-formed and not decoded.
	CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done)
	// Close sends the accepted messages and fails open calls with im.Closed. It returns
	// after the handlers' Close, and no handler runs after that. It must not be called
	// from a handler or continuation of this peer.
	Close() error
}

// Done is the continuation of a call. It receives the answer or an error.
type Done = func(pb.Message, error)

// answer ends a call that is not in a table of calls, or not any more.
func answer(log *slog.Logger, l *session.Loop, done Done, m pb.Message, err error) {
	if l != nil {
		l.PostResult(done, m, err)
		return
	}
	_ = guard(log, nil, func() { done(m, err) }) // guard logs a panic, and no more can be done
}

// refuse ends a call that was not sent. Call has not returned yet, so a continuation
// without a loop runs on a new goroutine.
func refuse(log *slog.Logger, l *session.Loop, done Done, err error) {
	if l != nil {
		l.PostResult(done, nil, err)
		return
	}
	go answer(log, nil, done, nil, err)
}

// guard runs f, which is code of another package, and turns a panic into an error.
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

// connSalt is part of the weight of a connection.
const connSalt = 1 << 32

// connHash returns the part of the weight of a server's connection that its index gives.
func connHash(i int) uint64 { return connSalt + uint64(i) }

// ErrNotSent is in the chain of a call's error when the request was not sent: the peer
// did not carry it out and never will.
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

func logFor(l *slog.Logger, name string) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l.With("role", name)
}
