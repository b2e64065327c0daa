package unread

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/outbox"
)

// Redis may lose the unread counts: a server without an append-only file restarts empty.
// Keys without a meaning of their own, the sentinels, tell that this happened. A process
// that finds one missing makes the counts again, from the messages after the users' read
// marks (marks.go). A count that is higher in Redis stays as it is. So nothing that is
// unread becomes read, and running it without a loss changes nothing but counts that are
// too low.
//
// Messages from before the first mark was stored count as read. Reads through C++ servers
// store no mark: what users read there becomes unread again.

// Rebuild is the part that makes unread counts again.
type Rebuild struct {
	db     *database.DB
	ids    *conversation.IDs
	outbox *outbox.Outbox
	marks  *Marks

	begun atomic.Bool // it is recorded when marks began
	after int64       // no automatic run before it, by mono.Of

	runs   *prometheus.CounterVec
	raised prometheus.Counter
}

// NewRebuild makes the part.
func NewRebuild(db *database.DB, ids *conversation.IDs, outbox *outbox.Outbox,
	marks *Marks) *Rebuild {
	return &Rebuild{db: db, ids: ids, outbox: outbox, marks: marks,
		runs: db.Metrics.CounterVec("unread_rebuilds", "Rebuilds of the unread counts from the "+
			"tables, after Redis had lost them: done or failed.", "what"),
		raised: db.Metrics.Counter("unread_rebuilt",
			"Unread counts that a rebuild has raised."),
	}
}

// Rebuilt is the result of a rebuild of unread counts.
type Rebuilt struct {
	Since         time.Time // messages from before it count as read
	Conversations int       // sides of conversations between users that were looked at
	Groups        int       // groups that were looked at
	Counts        int       // counts that were raised, of users and of members of groups
}

// rebuildLease is the name of the lease of the process that rebuilds.
const rebuildLease = "unread"

// rebuildTTL is the time for which a process that was killed keeps others from rebuilding.
const rebuildTTL = 15 * time.Second

// rebuildRetry is the time between a rebuild that failed and the next one.
const rebuildRetry = time.Minute

// sentinels is the number of sentinels in a cluster. Of a cluster that loses a fraction f
// of its slots, all survive with a probability of (1-f) to the power of this number: 0.001
// for one master of 37.
const sentinels = 256

// sentinelKeys returns the keys of the sentinels.
func (s *Rebuild) sentinelKeys() []string {
	if !s.db.Redis.Cluster {
		return []string{"unread_kept"}
	}
	keys := make([]string, sentinels)
	for i := range keys {
		keys[i] = "unread_kept_" + strconv.Itoa(i)
	}
	return keys
}

// Lost reports whether a sentinel is missing. Redis may be new, too: first means that marks
// begin now, so that there is nothing to rebuild.
func (s *Rebuild) Lost(ctx context.Context) (lost, first bool, err error) {
	if !s.begun.Load() {
		if _, first, err = s.marks.begin(ctx); err != nil {
			return false, false, err
		}
		s.begun.Store(true)
	}
	keys := s.sentinelKeys()
	found := make([]*redis.IntCmd, len(keys))
	// Each command has its own error.
	_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			found[i] = p.Exists(ctx, key)
		}
		return nil
	})
	for _, cmd := range found {
		n, err := cmd.Result()
		if err != nil {
			return false, first, s.db.RedisError("look for signs of lost unread counts", err)
		}
		lost = lost || n == 0
	}
	return lost, first, nil
}

// setSentinels sets the sentinels.
func (s *Rebuild) setSentinels(ctx context.Context) error {
	var cmds []*redis.StatusCmd
	_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range s.sentinelKeys() {
			cmds = append(cmds, p.Set(ctx, key, 1, 0))
		}
		return nil
	})
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			return s.db.RedisError("note that unread counts are complete", err)
		}
	}
	return nil
}

// Prepare is called before the outbox is recovered for the first time. After a loss the
// marks of the outbox are gone, and its counts would be added to those of the tables.
func (s *Rebuild) Prepare(ctx context.Context) error {
	lost, first, err := s.Lost(ctx)
	switch {
	case err != nil || !lost:
		return err
	case first:
		return s.setSentinels(ctx)
	default:
		return s.outbox.Claim(ctx)
	}
}

// Check rebuilds the counts if Redis has lost them. Only the housekeeping calls it.
func (s *Rebuild) Check(ctx context.Context) error {
	if mono.Of(s.db.ProcessTime()) < s.after {
		return nil
	}
	lost, first, err := s.Lost(ctx)
	if err != nil || !lost {
		return err
	}
	if first {
		return s.setSentinels(ctx)
	}
	s.db.Log.Warn("Redis has lost unread counts: they are made again from the tables")
	done, err := s.RebuildUnread(ctx)
	if im.KindOf(err) == im.Busy && err != nil {
		return nil // another process does it
	}
	if err != nil {
		s.after = mono.Of(s.db.ProcessTime().Add(rebuildRetry))
		return err
	}
	s.db.Log.Info("unread counts are made again", "raised", done.Counts,
		"conversations", done.Conversations, "groups", done.Groups, "since", done.Since)
	return nil
}

// RebuildUnread raises the unread counts in Redis to the numbers of messages in the tables
// that follow the users' read marks. It runs beside servers. It looks at 500 conversations
// or one group at a time, and waits after each part as long as the part took. The error has
// kind Busy while another process rebuilds. After an error it may be called again.
func (s *Rebuild) RebuildUnread(ctx context.Context) (Rebuilt, error) {
	lease, err := schema.TakeLease(ctx, s.db.Master, rebuildLease, rebuildTTL)
	if err != nil {
		return Rebuilt{}, s.db.SQLError("rebuild unread counts", err)
	}
	if lease == nil {
		return Rebuilt{}, im.Errorf(im.Busy, "another process is rebuilding the unread counts")
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx),
			database.LockWait*time.Second)
		defer cancel()
		if err := lease.Release(ctx); err != nil {
			s.db.Log.Debug("lease of the rebuild not released", "err", err)
		}
	}()
	done, err := s.rebuild(ctx, lease)
	if err != nil {
		s.runs.WithLabelValues("failed").Inc()
		return done, s.db.SQLError("rebuild unread counts", err)
	}
	s.runs.WithLabelValues("done").Inc()
	return done, nil
}

// run is one rebuild.
type run struct {
	*Rebuild
	lease *schema.Lease
	since uint32        // messages from before it, without a mark, count as read
	owing *outbox.Owing // the batches that owe counts
	done  Rebuilt
}

// rebuild rebuilds while it keeps the lease.
func (s *Rebuild) rebuild(ctx context.Context, lease *schema.Lease) (Rebuilt, error) {
	since, _, err := s.marks.begin(ctx)
	if err != nil {
		return Rebuilt{}, err
	}
	done := Rebuilt{Since: time.Unix(int64(since), 0)}
	lost, _, err := s.Lost(ctx)
	if err != nil {
		return done, err
	}
	if lost {
		if err := s.outbox.Claim(ctx); err != nil {
			return done, err
		}
	}
	if err := s.marks.Flush(ctx); err != nil {
		return done, err
	}
	r := &run{Rebuild: s, lease: lease, since: since, owing: s.outbox.Owing(), done: done}
	if err := r.users(ctx); err != nil {
		return r.done, err
	}
	if err := r.groups(ctx); err != nil {
		return r.done, err
	}
	return r.done, s.setSentinels(ctx)
}

// pace waits as long as the part that began took, and keeps the lease.
func (r *run) pace(ctx context.Context, began time.Time) error {
	if err := backoff.Sleep(ctx, time.Since(began)); err != nil {
		return err
	}
	return r.lease.Keep(ctx)
}

// looksAgain waits before another try of a rebuild that met a batch that owes counts.
func (s *Rebuild) looksAgain(ctx context.Context, try int) error {
	if h := s.db.Hooks.Owing; h != nil {
		h()
	}
	return database.Pause(ctx, try)
}
