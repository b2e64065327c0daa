package store

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
// one whose counts were claimed (rebuild.go), returns -1. When the mark of the batch before
// is lost, nothing changes, and the answer is the error LOST; see earlier.
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

// unreadKey returns the key of a user's unread counts, a hash by peer.
func unreadKey(user uint32) string { return "unread_" + strconv.FormatUint(uint64(user), 10) }

// groupKey returns the key of a group's count: field "count" is the number of messages
// sent.
func groupKey(group uint32) string {
	return strconv.FormatUint(uint64(group), 10) + "_im_group_msg"
}

// readKey returns the key of a member's count: field "count" is the number of messages
// read, and "joined" the version of the group at which that count began.
func readKey(user, group uint32) string {
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

// apply adds counts to Redis. Counts that were applied are not added again. When some of
// the keys of a cluster are unavailable, the others are counted, and left holds the rest.
// before has the batches before this one; see earlier. The counts in keys that have lost
// such a batch are left, with an error for which isLoss returns true.
func (s *outbox) apply(ctx context.Context, owner uuid.UUID, seq uint64, owed dues,
	before earlier) (left dues, err error) {
	if s.db.redis.cluster {
		return s.applyEach(ctx, owner, seq, owed, before)
	}
	run := &scriptRun{script: applies, keys: []string{markKey(owner)}, args: []any{seq,
		int64(markTTL / time.Second), before[markID{owner, ""}]}}
	add := func(key string, what any, n uint32) {
		run.keys = append(run.keys, key)
		run.args = append(run.args, what, n)
	}
	for _, c := range owed.counts {
		add(unreadKey(c.user), c.peer, c.n)
	}
	for _, g := range owed.groups {
		add(groupKey(g.group), "g", g.n)
		for _, by := range g.senders {
			add(readKey(by.user, g.group), "s", by.after)
		}
	}
	if len(run.keys) == 1 {
		return dues{}, nil
	}
	runScripts(ctx, s.db.redis.unread, []*scriptRun{run})
	if err := run.answer.Err(); err != nil {
		return owed, s.db.redisError("apply unread counts", err)
	}
	return dues{}, nil
}

// applyEach adds counts in a cluster, with a run of the script for each key.
func (s *outbox) applyEach(ctx context.Context, owner uuid.UUID, seq uint64, owed dues,
	before earlier) (left dues, err error) {
	runFor := func(key string) *scriptRun {
		return &scriptRun{script: appliesOne, keys: []string{key}, args: []any{markField(owner),
			seq, int64(markTTL / time.Second), before[markID{owner, key}]}}
	}
	var runs []*scriptRun
	of := make([]*scriptRun, 0, len(owed.counts)) // by count; those of a user follow each other
	for i, c := range owed.counts {
		if i == 0 || c.user != owed.counts[i-1].user {
			runs = append(runs, runFor(unreadKey(c.user)))
		}
		run := runs[len(runs)-1]
		run.args = append(run.args, c.peer, c.n)
		of = append(of, run)
	}
	users := len(runs)
	for _, g := range owed.groups {
		run := runFor(groupKey(g.group))
		run.args = append(run.args, "count", g.n)
		runs = append(runs, run)
	}
	runScripts(ctx, s.db.redis.unread, runs)
	for i, c := range owed.counts {
		if of[i].answer.Err() != nil {
			left.counts = append(left.counts, c)
		}
	}
	left.groups, err = s.applySenders(ctx, owed.groups, runs[users:])
	return left, s.db.redisError("apply unread counts", cmp.Or(scriptErr(runs), err))
}

// raiseCount raises a count to ARGV[1], unless it is that high.
var raiseCount = redis.NewScript(`local have = redis.pcall('HGET', KEYS[1], 'count')
if not have or type(have) == 'string' and (tonumber(have) or 0) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'count', ARGV[1])
end
return 1`)

// applySenders sets, in a cluster, the read counts of the senders to groups, after the runs
// for the counts of the groups. It returns what is left: groups that were not counted, and
// with n 0 those that were counted, with the senders that were not.
func (s *outbox) applySenders(ctx context.Context, groups []groupCount,
	counted []*scriptRun) (left []groupCount, err error) {
	var runs []*scriptRun
	ofGroup := make([][]*scriptRun, len(groups))
	for i, g := range groups {
		count, err := counted[i].answer.Int64()
		if err != nil || count < 0 {
			continue
		}
		for _, by := range g.senders {
			ofGroup[i] = append(ofGroup[i], &scriptRun{script: raiseCount,
				keys: []string{readKey(by.user, g.group)}, args: []any{count - int64(by.after)}})
		}
		runs = append(runs, ofGroup[i]...)
	}
	runScripts(ctx, s.db.redis.unread, runs)
	for i, g := range groups {
		if counted[i].answer.Err() != nil {
			left = append(left, g)
			continue
		}
		rest := groupCount{group: g.group}
		for j, run := range ofGroup[i] {
			if run.answer.Err() != nil {
				rest.senders = append(rest.senders, g.senders[j])
			} else if count, ok := run.args[0].(int64); ok {
				s.noteRead(g.senders[j].user, g.group, count) // its key may be on another node
			}
		}
		if len(rest.senders) > 0 {
			left = append(left, rest)
		}
	}
	return left, scriptErr(runs)
}

// keysOf returns the keys of the counts of a batch.
func keysOf(owed dues) []string {
	var keys []string
	for i, c := range owed.counts {
		if i == 0 || c.user != owed.counts[i-1].user {
			keys = append(keys, unreadKey(c.user))
		}
	}
	for _, g := range owed.groups {
		keys = append(keys, groupKey(g.group))
	}
	return keys
}

// applied reports whether the counts of a batch are in Redis, by its mark.
func (s *outbox) applied(ctx context.Context, owner uuid.UUID, seq uint64,
	owed dues) (bool, error) {
	keys := keysOf(owed)
	if len(keys) == 0 {
		// a change of members has no mark, and its row remains longer than this question
		// is asked
		return false, nil
	}
	var mark string
	var err error
	if s.db.redis.cluster {
		mark, err = s.db.redis.unread.HGet(ctx, keys[0], markField(owner)).Result()
	} else {
		mark, err = s.db.redis.unread.Get(ctx, markKey(owner)).Result()
	}
	if err == redis.Nil {
		return false, nil
	}
	if err != nil {
		return false, s.db.redisError("read the mark of unread counts", err)
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
func (s *outbox) applyOwed(ctx context.Context, r owedRow,
	before earlier) (left dues, err error) {
	keys := keysOf(r.owed)
	if !s.db.redis.cluster || len(keys) == 0 {
		return s.apply(ctx, r.owner, r.seq, r.owed, before)
	}
	marks := make([]*redis.StringCmd, len(keys))
	// Each command has its own error.
	_, _ = s.db.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
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
	left, failed := s.apply(ctx, r.owner, r.seq, r.owed.only(open), before)
	rest := r.owed.only(unknown)
	left.counts = append(left.counts, rest.counts...)
	left.groups = append(left.groups, rest.groups...)
	return left, cmp.Or(failed, s.db.redisError("read the mark of unread counts", err))
}

// only returns the counts of these keys.
func (d dues) only(keys map[string]bool) dues {
	return dues{
		counts: slices.DeleteFunc(slices.Clone(d.counts), func(c count) bool {
			return !keys[unreadKey(c.user)]
		}),
		groups: slices.DeleteFunc(slices.Clone(d.groups), func(g groupCount) bool {
			return !keys[groupKey(g.group)]
		}),
	}
}

// groupSent returns the number of messages sent in a group.
func groupSent(ctx context.Context, db *databases, group uint32) (int64, error) {
	v, err := db.redis.unread.HGet(ctx, groupKey(group), "count").Result()
	if err != nil && err != redis.Nil && !wrongType(err) {
		return 0, db.redisError("read the count of a group's messages", err)
	}
	return countOf(v), nil
}
