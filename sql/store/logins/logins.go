// Package logins keeps wrong passwords and the networks of users' logins.
package logins

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/redisconn"
)

// Logins is the part that keeps wrong passwords and the networks of users' logins. They are
// in Redis: every login reads them, they expire, and losing them locks nobody out.
//
// The marks of a key are a sorted set, by time. Keys are spread over shards. Each shard has
// an index of its keys with failures, by the time at which they expire, so that the shard
// holds a bounded number of them. A shard is a hash tag: in a cluster its keys and its index
// are on one server.
type Logins struct{ db *database.DB }

// New makes the part.
func New(db *database.DB) *Logins { return &Logins{db: db} }

const (
	shards = 16
	// maxFailureKeys bounds the keys with failures in a shard, which are not spread evenly.
	maxFailureKeys = im.MaxFailureKeys / shards * 2
)

// keysOf returns the key of marks, and that of the index of its shard.
func keysOf(k im.LoginMarkKey) (marks, index string) {
	h := fnv.New32a()
	h.Write([]byte(k.Key)) // never fails
	index = indexOf(h.Sum32() % shards)
	return marksPrefix(index, k.Kind) + k.Key, index
}

// indexOf returns the key of the index of a shard.
func indexOf(shard uint32) string { return fmt.Sprintf("login_{%d}", shard) }

// marksPrefix returns the beginning of the keys of marks of a kind.
func marksPrefix(index string, k im.LoginMarkKind) string { return fmt.Sprintf("%s_%d_", index, k) }

// LoginMarks returns the marks of keys; see im.LoginStore.
func (s *Logins) LoginMarks(ctx context.Context,
	keys []im.LoginMarkKey) ([][]im.LoginMark, error) {
	answers := make([]*redis.ZSliceCmd, len(keys))
	_, err := s.db.Redis.Token.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, k := range keys {
			marks, _ := keysOf(k)
			answers[i] = p.ZRangeWithScores(ctx, marks, 0, -1)
		}
		return nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, s.db.RedisError("read login marks", err)
	}
	lists := make([][]im.LoginMark, len(keys))
	for i, a := range answers {
		for _, z := range a.Val() {
			value, _ := z.Member.(string)
			lists[i] = append(lists[i], im.LoginMark{Value: value, At: uint32(z.Score)})
		}
	}
	return lists, nil
}

// FailureNetworks returns the keys of networks; see im.LoginStore.
func (s *Logins) FailureNetworks(ctx context.Context) ([]string, error) {
	found := map[string]bool{}
	for shard := range shards {
		index := indexOf(uint32(shard))
		prefix := marksPrefix(index, im.FailuresOfNetwork)
		// A scan returns each member with its score, and may return it again.
		i := s.db.Redis.Token.ZScan(ctx, index, 0, prefix+"*", 1000).Iterator()
		for score := false; i.Next(ctx); score = !score {
			if !score {
				found[strings.TrimPrefix(i.Val(), prefix)] = true
			}
		}
		if err := i.Err(); err != nil {
			return nil, s.db.RedisError("read networks with login marks", err)
		}
	}
	return slices.Collect(maps.Keys(found)), nil
}

// putMark puts a mark into KEYS[1], whose index is KEYS[2]. ARGV: the value, its time,
// for how many seconds marks are kept, how many the key has at most, whether the mark gets
// the new time, and how many keys the index has at most (0: the key is not in the index).
// The keys that it deletes are of the same shard.
var putMark = redis.NewScript(`
local at, keep, bound = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', at - keep)
if ARGV[5] == '1' then
  redis.call('ZADD', KEYS[1], at, ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'NX', at, ARGV[1])
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
redis.call('EXPIRE', KEYS[1], keep)
if bound == 0 then return 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', at)
redis.call('ZADD', KEYS[2], at + keep, KEYS[1])
local over = redis.call('ZCARD', KEYS[2]) - bound
if over > 0 then
  for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, over - 1)) do
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[2], key)
  end
end
if redis.call('TTL', KEYS[2]) < keep then redis.call('EXPIRE', KEYS[2], keep) end
return 0`)

// ChangeLoginMarks changes marks; see im.LoginStore.
func (s *Logins) ChangeLoginMarks(ctx context.Context, drops []im.LoginMarkDrop,
	puts []im.NewLoginMark) error {
	runs := make([]*redisconn.Run, len(puts))
	for i := range puts {
		p := &puts[i]
		if err := im.CheckLoginMark(p); err != nil {
			return err
		}
		marks, index := keysOf(p.LoginMarkKey)
		bound := 0
		if p.Kind != im.NetworksOfUser {
			bound = maxFailureKeys
		}
		runs[i] = &redisconn.Run{Script: putMark, Keys: []string{marks, index},
			Args: []any{p.Value, p.At, int64(p.Keep / time.Second), p.Kind.Most(),
				p.Kind.Renews(), bound}}
	}
	if err := ctx.Err(); err != nil {
		return s.db.RedisError("change login marks", err)
	}
	if len(drops) > 0 {
		_, err := s.db.Redis.Token.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, d := range drops {
				dropMarks(ctx, p, d)
			}
			return nil
		})
		if err != nil {
			return s.db.RedisError("drop login marks", err)
		}
	}
	redisconn.RunAll(ctx, s.db.Redis.Token, runs)
	return s.db.RedisError("put login marks", redisconn.FirstError(runs))
}

// dropMarks adds the commands that remove marks to a pipeline.
func dropMarks(ctx context.Context, p redis.Pipeliner, d im.LoginMarkDrop) {
	marks, index := keysOf(d.LoginMarkKey)
	if d.Values == nil {
		p.Del(ctx, marks)
		p.ZRem(ctx, index, marks)
		return
	}
	values := make([]any, len(d.Values))
	for i, v := range d.Values {
		values[i] = v
	}
	if len(values) > 0 {
		p.ZRem(ctx, marks, values...)
	}
}
