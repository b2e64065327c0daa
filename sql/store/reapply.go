package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/mono"
)

// This file notices that Redis has lost counts, and applies the kept ones again. A loss is
// noticed in three ways:
//
//   - A script finds that the mark of the batch before is lower than it was.
//   - The last marks that a worker has set are looked at every second. A server loses the
//     last changes, so they are lost with any other.
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
	sl   *slot
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
func (s *outbox) noteApplied(ctx context.Context, sl *slot, owed dues) {
	r := owedRow{sl.owner, sl.seq, owed}
	ids := s.marksOf(r)
	sl.applied.add(r, ids)
	if sl.batches++; sl.batches%256 == 0 {
		sl.applied.forget(sl.seq)
	}
	nodes := make([]string, len(ids))
	for i, id := range ids {
		nodes[i] = nodeOf(ctx, s.db.redis.unread, id.key)
	}
	now := mono.Of(s.db.now())
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, id := range ids {
		s.watched.set[watchedBy{sl, nodes[i]}] = markSet{id, sl.seq, now}
	}
}

// watchEvery is the interval at which the last marks are looked at.
const watchEvery = time.Second

// keepApplied looks for lost counts at intervals, until ctx ends.
func (s *outbox) keepApplied(ctx context.Context) {
	every(ctx, watchEvery, func() {
		if err := s.watch(ctx); err != nil && ctx.Err() == nil {
			s.db.log.Debug("lost unread counts not applied again yet", "err", err)
		}
	})
}

// watch applies the kept counts again if Redis may have lost some.
func (s *outbox) watch(ctx context.Context) error {
	epoch := s.db.epoch.now()
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
	if err := s.restore(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched.epoch, s.watched.lost = epoch, false
	return nil
}

// restore applies the kept counts again that are lost, and repeats changes of members and
// reads.
func (s *outbox) restore(ctx context.Context) error {
	if err := s.reapply(ctx, s.changeAgain); err != nil {
		return err
	}
	s.mu.Lock()
	again := slices.Collect(maps.Keys(s.again))
	s.mu.Unlock()
	if err := s.readAgain(ctx, again); err != nil {
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
// keptFor are not looked at again after their node has answered. The error is that of a node
// of a cluster that does not answer, if none is lost.
func (s *outbox) lostMark(ctx context.Context) (bool, error) {
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
		if ok && s.db.since(m.at) > keptFor && s.watched.set[by] == m {
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
func (s *outbox) readMarks(ctx context.Context, ids []markID) (map[markID]uint64, error) {
	found := make(map[markID]uint64, len(ids))
	var first error
	err := inChunks(ids, pipelineSize, func(part []markID) error {
		marks := make([]*redis.StringCmd, len(part))
		// Each command has its own error.
		_, _ = s.db.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range part {
				if s.db.redis.cluster {
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
		if first != nil && !s.db.redis.cluster {
			return first
		}
		return nil
	})
	return found, s.db.redisError("read the marks of unread counts", cmp.Or(err, first))
}

// reapply applies the kept counts whose marks are lost. Any process may do so at any time,
// also beside the worker that is about to apply them. It returns the first error: counts
// that could not be applied, or that follow such, are left for the next time. change is
// called for each change of members in its place, unless it is nil.
func (s *outbox) reapply(ctx context.Context,
	change func(context.Context, memberChange) error) error {
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
	all := earlier{}
	for _, r := range rows {
		all.add(r, s.marksOf(r))
	}
	marks, first := s.readMarks(ctx, slices.Collect(maps.Keys(all)))
	before := earlier{}
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
			if s.db.redis.cluster {
				owed = owed.only(open)
			}
			s.noteAgain(owed.counts)
			_, err := s.apply(ctx, r.owner, r.seq, owed, before)
			first = cmp.Or(first, err)
			if err != nil && !s.db.redis.cluster && !isLoss(err) {
				return err
			}
			n++
		}
		before.add(r, ids)
		for i := 0; i < len(r.owed.changes) && change != nil; i++ {
			first = cmp.Or(first, change(ctx, r.owed.changes[i]))
		}
	}
	if n > 0 {
		s.db.m.outbox.WithLabelValues("reapplied").Add(float64(n))
		s.db.log.Info("applied unread counts again that Redis may have lost", "batches", n)
	}
	return first
}

// noteAgain records that counts are applied again. A user may have read the messages since.
func (s *outbox) noteAgain(list []count) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range list {
		s.again[pair{c.user, c.peer}] = true
	}
}

// afterLoss applies the counts of a slot's last batch after the lost ones before it.
func (s *outbox) afterLoss(ctx context.Context, sl *slot, owed dues) error {
	if err := s.reapply(ctx, nil); err != nil {
		return err
	}
	_, err := s.apply(ctx, sl.owner, sl.seq, owed, sl.applied)
	return err
}
