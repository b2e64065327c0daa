package dbproxy

import (
	"context"
	"time"

	"teamtalk/core/im"
)

// syncKey is the task key of RunSync. No user has this id.
const syncKey = 1 << 63

// RunSync updates the conversation lists of groups' members (SyncSessions of
// im.MessageStore) at the given interval, until ctx ends or Drain is called. It returns
// after the last run. A run is a task of Options.Tasks and ends after Options.Timeout, as
// any request.
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

// syncOnce posts one run and waits for it, but no longer than ctx: a pool that is closed
// drops its tasks. Drain waits for the run, too.
func (s *Server) syncOnce(ctx context.Context) {
	if s.begin() != nil {
		return // draining: RunSync returns next
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
		s.log.Log(context.Background(), failureLevel(im.KindOf(err)),
			"conversation lists of groups' members not updated", "role", "dbproxy",
			"err", err, "held", held)
	}
}
