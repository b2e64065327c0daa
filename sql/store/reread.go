package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/proto/pb"
)

// Redis may lose reads as well as counts: the messages would be unread again. So reads are
// repeated after the kept counts are applied. Between users a read removes a count. Repeating
// that would remove the messages since, so the count is made again from the messages after
// the read mark. This concerns the sides whose counts were applied again, and those that this
// process remembers to have been read. In a group the member's count is raised again to what
// this process remembers. A process that dies with Redis repeats nothing, and loses the marks
// of the last second: too many unread messages do less harm than too few.

// lastReads are the reads of the last time. There are two generations: the older one is dropped
// when the newer one is older than keptFor. So a read is remembered once to twice as long.
type lastReads struct {
	mu       sync.Mutex
	now, old map[readMark]readTo
	began    int64 // of now, by mono.Of
}

// readTo is what a user has read.
type readTo struct {
	msg   uint32 // between users: the last message
	count int64  // in a group: the number of messages
}

// maxReads bounds the reads of a generation.
const maxReads = 100_000

// noteRead remembers a read. One beyond maxReads is not repeated after a loss.
func (s *readMarks) noteRead(k readMark, to readTo) {
	r, now := &s.recent, mono.Of(s.db.now())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || now-r.began > int64(keptFor) {
		r.old, r.now, r.began = r.now, map[readMark]readTo{}, now
	}
	last, ok := r.now[k]
	if !ok && len(r.now) >= maxReads {
		s.db.m.readMarks.WithLabelValues("forgotten").Inc()
		return
	}
	to.msg, to.count = max(to.msg, last.msg), max(to.count, last.count)
	r.now[k] = to
}

// noteGroupRead remembers that a user has read or sent a number of a group's messages.
func (s *readMarks) noteGroupRead(user, group uint32, count int64) {
	s.noteRead(readMark{user, group, pb.SessionType_SESSION_TYPE_GROUP}, readTo{count: count})
}

// recentReads returns the reads that are remembered, of users and in groups.
func (s *readMarks) recentReads() map[readMark]readTo {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	all := make(map[readMark]readTo, len(s.recent.now)+len(s.recent.old))
	for _, generation := range []map[readMark]readTo{s.recent.old, s.recent.now} {
		for k, to := range generation {
			last := all[k]
			to.msg, to.count = max(to.msg, last.msg), max(to.count, last.count)
			all[k] = to
		}
	}
	return all
}

// readAgain repeats the reads of sides and those that are remembered.
func (s *rebuild) readAgain(ctx context.Context, sides []pair) error {
	recent := s.marks.recentReads()
	list := make([]readMark, len(sides), len(sides)+len(recent))
	for i, p := range sides {
		list[i] = readMark{p.user, p.peer, pb.SessionType_SESSION_TYPE_SINGLE}
	}
	var runs []*scriptRun
	for k, to := range recent {
		if k.kind == pb.SessionType_SESSION_TYPE_GROUP {
			runs = append(runs, &scriptRun{script: raiseCount,
				keys: []string{readKey(k.user, k.peer)}, args: []any{to.count}})
		} else {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, readMark.compare)
	list = slices.Compact(list)
	var first error
	for part := range slices.Chunk(runs, pipelineSize) {
		runScripts(ctx, s.db.redis.unread, part)
		first = cmp.Or(first, scriptErr(part))
	}
	first = s.db.redisError("repeat what users have read", first)
	for part := range slices.Chunk(list, sidesPage) {
		sides, err := s.readSides(ctx, part, recent)
		if err == nil {
			err = s.lowerSides(ctx, sides)
		}
		if err != nil {
			return err
		}
	}
	return first
}

// readSides returns the sides of list that have a count in Redis and a read mark.
func (s *rebuild) readSides(ctx context.Context, list []readMark,
	recent map[readMark]readTo) ([]*unreadSide, error) {
	sides := make([]*unreadSide, len(list))
	for i, k := range list {
		sides[i] = &unreadSide{user: k.user, peer: k.peer}
	}
	_, sides, err := s.countedSides(ctx, sides)
	if err != nil || len(sides) == 0 {
		return nil, err
	}
	keyOf := func(d *unreadSide) readMark {
		return readMark{d.user, d.peer, pb.SessionType_SESSION_TYPE_SINGLE}
	}
	var pairs []uint64
	var keys []readMark
	for _, d := range sides {
		pairs = append(pairs, im.ConversationKey(d.user, d.peer))
		keys = append(keys, keyOf(d))
	}
	slices.Sort(pairs)
	relations, err := relationsOf(ctx, s.db.master, slices.Compact(pairs))
	if err != nil {
		return nil, s.db.dbError("repeat what users have read", err)
	}
	marks, err := s.marks.stored(ctx, keys)
	return slices.DeleteFunc(sides, func(d *unreadSide) bool {
		r, ok := relations[im.ConversationKey(d.user, d.peer)]
		d.in, d.marked = thread{id: r.id}, true
		d.mark = max(marks[keyOf(d)], recent[keyOf(d)].msg)
		return !ok || d.mark == 0
	}), err
}

// replaces sets the count of field ARGV[1] from ARGV[2] to ARGV[3], and removes a 0. The
// answer is 0 if the count has changed.
var replaces = redis.NewScript(`if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
if ARGV[3] == '0' then redis.call('HDEL', KEYS[1], ARGV[1])
else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1`)

// lowerSides lowers the counts of sides to the numbers of messages after their marks.
func (s *rebuild) lowerSides(ctx context.Context, sides []*unreadSide) error {
	for try := 0; ; try++ {
		have, sides, err := s.countedSides(ctx, sides)
		if err != nil || len(sides) == 0 {
			return err
		}
		if err := s.countUnread(ctx, sides, 0); err != nil {
			return s.db.dbError("count unread messages", err)
		}
		keys := map[string]bool{}
		for _, d := range sides {
			keys[unreadKey(d.user)] = true
		}
		owing, err := s.outbox.owing(ctx, keys)
		if err != nil {
			return err
		}
		var runs []*scriptRun
		again := false
		for _, d := range sides {
			switch n := countOf(have[d]); {
			case d.unread >= n || d.unread >= startCountMax:
			case owing[unreadKey(d.user)]:
				again = true
			default:
				runs = append(runs, &scriptRun{script: replaces, keys: []string{unreadKey(d.user)},
					args: []any{d.peer, have[d], d.unread}})
			}
		}
		runScripts(ctx, s.db.redis.unread, runs)
		for _, r := range runs {
			n, err := r.answer.Int()
			if err != nil {
				return s.db.redisError("repeat what users have read", err)
			}
			again = again || n == 0
		}
		if !again {
			return nil
		}
		if try == raiseTries {
			return im.Errorf(im.Busy, "unread counts change faster than they are compared")
		}
		if err := s.looksAgain(ctx, try); err != nil {
			return err
		}
	}
}

// countedSides returns the sides that have a count in Redis, with it. After a read that is
// not lost, most have none.
func (s *rebuild) countedSides(ctx context.Context, sides []*unreadSide) (
	have map[*unreadSide]string, counted []*unreadSide, err error) {
	answers := make([]*redis.StringCmd, len(sides))
	// Each command has its own error.
	_, _ = s.db.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, d := range sides {
			answers[i] = p.HGet(ctx, unreadKey(d.user), strconv.FormatUint(uint64(d.peer), 10))
		}
		return nil
	})
	have = map[*unreadSide]string{}
	for i, d := range sides {
		v, answerErr := answers[i].Result()
		switch {
		case answerErr == nil && countOf(v) > 0:
			have[d] = v
			counted = append(counted, d)
		case answerErr != nil && answerErr != redis.Nil && !wrongType(answerErr):
			err = answerErr
		}
	}
	return have, counted, s.db.redisError("read unread counts", err)
}
