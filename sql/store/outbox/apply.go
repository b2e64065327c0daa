package outbox

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/redisconn"
)

// This file applies counts to Redis. On one server a script changes the counts of a batch
// and the owner's mark, which has a key of its own. In a cluster a script may only use keys
// of one slot. While a slot moves, it may even use only one key: of two keys one may be on
// the old server and the other not exist, and then no server runs the script. So there each
// key of counts holds its marks in fields of its own, and a script changes one key.

// markTTL is the lifetime of a mark. It exceeds the time for which a row may stay in the
// outbox.
const markTTL = 24 * time.Hour

// applyScript adds counts unless the mark KEYS[1] says that they were added. ARGV[1] is
// the number of the batch, ARGV[2] the time to live of the mark in seconds, ARGV[3] the
// number of the owner's batch before it, or 0. Two arguments follow for each further key:
//
//   - peer and n, for a hash of unread counts
//   - "g" and n, for the number of messages in a group
//   - "s" and n, for the messages that a sender has read of the group before it, where n
//     messages of the batch follow the sender's last one
//
// A key that holds no counts is skipped, so that the other keys are counted. The answer
// is the count of the last group. The mark holds the number of the batch and the answer.
// A second run for the same batch returns that answer. A run for an earlier batch, or for
// one whose counts were claimed (claim.go), returns -1. When the mark of the batch before
// is lost, nothing changes, and the answer is the error LOST; see Earlier.
const applyScript = `local m, last = redis.call('GET', KEYS[1]), 0
if m then
  local seq, count = string.match(m, '^(%d+) ?(-?%d*)$')
  last = tonumber(seq)
  if last == tonumber(ARGV[1]) then return tonumber(count) or 0 end
  if last > tonumber(ARGV[1]) then return -1 end
end
if last < tonumber(ARGV[3]) then return redis.error_reply('LOST earlier counts') end
local c = 0
for i = 2, #KEYS do
  local what, n = ARGV[2*i], ARGV[2*i+1]
  if what == 'g' then
    c = redis.pcall('HINCRBY', KEYS[i], 'count', n)
    if type(c) ~= 'number' then c = 0 end
  elseif what == 's' then
    local have = redis.pcall('HGET', KEYS[i], 'count')
    if not have or type(have) == 'string' and (tonumber(have) or 0) < c - n then
      redis.call('HSET', KEYS[i], 'count', string.format('%d', c - n))
    end
  else
    redis.pcall('HINCRBY', KEYS[i], what, n)
  end
end
redis.call('SET', KEYS[1], string.format('%d %d', ARGV[1], c), 'EX', ARGV[2])
return c`

var applies = redis.NewScript(applyScript)

// applyOneScript adds counts to the hash KEYS[1] unless its field ARGV[1], the owner's
// mark, says that they were added. ARGV[2] is the number of the batch, ARGV[3] the time to
// live of marks in seconds, ARGV[4] the number of the owner's batch before it with this key,
// or 0. Pairs of a field and its n follow. The answers are those of applyScript, for the last
// field. A mark is "#", the number of the batch, the answer, and
// the time by the server's clock. The first mark of an owner removes expired marks, if the
// number of fields is a multiple of 16. With more than 256 marks those of ten minutes ago
// are removed: a row that long in the outbox was written anew without this key.
const applyOneScript = `local m, last = redis.pcall('HGET', KEYS[1], ARGV[1]), 0
if type(m) == 'table' then return 0 end
if m then
  local seq, count = string.match(m, '^#(%d+) (-?%d+) ')
  last = tonumber(seq)
  if last == tonumber(ARGV[2]) then return tonumber(count) end
  if last > tonumber(ARGV[2]) then return -1 end
end
if last < tonumber(ARGV[4]) then return redis.error_reply('LOST earlier counts') end
local now = tonumber(redis.call('TIME')[1])
if not m and redis.call('HLEN', KEYS[1]) % 16 == 15 then
  local all, marks, ttl = redis.call('HGETALL', KEYS[1]), {}, tonumber(ARGV[3])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 1) == '#' then
      marks[#marks+1] = {all[i], tonumber(string.match(all[i+1], ' (%d+)$')) or 0}
    end
  end
  if #marks > 256 then ttl = 600 end
  for i = 1, #marks do
    if marks[i][2] + ttl < now then redis.call('HDEL', KEYS[1], marks[i][1]) end
  end
end
local c = 0
for i = 5, #ARGV, 2 do
  c = redis.pcall('HINCRBY', KEYS[1], ARGV[i], ARGV[i+1])
  if type(c) ~= 'number' then c = 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('#%d %d %d', ARGV[2], c, now))
return c`

var appliesOne = redis.NewScript(applyOneScript)

// UnreadKey returns the key of a user's unread counts, a hash by peer.
func UnreadKey(user uint32) string { return "unread_" + strconv.FormatUint(uint64(user), 10) }

// GroupKey returns the key of a group's count: field "count" is the number of messages
// sent.
func GroupKey(group uint32) string {
	return strconv.FormatUint(uint64(group), 10) + "_im_group_msg"
}

// ReadKey returns the key of a member's count: field "count" is the number of messages
// read, and "joined" the version of the group at which that count began.
func ReadKey(user, group uint32) string {
	return strconv.FormatUint(uint64(user), 10) + "_" + strconv.FormatUint(uint64(group), 10) +
		"_im_user_group"
}

// markKey returns the key of an owner's mark, on one server.
func markKey(owner uuid.UUID) string { return "unread_mark_" + owner.String() }

// markField returns the field of an owner's mark, in a cluster. C++ servers would read it as
// the count of user 0, which is 0.
func markField(owner uuid.UUID) string { return "#" + hex.EncodeToString(owner[:]) }

// isLoss reports whether a script refused counts because earlier ones are lost.
func isLoss(err error) bool { return redis.HasErrorPrefix(err, "LOST") }

// Apply adds counts to Redis. Counts that were applied are not added again. When some of
// the keys of a cluster are unavailable, the others are counted, and left holds the rest.
// before has the batches before this one; see Earlier. The counts in keys that have lost
// such a batch are left, with an error for which isLoss returns true.
func (s *Outbox) Apply(ctx context.Context, owner uuid.UUID, seq uint64, owed Dues,
	before Earlier) (left Dues, err error) {
	return s.applyWith(ctx, owner, seq, owed, before, none)
}

// applyWith is Apply, with the commands that also adds to the pipeline behind the counts. They
// are sent again when a script is.
func (s *Outbox) applyWith(ctx context.Context, owner uuid.UUID, seq uint64, owed Dues,
	before Earlier, also func(redis.Pipeliner)) (left Dues, err error) {
	if s.db.Redis.Cluster {
		return s.applyEach(ctx, owner, seq, owed, before, also)
	}
	run := &redisconn.Run{Script: applies, Keys: []string{markKey(owner)}, Args: []any{seq,
		int64(markTTL / time.Second), before[markID{owner, ""}]}}
	add := func(key string, what any, n uint32) {
		run.Keys = append(run.Keys, key)
		run.Args = append(run.Args, what, n)
	}
	for _, c := range owed.Counts {
		add(UnreadKey(c.User), c.Peer, c.N)
	}
	for _, g := range owed.Groups {
		add(GroupKey(g.Group), "g", g.N)
		for _, by := range g.Senders {
			add(ReadKey(by.User, g.Group), "s", by.After)
		}
	}
	if len(run.Keys) == 1 {
		return Dues{}, nil
	}
	redisconn.RunWithin(ctx, s.db.Redis.Unread, []*redisconn.Run{run}, none, also)
	if err := run.Answer.Err(); err != nil {
		return owed, s.db.RedisError("apply unread counts", err)
	}
	return Dues{}, nil
}

// none adds nothing to a pipeline.
func none(redis.Pipeliner) {}

// applyEach adds counts in a cluster, with a run of the script for each key.
func (s *Outbox) applyEach(ctx context.Context, owner uuid.UUID, seq uint64, owed Dues,
	before Earlier, also func(redis.Pipeliner)) (left Dues, err error) {
	runFor := func(key string) *redisconn.Run {
		return &redisconn.Run{Script: appliesOne, Keys: []string{key}, Args: []any{markField(owner),
			seq, int64(markTTL / time.Second), before[markID{owner, key}]}}
	}
	var runs []*redisconn.Run
	of := make([]*redisconn.Run, 0, len(owed.Counts)) // by count; those of a user follow each other
	for i, c := range owed.Counts {
		if i == 0 || c.User != owed.Counts[i-1].User {
			runs = append(runs, runFor(UnreadKey(c.User)))
		}
		run := runs[len(runs)-1]
		run.Args = append(run.Args, c.Peer, c.N)
		of = append(of, run)
	}
	users := len(runs)
	for _, g := range owed.Groups {
		run := runFor(GroupKey(g.Group))
		run.Args = append(run.Args, "count", g.N)
		runs = append(runs, run)
	}
	redisconn.RunWithin(ctx, s.db.Redis.Unread, runs, none, also)
	for i, c := range owed.Counts {
		if of[i].Answer.Err() != nil {
			left.Counts = append(left.Counts, c)
		}
	}
	left.Groups, err = s.applySenders(ctx, owed.Groups, runs[users:])
	return left, s.db.RedisError("apply unread counts", cmp.Or(redisconn.FirstError(runs), err))
}

// RaiseCount raises a count to ARGV[1], unless it is that high.
var RaiseCount = redis.NewScript(`local have = redis.pcall('HGET', KEYS[1], 'count')
if not have or type(have) == 'string' and (tonumber(have) or 0) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'count', ARGV[1])
end
return 1`)

// applySenders sets, in a cluster, the read counts of the senders to groups, after the runs
// for the counts of the groups. It returns what is left: groups that were not counted, and
// with n 0 those that were counted, with the senders that were not.
func (s *Outbox) applySenders(ctx context.Context, groups []GroupCount,
	counted []*redisconn.Run) (left []GroupCount, err error) {
	var runs []*redisconn.Run
	ofGroup := make([][]*redisconn.Run, len(groups))
	for i, g := range groups {
		count, err := counted[i].Answer.Int64()
		if err != nil || count < 0 {
			continue
		}
		for _, by := range g.Senders {
			ofGroup[i] = append(ofGroup[i], &redisconn.Run{Script: RaiseCount,
				Keys: []string{ReadKey(by.User, g.Group)}, Args: []any{count - int64(by.After)}})
		}
		runs = append(runs, ofGroup[i]...)
	}
	redisconn.RunAll(ctx, s.db.Redis.Unread, runs)
	for i, g := range groups {
		if counted[i].Answer.Err() != nil {
			left = append(left, g)
			continue
		}
		rest := GroupCount{Group: g.Group}
		for j, run := range ofGroup[i] {
			if run.Answer.Err() != nil {
				rest.Senders = append(rest.Senders, g.Senders[j])
			} else if count, ok := run.Args[0].(int64); ok {
				s.NoteRead(g.Senders[j].User, g.Group, count) // its key may be on another node
			}
		}
		if len(rest.Senders) > 0 {
			left = append(left, rest)
		}
	}
	return left, redisconn.FirstError(runs)
}

// keysOf returns the keys of the counts of a batch.
func keysOf(owed Dues) []string {
	var keys []string
	for i, c := range owed.Counts {
		if i == 0 || c.User != owed.Counts[i-1].User {
			keys = append(keys, UnreadKey(c.User))
		}
	}
	for _, g := range owed.Groups {
		keys = append(keys, GroupKey(g.Group))
	}
	return keys
}

// applied reports whether the counts of a batch are in Redis, by its mark.
func (s *Outbox) applied(ctx context.Context, owner uuid.UUID, seq uint64,
	owed Dues) (bool, error) {
	keys := keysOf(owed)
	if len(keys) == 0 {
		// a change of members has no mark, and its row remains longer than this question
		// is asked
		return false, nil
	}
	var mark string
	var err error
	if s.db.Redis.Cluster {
		mark, err = s.db.Redis.Unread.HGet(ctx, keys[0], markField(owner)).Result()
	} else {
		mark, err = s.db.Redis.Unread.Get(ctx, markKey(owner)).Result()
	}
	if err == redis.Nil {
		return false, nil
	}
	if err != nil {
		return false, s.db.RedisError("read the mark of unread counts", err)
	}
	n, err := markNumber(mark)
	return n >= seq, err
}

// markNumber returns the number of the batch in a mark.
func markNumber(mark string) (uint64, error) {
	number, _, _ := strings.Cut(strings.TrimPrefix(mark, "#"), " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, im.WithKind(im.Malformed, "read the mark of unread counts", err)
	}
	return n, nil
}

// applyOwed applies the counts of a row of another process, which in a cluster may be of
// an older version. Such a version kept the marks in keys of their own: the counts of keys
// with such a mark are dropped. left holds what remains, with an error.
func (s *Outbox) applyOwed(ctx context.Context, r owedRow,
	before Earlier) (left Dues, err error) {
	keys := keysOf(r.owed)
	if !s.db.Redis.Cluster || len(keys) == 0 {
		return s.Apply(ctx, r.owner, r.seq, r.owed, before)
	}
	marks := make([]*redis.StringCmd, len(keys))
	// Each command has its own error.
	_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			marks[i] = p.Get(ctx, fmt.Sprintf("unread_mark_{%s}_%s", key, r.owner))
		}
		return nil
	})
	open, unknown := map[string]bool{}, map[string]bool{}
	for i, key := range keys {
		mark, markErr := marks[i].Result()
		if markErr == redis.Nil {
			open[key] = true
			continue
		}
		if markErr != nil {
			unknown[key], err = true, markErr
		} else if n, markErr := markNumber(mark); markErr != nil {
			return r.owed, markErr
		} else if n < r.seq {
			open[key] = true
		}
	}
	left, failed := s.Apply(ctx, r.owner, r.seq, r.owed.only(open), before)
	rest := r.owed.only(unknown)
	left.Counts = append(left.Counts, rest.Counts...)
	left.Groups = append(left.Groups, rest.Groups...)
	return left, cmp.Or(failed, s.db.RedisError("read the mark of unread counts", err))
}

// only returns the counts of these keys.
func (d Dues) only(keys map[string]bool) Dues {
	return Dues{
		Counts: slices.DeleteFunc(slices.Clone(d.Counts), func(c Count) bool {
			return !keys[UnreadKey(c.User)]
		}),
		Groups: slices.DeleteFunc(slices.Clone(d.Groups), func(g GroupCount) bool {
			return !keys[GroupKey(g.Group)]
		}),
	}
}

// GroupSent returns the number of messages sent in a group.
func GroupSent(ctx context.Context, db *database.DB, group uint32) (int64, error) {
	v, err := db.Redis.Unread.HGet(ctx, GroupKey(group), "count").Result()
	if err != nil && err != redis.Nil && !redisconn.WrongType(err) {
		return 0, db.RedisError("read the count of a group's messages", err)
	}
	return redisconn.CountOf(v), nil
}
