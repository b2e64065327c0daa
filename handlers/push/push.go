// Package push implements the push server: it accepts pushes from message servers, sends
// each to the push service of its phone, retries those that the service could not accept
// yet, and returns the outcomes to the message server.
package push

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/notify"
	"teamtalk/core/obs"
	"teamtalk/core/opt"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Values of PushResult.result_code.
const (
	resultSent   = 0
	resultFailed = 1
	resultDead   = 2 // our addition
)

// Options configures a Server. Fields with a setting are required, the others have defaults.
type Options struct {
	// IOS and Android are the push services for phones of each kind. Default: notify.Log.
	IOS, Android notify.Provider
	// Queue bounds the notifications without an outcome: queued, in flight or waiting for
	// a retry. Those beyond it fail at once. Required.
	Queue int
	// Workers is the number of notifications in flight to the services at the same time.
	// Required.
	Workers int
	// Attempts is the number of attempts for one notification. Required.
	Attempts int
	// Timeout bounds the duration of one attempt. Default 10 s.
	Timeout time.Duration
	// MinBackoff is the pause after the first failure. Each further failure doubles it,
	// up to MaxBackoff. The actual pause is random, between half of that and all of it.
	// Defaults 1 s and 1 minute.
	MinBackoff, MaxBackoff time.Duration
	// LinkTimeout is the longest time that a message server may be silent before its link
	// is closed; 0: for ever. LinkHeartbeat is the interval of this side's heartbeats; 0:
	// none.
	LinkTimeout, LinkHeartbeat time.Duration
	// Log records failures. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

func (o *Options) defaults() {
	opt.Require("push.Queue", o.Queue)
	opt.Require("push.Workers", o.Workers)
	opt.Require("push.Attempts", o.Attempts)
	opt.Default(&o.Timeout, 10*time.Second)
	opt.Default(&o.MinBackoff, time.Second)
	opt.Default(&o.MaxBackoff, time.Minute)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.IOS == nil {
		o.IOS = notify.Log{Logger: o.Log}
	}
	if o.Android == nil {
		o.Android = notify.Log{Logger: o.Log}
	}
}

// Server is the push role: the session.LinkHandler of the message servers' links.
type Server struct {
	*router.Router[*session.Link]
	opt     Options
	log     *slog.Logger
	metrics *metrics
	often   obs.Often

	ios, android service
	jobs         chan *job // its capacity is the limit of open
	open         atomic.Int64
	ctx          context.Context // canceled by Drain
	cancel       context.CancelFunc
	workers      sync.WaitGroup
	stop         chan struct{} // closed by Drain: workers return

	mu     sync.Mutex // guards closed against take
	closed bool
	idle   chan struct{} // closed when closed is set and open is 0
}

// service is a provider with the time until which it asked for no requests.
type service struct {
	notify.Provider
	until atomic.Int64 // mono.Of
}

// job is one notification without an outcome.
type job struct {
	request *request
	at      int // index into request.results
	to      *service
	n       notify.Notification
	user    uint32
	tries   int
}

// request is one request of a message server that is not answered yet.
type request struct {
	session *session.Link
	seq     uint16
	results []*pb.PushResult
	left    atomic.Int64
}

// New returns a push server and starts its workers. Drain stops them.
func New(opt Options) *Server {
	opt.defaults()
	s := &Server{opt: opt, log: opt.Log.With("role", "push"), jobs: make(chan *job, opt.Queue),
		stop: make(chan struct{}), idle: make(chan struct{})}
	s.ios.Provider, s.android.Provider = opt.IOS, opt.Android
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.metrics = newMetrics(opt.Registerer, s)
	s.Router = router.New[*session.Link](router.Options{
		Role: "push", Log: opt.Log, Registerer: opt.Registerer})
	router.Handle(s.Router, router.Public, s.handlePush)
	router.Handle(s.Router, router.Public, func(*session.Link, uint16,
		*pb.IMHeartBeat) error {
		return nil
	})
	for range opt.Workers {
		s.workers.Go(s.work)
	}
	return s
}

// Open sets the idle limit and the heartbeats of a link.
func (s *Server) Open(ses *session.Link) error {
	ses.SetTimeouts(s.opt.LinkTimeout, s.opt.LinkHeartbeat)
	ses.Log(s.log, "server connected")
	return nil
}

// Close logs the end of a link. The notifications that it requested are still sent.
func (s *Server) Close(ses *session.Link, err error) {
	ses.Log(s.log, "server gone", "err", err)
}

// handlePush queues a notification for each token. The answer is sent when all of them
// have an outcome.
func (s *Server) handlePush(ses *session.Link, seq uint16, m *pb.IMPushToUserReq) error {
	tokens := m.GetUserTokenList()
	if len(tokens) == 0 {
		return im.Errorf(im.Invalid, "push request without a token")
	}
	rq := &request{session: ses, seq: seq, results: make([]*pb.PushResult, len(tokens))}
	rq.left.Store(int64(len(tokens)))
	refused, unfit := 0, 0
	for i, t := range tokens {
		j := &job{request: rq, at: i, to: &s.android, user: t.GetUserId(), n: notify.Notification{
			Client: t.GetUserType(), Token: t.GetToken(), Text: m.GetFlash(), Data: m.GetData(),
			Badge: t.GetPushCount(), Silent: t.GetPushType() == silent,
		}}
		if t.GetUserType() == pb.ClientType_CLIENT_TYPE_IOS {
			j.to = &s.ios
		}
		switch {
		case len(j.n.Text)+len(j.n.Data) > maxContent, len(j.n.Token) > im.MaxDeviceToken:
			unfit++
			s.metrics.outcomes.WithLabelValues(notify.Refused.String()).Inc()
			s.settle(j, resultFailed)
		case !s.take(j):
			refused++
			s.metrics.outcomes.WithLabelValues("dropped").Inc()
			s.settle(j, resultFailed)
		}
	}
	if unfit > 0 {
		return im.Errorf(im.Invalid,
			"%d of %d pushes refused: text and data above %d bytes, or token above %d", unfit,
			len(tokens), maxContent, im.MaxDeviceToken)
	}
	if refused > 0 {
		return im.Errorf(im.Busy,
			"%d of %d pushes dropped: the queue is full or the server is shutting down", refused,
			len(tokens))
	}
	return nil
}

// maxContent bounds the text and the data of a push together, in bytes. The services
// accept 4 KiB; the bound limits the memory of the queue.
const maxContent = 8 << 10

// silent is the push_type of a push without a sound.
const silent = 2

// take queues a new job. It returns false when the queue is full or the server is closed.
func (s *Server) take(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.open.Load() >= int64(s.opt.Queue) {
		return false
	}
	s.open.Add(1)
	s.jobs <- j // never blocks: the capacity is Queue
	return true
}

// work sends queued notifications until stop is closed.
func (s *Server) work() {
	for {
		select {
		case j := <-s.jobs:
			s.try(j)
		case <-s.stop:
			return
		}
	}
}

// try makes one attempt at a notification.
func (s *Server) try(j *job) {
	wait := time.Duration(j.to.until.Load() - mono.Of(time.Now()))
	if wait > 0 && s.ctx.Err() == nil {
		s.again(j, wait)
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.opt.Timeout)
	began := time.Now()
	r := s.send(ctx, j)
	cancel()
	s.metrics.seconds.Observe(time.Since(began).Seconds())
	j.tries++
	if r.Outcome == notify.Later {
		if r.After > 0 {
			j.to.until.Store(mono.Of(time.Now().Add(r.After)))
		}
		if j.tries < s.opt.Attempts && s.ctx.Err() == nil {
			s.metrics.retries.Inc()
			pauses := backoff.Doubling(s.opt.MinBackoff, s.opt.MaxBackoff)
			s.again(j, max(r.After, pauses.Delay(j.tries-1, 0, rand.Float64())))
			return
		}
	}
	s.finish(j, r)
}

// send calls the provider and recovers from its panics: one bad notification must not
// stop the others.
func (s *Server) send(ctx context.Context, j *job) (r notify.Result) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("push service panicked", "err", v, "stack", string(debug.Stack()))
			r = notify.Result{Outcome: notify.Refused, Reason: "panic"}
		}
	}()
	return j.to.Send(ctx, j.n)
}

// again queues j once more after a pause. j stays counted in open, so that jobs has room
// for it.
func (s *Server) again(j *job, after time.Duration) {
	time.AfterFunc(after, func() { s.jobs <- j })
}

// finish records the last result of a job.
func (s *Server) finish(j *job, r notify.Result) {
	s.metrics.outcomes.WithLabelValues(r.Outcome.String()).Inc()
	code := uint32(resultFailed)
	switch r.Outcome {
	case notify.Sent:
		code = resultSent
	case notify.Dead:
		code = resultDead
	default:
		if held, ok := s.often.Allow(time.Now()); ok {
			s.log.Warn("push failed", "user", j.user, "client", j.n.Client.String(), "reason",
				r.Reason, "tries", j.tries, "held", held)
		}
	}
	s.settle(j, code)
	s.ended()
}

// settle stores the result of a job, and answers the request when the result is the last
// one missing.
func (s *Server) settle(j *job, code uint32) {
	r := &pb.PushResult{}
	r.SetUserToken(j.n.Token)
	r.SetResultCode(code)
	if code == resultDead {
		r.SetUserId(j.user)
	}
	rq := j.request
	rq.results[j.at] = r
	if rq.left.Add(-1) > 0 {
		return
	}
	rsp := &pb.IMPushToUserRsp{}
	rsp.SetPushResultList(rq.results)
	// The push fails when the message server has disconnected. Nothing then waits for the
	// answer.
	if err := rq.session.Send(rq.seq, rsp); err != nil {
		s.metrics.unsent.Inc()
		s.log.Debug("answer not sent", "conn", rq.session.ID(), "err", err)
	}
}

// ended counts a job that has an outcome, and closes idle when it was the last one of a
// closed server.
func (s *Server) ended() {
	if s.open.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && s.open.Load() == 0 {
		s.once()
	}
}

// once closes idle unless it is closed. The caller holds mu.
func (s *Server) once() {
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// Drain rejects new pushes and waits until every accepted one has an outcome. When ctx
// ends first, Drain gives up the remaining notifications, which get no answer, and
// returns an error of kind im.Closed. In both cases the workers have stopped when it
// returns. Call it once.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	if s.open.Load() == 0 {
		s.once()
	}
	s.mu.Unlock()
	var err error
	select {
	case <-s.idle:
	case <-ctx.Done():
		err = im.WithKind(im.Closed, "pushes were given up at shutdown", ctx.Err())
		s.log.Warn("pushes given up", "count", s.open.Load())
	}
	s.cancel()
	close(s.stop)
	s.workers.Wait()
	return err
}
