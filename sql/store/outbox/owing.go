package outbox

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/redis/go-redis/v9"

	"teamtalk/sql/store/redisconn"
)

// A rebuild counts the messages in the tables beside processes that store messages. A batch
// is committed before its counts are in Redis. A rebuild that counts its messages between
// the two would raise the count, and the batch would then add them again. So after it has
// counted, a rebuild looks for batches that owe counts to the same keys, and counts anew
// until there is none. Batches that were applied meanwhile have changed the count in Redis,
// which the rebuild notices.

// Owing returns the keys among keys to which a committed batch owes counts.
func (s *Outbox) Owing(ctx context.Context, keys map[string]bool) (map[string]bool, error) {
	rows, err := s.allOwed(ctx)
	if err != nil {
		return nil, err
	}
	last := Earlier{}
	of := map[markID]map[string]bool{} // the keys that the mark is about
	for _, r := range rows {
		for _, key := range keysOf(r.owed) {
			if !keys[key] {
				continue
			}
			id := markID{r.owner, key}
			if !s.db.Redis.Cluster {
				id.key = ""
			}
			last[id] = max(last[id], r.seq)
			if of[id] == nil {
				of[id] = map[string]bool{}
			}
			of[id][key] = true
		}
	}
	marks, err := s.readMarks(ctx, slices.Collect(maps.Keys(last)))
	owed := map[string]bool{}
	for id, seq := range last {
		if marks[id] < seq {
			maps.Copy(owed, of[id])
		}
	}
	return owed, err
}

// markOf returns the number of the last batch whose counts are applied, by the answer with
// its mark. A key that holds no counts takes none, so nothing is owed to it.
func markOf(mark *redis.StringCmd) (uint64, error) {
	v, err := mark.Result()
	switch {
	case err == redis.Nil:
		return 0, nil
	case redisconn.WrongType(err):
		return math.MaxUint64, nil
	case err != nil:
		return 0, err
	}
	return markNumber(v)
}
