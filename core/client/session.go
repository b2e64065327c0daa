package client

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// session is the state that the parts of a Client share: the connection, the user, and the
// queue of events.
type session struct {
	opts   Options
	log    *slog.Logger
	ctx    context.Context // ends when Close is called
	cancel context.CancelFunc
	wake   chan struct{} // events are waiting

	connects, duplicates, malformed, ignored, resent, fetched atomic.Uint64

	// The mutex guards all following fields, and those of the parts. It is held for frames
	// and calls, and never during a wait for the network or for OnEvent.
	mu       sync.Mutex
	conn     *tcp.Conn     // logged in; nil while there is none
	attached chan struct{} // closed and replaced at each login
	self     im.User
	baseline bool // the first Ready was reported: conversations not in inbox.convs are new
	err      error
	closing  bool
	offers   []string // the last files that are passed on directly, by task

	queue []Event
	space *sync.Cond // the queue was emptied
}

// newSession returns a session without a connection.
func newSession(opts Options) *session {
	s := &session{opts: opts, log: opts.Logger.With("role", "client"),
		wake: make(chan struct{}, 1), attached: make(chan struct{})}
	s.space = sync.NewCond(&s.mu)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// user returns the user, as of the latest login.
func (s *session) user() im.User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.self
}

// present returns the logged-in connection, nil without one, and a channel that the next
// login closes.
func (s *session) present() (*tcp.Conn, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn, s.attached
}

// ended reports whether the Client is closed, kicked or refused.
func (s *session) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing || s.err != nil
}

// call sends a request on the present connection and waits for the answer.
func (s *session) call(ctx context.Context, req, resp pb.Message) error {
	conn, _ := s.present()
	if conn == nil {
		return im.Errorf(im.Unavailable, "not connected")
	}
	return conn.Call(ctx, req, resp)
}

// backoff returns the pause before attempt at something that failed before.
func (s *session) backoff(attempt int) time.Duration {
	p := backoff.Doubling(s.opts.BackoffMin, s.opts.BackoffMax)
	return p.Delay(attempt, 0, s.opts.Rand())
}

// pause waits and delivers events meanwhile; false when the Client is closed.
func (s *session) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	s.deliverUntil(s.ctx.Done(), t.C)
	return s.ctx.Err() == nil
}

// emit queues an event. The caller holds s.mu.
func (s *session) emit(e Event) {
	if s.opts.OnEvent == nil {
		return
	}
	s.queue = append(s.queue, e)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tell queues an event.
func (s *session) tell(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emit(e)
}

// deliver passes the waiting events to OnEvent. Only run calls it.
func (s *session) deliver() {
	for {
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		s.space.Broadcast()
		s.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, e := range batch {
			s.opts.OnEvent(e)
		}
	}
}

// deliverUntil delivers events until one of the channels is ready.
func (s *session) deliverUntil(stop <-chan struct{}, after <-chan time.Time) {
	for {
		s.deliver()
		select {
		case <-s.wake:
		case <-stop:
			return
		case <-after:
			return
		}
	}
}

// throttle blocks the goroutine that reads while too many events wait, which slows down
// the server.
func (s *session) throttle(conn *tcp.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > maxQueue && conn.Err() == nil {
		s.space.Wait()
	}
}

// callThen is Call with a function that runs right after the answer was decoded, before
// any later frame, with s.mu held.
func (s *session) callThen(ctx context.Context, req, resp pb.Message, then func() error) error {
	conn, _ := s.present()
	if conn == nil {
		return im.Errorf(im.Unavailable, "not connected")
	}
	return conn.CallThen(ctx, req, resp, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return then()
	})
}

// ask sends a request. The goroutine that reads calls done with the decoded answer and
// with s.mu held. The caller holds s.mu.
func (s *session) ask(conn *tcp.Conn, req, resp pb.Message, done func(m pb.Message, err error)) {
	// After an error the connection ends, and the next one requests again.
	_, _ = conn.Go(req, resp.Command(), func(body []byte, err error) {
		if err != nil {
			return
		}
		if err = resp.ParseBody(body); err != nil {
			s.malformed.Add(1)
			s.log.Warn("answer dropped", "cmd", resp.Command().String(), "err", err)
		}
		s.mu.Lock()
		done(resp, err)
		s.mu.Unlock()
		s.throttle(conn)
	})
}

// fileSession is the session for package transfer.
type fileSession struct{ *session }

func (f fileSession) UserID() uint32 { return f.user().ID }

func (f fileSession) Call(ctx context.Context, req, resp pb.Message) error {
	return f.call(ctx, req, resp)
}

func (f fileSession) Present() (*tcp.Conn, <-chan struct{}) { return f.present() }

func (f fileSession) Ended() bool { return f.ended() }

func (f fileSession) Backoff(attempt int) time.Duration { return f.backoff(attempt) }
