package dbproxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/pdu"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/handlers/dbproxy/refusal"
	"teamtalk/proto/pb"
)

// runner accepts requests, runs them on workers, and answers them. The parts of the
// Server share it. Any goroutine.
type runner struct {
	router  *router.Router[*session.Link]
	tasks   Tasks
	timeout time.Duration
	now     func() time.Time // this process's clock, for durations
	log     *slog.Logger
	metrics *metrics
	// storeTime returns the time of the rows in the store. This process's clock may differ,
	// and step.
	storeTime func() time.Time
	// maxFrame and maxAnswer are Options.MaxFrame and Options.MaxAnswer.
	maxFrame, maxAnswer int
	// failures limits the rate of log lines, for the time in which the store is away and
	// all requests fail.
	failures [im.Closed + 1]obs.Lasting
	long     obs.Often

	open     atomic.Int64 // requests accepted and not answered
	draining atomic.Bool
	stopped  chan struct{} // closed when draining begins
	suspect  chan struct{} // holds a token when the store failed a request: see Watch
	idle     chan struct{} // closed when draining has begun and open is 0
	once     sync.Once     // closes idle
}

func newRunner(opt *Options) *runner {
	r := &runner{tasks: opt.Tasks, timeout: opt.Timeout, now: opt.Now, log: opt.Log,
		maxFrame: opt.MaxFrame, maxAnswer: opt.MaxAnswer,
		stopped: make(chan struct{}), idle: make(chan struct{}), suspect: make(chan struct{}, 1),
		router: router.New[*session.Link](router.Options{Role: "dbproxy", Log: opt.Log,
			Registerer: opt.Registerer})}
	store := opt.Store
	r.storeTime = func() time.Time { return store.Now() }
	r.metrics = newMetrics(opt.Registerer, r.open.Load)
	return r
}

// begin accepts a request unless the server is draining. It increments open first: either
// Drain sees the request and waits for it, or begin rejects it and decrements open again.
func (r *runner) begin() error {
	r.open.Add(1)
	if r.draining.Load() {
		r.end()
		return im.Errorf(im.Closed, "db_proxy is shutting down")
	}
	return nil
}

// end records that a request is answered.
func (r *runner) end() {
	if r.open.Add(-1) == 0 && r.draining.Load() {
		r.checkIdle()
	}
}

func (r *runner) checkIdle() {
	if r.open.Load() == 0 {
		r.once.Do(func() { close(r.idle) })
	}
}

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
}](r *runner, w work[P]) {
	router.Handle(r.router, router.Public, func(ses *session.Link, seq uint16, m P) error {
		rq := &request{session: ses, seq: seq, cmd: m.Command(), came: r.now()}
		err := r.begin()
		if err == nil {
			if err = r.tasks.Do(w.user(m),
				func(ctx context.Context) { do(ctx, r, rq, m, w) }); err != nil {
				r.end()
			}
		}
		if err != nil {
			refuse(r, rq, m, w, err, refusal.OfThisServer(err))
		}
		return err
	})
}

// do runs a request on a worker.
func do[P pb.Message](ctx context.Context, r *runner, rq *request, m P, w work[P]) {
	defer r.end()
	defer func() {
		if !rq.done { // run panicked, which the pool logs
			refuse(r, rq, m, w, im.Errorf(im.Internal, "request failed"), false)
		}
	}()
	var answer pb.Message
	late := false
	left := r.timeout - r.now().Sub(rq.came)
	err := error(nil)
	if left <= 0 {
		late, err = true, im.Errorf(im.Busy, "request waited longer than %s", r.timeout)
	} else {
		ctx, cancel := context.WithTimeout(ctx, left)
		answer, err = w.run(ctx, m)
		cancel()
	}
	if err != nil {
		r.suspects(err)
		r.logFailure(rq, err)
		refuse(r, rq, m, w, err, late)
		return
	}
	r.answer(rq, answer)
}

// refuse ends a request that failed. With elsewhere it was not started, and another
// db_proxy may carry it out.
func refuse[P pb.Message](r *runner, rq *request, m P, w work[P], err error, elsewhere bool) {
	r.metrics.failures.WithLabelValues(rq.cmd.String(), im.KindOf(err).String()).Inc()
	if elsewhere || w.refuse == nil {
		if refusal := r.refusal(rq, m, err, elsewhere); refusal != nil {
			r.answer(rq, refusal)
			return
		}
	}
	var answer pb.Message
	if w.refuse != nil {
		answer = w.refuse(m, err)
	}
	r.answer(rq, answer)
}

// refusal returns the refusal of a request; nil when the server that sent it does not
// understand refusals, or waits for no answer.
func (r *runner) refusal(rq *request, m pb.Message, err error, elsewhere bool) pb.Message {
	a, ok := m.(pb.Attachment)
	if !ok || !a.HasAttachData() || !takesRefusals(rq.session) {
		return nil
	}
	return refusal.Of(a.GetAttachData(), err, elsewhere)
}

// answer ends the request and pushes m; nil pushes nothing.
func (r *runner) answer(rq *request, m pb.Message) {
	rq.done = true
	r.metrics.seconds.WithLabelValues(rq.cmd.String()).Observe(r.now().Sub(rq.came).Seconds())
	if m == nil {
		return
	}
	err := rq.session.Send(rq.seq, m)
	if errors.Is(err, pdu.ErrLength) {
		err = r.inParts(rq, m, err)
	}
	// The push fails when the link has ended or is full. Its calls have failed then.
	if err != nil {
		r.metrics.unsent.Inc()
		r.log.Debug("answer not sent", "role", "dbproxy", "conn", rq.session.ID(), "cmd",
			rq.cmd.String(), "seq", rq.seq, "err", err)
	}
}

// logFailure logs a failure on a worker. The router logs the requests that are refused on
// the loop.
func (r *runner) logFailure(rq *request, err error) {
	kind := im.KindOf(err)
	held, ok := r.failures[kind].Allow(r.now(), err.Error())
	if !ok {
		// When the store is away, thousands of requests a second fail: the metrics count
		// all of them.
		return
	}
	r.log.Log(context.Background(), refusal.Level(kind), "request failed", "role", "dbproxy",
		"conn", rq.session.ID(), "cmd", rq.cmd.String(), "seq", rq.seq, "err", err, "held", held)
}
