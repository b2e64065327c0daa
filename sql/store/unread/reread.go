package unread

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
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/redisconn"
)

// Redis may lose reads as well as counts: the messages would be unread again. So reads are
// repeated after the kept counts are applied. Between users a read removes a count. Repeating
// that would remove the messages since, so the count is made again from the messages after
// the read mark. This concerns the sides whose counts were applied again, and those that this
// process remembers to have been read. In a group the member's count is raised again to what
// this process remembers. A process that dies with Redis repeats nothing, and loses the marks
// of the last second: too many unread messages do less harm than too few.

// lastReads are the reads of the last time. There are two generations: the older one is dropped
// when the newer one is older than KeptFor. So a read is remembered once to twice as long.
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
func (s *Marks) noteRead(k readMark, to readTo) {
	r, now := &s.recent, mono.Of(s.db.ProcessTime())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || now-r.began > int64(outbox.KeptFor) {
		r.old, r.now, r.began = r.now, map[readMark]readTo{}, now
	}
	last, ok := r.now[k]
	if !ok && len(r.now) >= maxReads {
		s.outcomes.WithLabelValues("forgotten").Inc()
		return
	}
	to.msg, to.count = max(to.msg, last.msg), max(to.count, last.count)
	r.now[k] = to
}

// NoteGroupRead remembers that a user has read or sent a number of a group's messages.
func (s *Marks) NoteGroupRead(user, group uint32, count int64) {
	s.noteRead(readMark{user, group, pb.SessionType_SESSION_TYPE_GROUP}, readTo{count: count})
}

// recentReads returns the reads that are remembered, of users and in groups.
func (s *Marks) recentReads() map[readMark]readTo {
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

// ReadAgain repeats the reads of sides and those that are remembered.
func (s *Rebuild) ReadAgain(ctx context.Context, sides []outbox.Pair) error {
	recent := s.marks.recentReads()
	list := make([]readMark, len(sides), len(sides)+len(recent))
	for i, p := range sides {
		list[i] = readMark{p.User, p.Peer, pb.SessionType_SESSION_TYPE_SINGLE}
	}
	var runs []*redisconn.Run
	for k, to := range recent {
		if k.kind == pb.SessionType_SESSION_TYPE_GROUP {
			runs = append(runs, &redisconn.Run{Script: outbox.RaiseCount,
				Keys: []string{outbox.ReadKey(k.user, k.peer)}, Args: []any{to.count}})
		} else {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, readMark.compare)
	list = slices.Compact(list)
	var first error
	for part := range slices.Chunk(runs, redisconn.PipelineSize) {
		redisconn.RunAll(ctx, s.db.Redis.Unread, part)
		first = cmp.Or(first, redisconn.FirstError(part))
	}
	first = s.db.RedisError("repeat what users have read", first)
	owing := s.outbox.Owing()
	for part := range slices.Chunk(list, sidesPage) {
		sides, err := s.readSides(ctx, part, recent)
		if err == nil {
			err = s.lowerSides(ctx, sides, owing, startCountMax, false)
		}
		if err != nil {
			return err
		}
	}
	return first
}

// readSides returns the sides of list that have a count in Redis and a read mark.
func (s *Rebuild) readSides(ctx context.Context, list []readMark,
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
	relations, err := conversation.RelationsOf(ctx, s.db.Master, slices.Compact(pairs))
	if err != nil {
		return nil, s.db.SQLError("repeat what users have read", err)
	}
	marks, err := s.marks.stored(ctx, keys)
	return slices.DeleteFunc(sides, func(d *unreadSide) bool {
		r, ok := relations[im.ConversationKey(d.user, d.peer)]
		d.in, d.marked = conversation.Thread{ID: r.ID}, true
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

// lowerSides lowers the counts of sides to the numbers of messages after their marks, if these
// are below most. With settled it waits until no batch owes counts, also for sides whose counts
// are not higher: a message may be in the table that is not counted yet.
func (s *Rebuild) lowerSides(ctx context.Context, sides []*unreadSide, owing *outbox.Owing,
	most int64, settled bool) error {
	for try := 0; ; try++ {
		have, sides, err := s.countedSides(ctx, sides)
		if err != nil || len(sides) == 0 {
			return err
		}
		if err := s.countUnread(ctx, sides, 0, most); err != nil {
			return s.db.SQLError("count unread messages", err)
		}
		keys := map[string]bool{}
		for _, d := range sides {
			keys[outbox.UnreadKey(d.user)] = true
		}
		owed, err := owing.Of(ctx, keys)
		if err != nil {
			return err
		}
		var runs []*redisconn.Run
		again := false
		for _, d := range sides {
			lower := d.unread < redisconn.CountOf(have[d]) && d.unread < most
			switch {
			case owed[outbox.UnreadKey(d.user)] && (lower || settled):
				again = true
			case !lower:
			default:
				runs = append(runs, &redisconn.Run{Script: replaces,
					Keys: []string{outbox.UnreadKey(d.user)},
					Args: []any{d.peer, have[d], d.unread}})
			}
		}
		redisconn.RunAll(ctx, s.db.Redis.Unread, runs)
		for _, r := range runs {
			n, err := r.Answer.Int()
			if err != nil {
				return s.db.RedisError("repeat what users have read", err)
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
func (s *Rebuild) countedSides(ctx context.Context, sides []*unreadSide) (
	have map[*unreadSide]string, counted []*unreadSide, err error) {
	answers := make([]*redis.StringCmd, len(sides))
	// Each command has its own error.
	_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, d := range sides {
			answers[i] = p.HGet(ctx, outbox.UnreadKey(d.user), strconv.FormatUint(uint64(d.peer),
				10))
		}
		return nil
	})
	have = map[*unreadSide]string{}
	for i, d := range sides {
		v, answerErr := answers[i].Result()
		switch {
		case answerErr == nil && redisconn.CountOf(v) > 0:
			have[d] = v
			counted = append(counted, d)
		case answerErr != nil && answerErr != redis.Nil && !redisconn.WrongType(answerErr):
			err = answerErr
		}
	}
	return have, counted, s.db.RedisError("read unread counts", err)
}
