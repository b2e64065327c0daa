package store

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
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

// claim marks the counts of the outbox and the kept counts as applied, because the messages are in
// the tables. It is called before the messages are counted.
func (s *outbox) claim(ctx context.Context) error {
	rows, err := s.allOwed(ctx)
	if err != nil {
		return err
	}
	last := earlier{}
	for _, r := range rows {
		last.add(r, s.marksOf(r))
	}
	return inChunks(slices.Collect(maps.Keys(last)), pipelineSize, func(part []markID) error {
		runs := make([]*scriptRun, len(part))
		for i, id := range part {
			seq := strconv.FormatUint(last[id], 10)
			if s.db.redis.cluster {
				runs[i] = &scriptRun{script: claimsOne, keys: []string{id.key},
					args: []any{markField(id.owner), seq}}
			} else {
				runs[i] = &scriptRun{script: claims, keys: []string{markKey(id.owner)},
					args: []any{seq, int64(markTTL / time.Second)}}
			}
		}
		runScripts(ctx, s.db.redis.unread, runs)
		return s.db.redisError("claim the counts of the outbox", scriptErr(runs))
	})
}

// allOwed reads the rows of the outbox and the kept rows. Each of them may not be in Redis.
func (s *outbox) allOwed(ctx context.Context) ([]owedRow, error) {
	rows, err := s.readOwed(ctx, "TRUE", claimLimit)
	if err != nil {
		return nil, s.db.dbError("read the outbox", err)
	}
	kept, err := s.keptRows(ctx)
	return append(rows, kept...), err
}

// claimLimit bounds the rows of the outbox that are read. The outbox has one row for each
// worker, and more only after Redis was unavailable.
const claimLimit = 10_000
