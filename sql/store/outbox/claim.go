package outbox

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/sql/store/database"
	"teamtalk/sql/store/redisconn"
)

// claims makes the mark of a batch, on one server, as if its counts had been applied.
var claims = redis.NewScript(`local m = redis.call('GET', KEYS[1])
if m and (tonumber(string.match(m, '^%d+')) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' -1', 'EX', ARGV[2])
return 1`)

// claimsOne makes the mark of a batch in a key of a cluster.
var claimsOne = redis.NewScript(`local m = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(m) == 'table' then return 0 end
if m and (tonumber(string.match(m, '^#(%d+)')) or 0) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('#%d -1 %d', ARGV[2],
  redis.call('TIME')[1]))
return 1`)

// Claim marks the counts of the outbox and the kept counts as applied, because the messages are in
// the tables. It is called before the messages are counted.
func (s *Outbox) Claim(ctx context.Context) error {
	rows, err := s.allOwed(ctx)
	if err != nil {
		return err
	}
	last := Earlier{}
	for _, r := range rows {
		last.add(r, s.marksOf(r))
	}
	return database.InChunks(slices.Collect(maps.Keys(last)), redisconn.PipelineSize,
		func(part []markID) error {
			runs := make([]*redisconn.Run, len(part))
			for i, id := range part {
				seq := strconv.FormatUint(last[id], 10)
				if s.db.Redis.Cluster {
					runs[i] = &redisconn.Run{Script: claimsOne, Keys: []string{id.key},
						Args: []any{markField(id.owner), seq}}
				} else {
					runs[i] = &redisconn.Run{Script: claims, Keys: []string{markKey(id.owner)},
						Args: []any{seq, int64(markTTL / time.Second)}}
				}
			}
			redisconn.RunAll(ctx, s.db.Redis.Unread, runs)
			return s.db.RedisError("claim the counts of the outbox", redisconn.FirstError(runs))
		})
}

// allOwed reads the rows of the outbox and the kept rows. Each of them may not be in Redis.
func (s *Outbox) allOwed(ctx context.Context) ([]owedRow, error) {
	rows, err := s.readOwed(ctx, "TRUE", claimLimit)
	if err != nil {
		return nil, s.db.SQLError("read the outbox", err)
	}
	kept, err := s.keptRows(ctx)
	return append(rows, kept...), err
}

// claimLimit bounds the rows of the outbox that are read. The outbox has one row for each
// worker, and more only after Redis was unavailable.
const claimLimit = 10_000
