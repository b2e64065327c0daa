package dbproxy

import (
	"context"
	"log/slog"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// request is a request that is not answered yet.
type request struct {
	session *session.Link
	seq     uint16
	cmd     pb.Command
	came    time.Time
	done    bool // answered, or ended without an answer
}

// work describes how one kind of request, other than a message, is handled.
type work[P pb.Message] struct {
	// user returns the key of a request. Requests with the same key run in order.
	user func(m P) uint64
	// run handles the request on a worker and returns the answer; nil for none.
	run func(ctx context.Context, m P) (pb.Message, error)
	// refuse returns the answer to a request that failed. When refuse or its result is
	// nil, the request is not answered.
	refuse func(m P, err error) pb.Message
}

// handle registers a command whose requests run on workers.
func handle[M any, P interface {
	*M
	pb.Message
}](s *Server, w work[P]) {
	router.Handle(s.Router, router.Public, func(ses *session.Link, seq uint16, m P) error {
		rq := &request{session: ses, seq: seq, cmd: m.Command(), came: s.opt.Now()}
		err := s.begin()
		if err == nil {
			if err = s.opt.Tasks.Do(w.user(m),
				func(ctx context.Context) { do(ctx, s, rq, m, w) }); err != nil {
				s.end()
			}
		}
		if err != nil {
			refuse(s, rq, m, w, err)
		}
		return err
	})
}

// do runs a request on a worker.
func do[P pb.Message](ctx context.Context, s *Server, rq *request, m P, w work[P]) {
	defer s.end()
	defer func() {
		if !rq.done { // run panicked, which the pool logs
			refuse(s, rq, m, w, im.Errorf(im.Internal, "request failed"))
		}
	}()
	var answer pb.Message
	left := s.opt.Timeout - s.opt.Now().Sub(rq.came)
	err := error(nil)
	if left <= 0 {
		err = im.Errorf(im.Busy, "request waited longer than %s", s.opt.Timeout)
	} else {
		ctx, cancel := context.WithTimeout(ctx, left)
		answer, err = w.run(ctx, m)
		cancel()
	}
	if err != nil {
		s.logFailure(rq, err)
		refuse(s, rq, m, w, err)
		return
	}
	s.answer(rq, answer)
}

// refuse ends a request that failed.
func refuse[P pb.Message](s *Server, rq *request, m P, w work[P], err error) {
	s.metrics.failures.WithLabelValues(rq.cmd.String(), im.KindOf(err).String()).Inc()
	var answer pb.Message
	if w.refuse != nil {
		answer = w.refuse(m, err)
	}
	s.answer(rq, answer)
}

// answer ends the request and pushes m; nil pushes nothing.
func (s *Server) answer(rq *request, m pb.Message) {
	rq.done = true
	s.metrics.seconds.WithLabelValues(rq.cmd.String()).Observe(s.opt.Now().Sub(rq.came).Seconds())
	if m == nil {
		return
	}
	// The push fails when the link has ended or is full. Its calls have failed then.
	if err := rq.session.Send(rq.seq, m); err != nil {
		s.metrics.unsent.Inc()
		s.log.Debug("answer not sent", "role", "dbproxy", "conn", rq.session.ID(), "cmd",
			rq.cmd.String(), "seq", rq.seq, "err", err)
	}
}

// logFailure logs a failure on a worker. The router logs the requests that are refused on
// the loop.
func (s *Server) logFailure(rq *request, err error) {
	kind := im.KindOf(err)
	held, ok := s.often.request[kind].Allow(s.opt.Now())
	if !ok {
		// When the store is away, thousands of requests a second fail: the metrics count
		// all of them.
		return
	}
	s.log.Log(context.Background(), failureLevel(kind), "request failed", "role", "dbproxy", "conn",
		rq.session.ID(),
		"cmd", rq.cmd.String(), "seq", rq.seq, "err", err, "held", held)
}

func failureLevel(k im.Kind) slog.Level {
	switch k {
	case im.Internal:
		return slog.LevelError
	case im.Busy, im.Unavailable, im.Closed:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
