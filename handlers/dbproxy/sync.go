package dbproxy

import (
	"context"
	"time"

	"teamtalk/core/im"
)

// syncKey is the strand of RunSync's work: no user has this id.
const syncKey = 1 << 63

// RunSync brings the conversation lists of groups' members up to date (im.MessageStore's SyncSessions) every so often, until ctx ends or Drain is called; it
// returns when the last run is over. A run has a worker of Options.Tasks, as any request, and as long as a request may take.
func (s *Server) RunSync(ctx context.Context, every time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.stopped:
			return
		case <-ticks.C:
			s.syncOnce(ctx)
		}
	}
}

// syncOnce has a worker do one run, and waits for it: in vain when the pool gives its tasks up, but no longer than ctx. Drain waits for it, too.
func (s *Server) syncOnce(ctx context.Context) {
	if s.begin() != nil {
		return // draining: RunSync is about to return
	}
	over := make(chan struct{})
	err := s.opt.Tasks.Do(syncKey, func(ctx context.Context) {
		defer s.end()
		defer close(over)
		s.syncSessions(ctx)
	})
	if err != nil {
		s.end()
		s.metrics.syncs.WithLabelValues("busy").Inc()
		s.logSync(err)
		return
	}
	select {
	case <-over:
	case <-ctx.Done():
	}
}

func (s *Server) syncSessions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	began := time.Now()
	n, err := s.store.SyncSessions(ctx)
	s.metrics.syncSeconds.Observe(time.Since(began).Seconds())
	s.metrics.synced.Add(float64(n))
	if err != nil {
		s.metrics.syncs.WithLabelValues("failed").Inc()
		s.logSync(err)
		return
	}
	s.metrics.syncs.WithLabelValues("done").Inc()
}

func (s *Server) logSync(err error) {
	if held, ok := s.often.sync.Allow(s.opt.Now()); ok {
		s.log.Log(context.Background(), failureLevel(im.KindOf(err)), "conversation lists of groups' members not brought up to date", "role", "dbproxy",
			"err", err, "held", held)
	}
}
