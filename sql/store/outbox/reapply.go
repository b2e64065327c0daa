package outbox

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/mono"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/redisconn"
)

// This file notices that Redis has lost counts, and applies the kept ones again. A loss is
// noticed in three ways:
//
//   - A script finds that the mark of the batch before is lower than it was.
//   - The last marks that a worker has set are looked at every second, or every 5 s without
//     use. A server loses the last changes, so they are lost with any other.
//   - Another server answers, or a connection failed: the epoch has changed.
//
// A process that starts looks at all kept counts.

// watched is what watch compares with Redis.
type watched struct {
	set   map[watchedBy]markSet
	epoch uint64 // in which all kept counts are known to be applied
	lost  bool   // a mark was lost since then
}

// watchedBy is a worker, and in a cluster a node.
type watchedBy struct {
	sl   *Slot
	node string
}

// markSet is a mark that was set.
type markSet struct {
	id  markID
	seq uint64
	at  int64 // by mono.Of
}

// noteApplied records that the counts of the slot's last batch are applied. The last of its
// marks on each node is watched.
func (s *Outbox) noteApplied(ctx context.Context, sl *Slot, owed Dues) {
	r := owedRow{sl.owner, sl.seq, owed}
	ids := s.marksOf(r)
	sl.applied.add(r, ids)
	if sl.batches++; sl.batches%256 == 0 {
		sl.applied.forget(sl.seq)
	}
	nodes := make([]string, len(ids))
	for i, id := range ids {
		nodes[i] = redisconn.NodeOf(ctx, s.db.Redis.Unread, id.key)
	}
	now := mono.Of(s.db.ProcessTime())
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, id := range ids {
		s.watched.set[watchedBy{sl, nodes[i]}] = markSet{id, sl.seq, now}
	}
}

// watchEvery is the interval at which the last marks are looked at, watchIdle the one while
// nothing uses the databases. Both are well below KeptFor.
const (
	watchEvery = time.Second
	watchIdle  = 5 * time.Second
)

// KeepApplied looks for lost counts at intervals, until ctx ends.
func (s *Outbox) KeepApplied(ctx context.Context) {
	s.db.Uses.Counts.Run(ctx.Done(), watchEvery, watchIdle, func() {
		if err := s.Watch(ctx); err != nil && ctx.Err() == nil {
			s.db.Log.Debug("lost unread counts not applied again yet", "err", err)
		}
	})
}

// Watch applies the kept counts again if Redis may have lost some.
func (s *Outbox) Watch(ctx context.Context) error {
	epoch := s.db.Epoch.Now()
	lost, err := s.lostMark(ctx)
	if err != nil {
		return err // Redis does not answer
	}
	s.mu.Lock()
	lost = lost || s.watched.epoch != epoch
	s.mu.Unlock()
	if !lost {
		return nil
	}
	if err := s.Restore(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched.epoch, s.watched.lost = epoch, false
	return nil
}

// Restore applies the kept counts again that are lost, and repeats changes of members and
// reads.
func (s *Outbox) Restore(ctx context.Context) error {
	if err := s.reapply(ctx, s.ChangeAgain); err != nil {
		return err
	}
	s.mu.Lock()
	again := slices.Collect(maps.Keys(s.again))
	s.mu.Unlock()
	if err := s.ReadAgain(ctx, again); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range again {
		delete(s.again, k)
	}
	return nil
}

// lostMark reports whether a mark is lost, or was and is not restored yet. Marks older than
// KeptFor are not looked at again after their node has answered. The error is that of a node
// of a cluster that does not answer, if none is lost.
func (s *Outbox) lostMark(ctx context.Context) (bool, error) {
	s.mu.Lock()
	set := maps.Clone(s.watched.set)
	s.mu.Unlock()
	ids := make([]markID, 0, len(set))
	for _, m := range set {
		ids = append(ids, m.id)
	}
	marks, err := s.readMarks(ctx, ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	for by, m := range set {
		seq, ok := marks[m.id]
		s.watched.lost = s.watched.lost || ok && seq < m.seq
		if ok && s.db.Since(m.at) > KeptFor && s.watched.set[by] == m {
			delete(s.watched.set, by)
		}
	}
	if s.watched.lost {
		return true, nil
	}
	return false, err
}

// readMarks returns the numbers of marks, 0 for one that is missing. The result lacks the
// marks of a node of a cluster that does not answer, whose error it returns. A key that
// holds no counts takes none, and has all.
func (s *Outbox) readMarks(ctx context.Context, ids []markID) (map[markID]uint64, error) {
	found := make(map[markID]uint64, len(ids))
	var first error
	err := database.InChunks(ids, redisconn.PipelineSize, func(part []markID) error {
		marks := make([]*redis.StringCmd, len(part))
		// Each command has its own error.
		_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range part {
				if s.db.Redis.Cluster {
					marks[i] = p.HGet(ctx, id.key, markField(id.owner))
				} else {
					marks[i] = p.Get(ctx, markKey(id.owner))
				}
			}
			return nil
		})
		for i, id := range part {
			seq, err := markOf(marks[i])
			if err == nil {
				found[id] = seq
			} else if first == nil {
				first = err
			}
		}
		if first != nil && !s.db.Redis.Cluster {
			return first
		}
		return nil
	})
	return found, s.db.RedisError("read the marks of unread counts", cmp.Or(err, first))
}

// reapply applies the kept counts whose marks are lost. Any process may do so at any time,
// also beside the worker that is about to apply them. It returns the first error: counts
// that could not be applied, or that follow such, are left for the next time. change is
// called for each change of members in its place, unless it is nil.
func (s *Outbox) reapply(ctx context.Context,
	change func(context.Context, MemberChange) error) error {
	select {
	case s.reapplies <- struct{}{}:
		defer func() { <-s.reapplies }()
	case <-ctx.Done():
		return ctx.Err()
	}
	rows, err := s.keptRows(ctx)
	if err != nil {
		return err
	}
	all := Earlier{}
	for _, r := range rows {
		all.add(r, s.marksOf(r))
	}
	marks, first := s.readMarks(ctx, slices.Collect(maps.Keys(all)))
	before := Earlier{}
	n := 0
	for _, r := range rows {
		ids := s.marksOf(r)
		open := map[string]bool{}
		for _, id := range ids {
			if seq, ok := marks[id]; ok && seq < r.seq {
				open[id.key] = true
			}
		}
		if len(open) > 0 {
			owed := r.owed
			if s.db.Redis.Cluster {
				owed = owed.only(open)
			}
			s.noteAgain(owed.Counts)
			_, err := s.Apply(ctx, r.owner, r.seq, owed, before)
			first = cmp.Or(first, err)
			if err != nil && !s.db.Redis.Cluster && !isLoss(err) {
				return err
			}
			n++
		}
		before.add(r, ids)
		for i := 0; i < len(r.owed.Changes) && change != nil; i++ {
			first = cmp.Or(first, change(ctx, r.owed.Changes[i]))
		}
	}
	if n > 0 {
		s.outcomes.WithLabelValues("reapplied").Add(float64(n))
		s.db.Log.Info("applied unread counts again that Redis may have lost", "batches", n)
	}
	return first
}

// noteAgain records that counts are applied again. A user may have read the messages since.
func (s *Outbox) noteAgain(list []Count) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range list {
		s.again[Pair{c.User, c.Peer}] = true
	}
}

// afterLoss applies the counts of a slot's last batch after the lost ones before it.
func (s *Outbox) afterLoss(ctx context.Context, sl *Slot, owed Dues) error {
	if err := s.reapply(ctx, nil); err != nil {
		return err
	}
	_, err := s.Apply(ctx, sl.owner, sl.seq, owed, sl.applied)
	return err
}
