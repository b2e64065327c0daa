package dbproxy

import (
	"context"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/handlers/dbproxy/refusal"
)

// syncKey is the task key of the runs. No user has this id.
const syncKey = 1 << 63

// sessionSync updates the conversation lists of groups' members.
type sessionSync struct {
	*runner
	store sessionStore
	often obs.Lasting
}

// sessionStore is what sessionSync needs of the store.
type sessionStore interface {
	SyncSessions(ctx context.Context) (int, error)
}

// run is Server.RunSync.
func (ss *sessionSync) run(ctx context.Context, every time.Duration) {
	// At the times of mono.Every, with the other periodic work of an idle process.
	next := func() time.Duration { return time.Until(mono.Next(time.Now(), every)) }
	tick := time.NewTimer(next())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ss.stopped:
			return
		case <-tick.C:
			ss.syncOnce(ctx)
			tick.Reset(next())
		}
	}
}

// syncOnce posts one run and waits for it, but no longer than ctx: a pool that is closed
// drops its tasks. Drain waits for the run, too.
func (ss *sessionSync) syncOnce(ctx context.Context) {
	if ss.begin() != nil {
		return // draining: run returns next
	}
	over := make(chan struct{})
	err := ss.tasks.Do(syncKey, func(ctx context.Context) {
		defer ss.end()
		defer close(over)
		ss.syncSessions(ctx)
	})
	if err != nil {
		ss.end()
		ss.metrics.syncs.WithLabelValues("busy").Inc()
		ss.logSync(err)
		return
	}
	select {
	case <-over:
	case <-ctx.Done():
	}
}

func (ss *sessionSync) syncSessions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ss.timeout)
	defer cancel()
	began := time.Now()
	n, err := ss.store.SyncSessions(ctx)
	ss.metrics.syncSeconds.Observe(time.Since(began).Seconds())
	ss.metrics.synced.Add(float64(n))
	if err != nil {
		ss.metrics.syncs.WithLabelValues("failed").Inc()
		ss.logSync(err)
		return
	}
	ss.metrics.syncs.WithLabelValues("done").Inc()
}

func (ss *sessionSync) logSync(err error) {
	if held, ok := ss.often.Allow(ss.now(), err.Error()); ok {
		ss.log.Log(context.Background(), refusal.Level(im.KindOf(err)),
			"conversation lists of groups' members not updated", "role", "dbproxy",
			"err", err, "held", held)
	}
}
