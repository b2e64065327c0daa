package store

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// A rebuild counts the messages in the tables beside processes that store messages. A batch
// is committed before its counts are in Redis. A rebuild that counts its messages between
// the two would raise the count, and the batch would then add them again. So after it has
// counted, a rebuild looks for batches that owe counts to the same keys, and counts anew
// until there is none. Batches that were applied meanwhile have changed the count in Redis,
// which the rebuild notices.

// owing returns the keys among keys to which a committed batch owes counts.
func (s *outbox) owing(ctx context.Context, keys map[string]bool) (map[string]bool, error) {
	rows, err := s.readOwed(ctx, "TRUE", claimLimit)
	if err != nil {
		return nil, s.dbError("read the outbox", err)
	}
	type debt struct {
		row owedRow
		key string
	}
	var debts []debt
	for _, r := range rows {
		for _, key := range keysOf(r.owed) {
			if keys[key] {
				debts = append(debts, debt{r, key})
			}
		}
	}
	owed := map[string]bool{}
	err = inChunks(debts, pipelineSize, func(part []debt) error {
		marks := make([]*redis.StringCmd, len(part))
		// Each command has its own error.
		_, _ = s.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, d := range part {
				if s.redis.cluster {
					marks[i] = p.HGet(ctx, d.key, markField(d.row.owner))
				} else {
					marks[i] = p.Get(ctx, markKey(d.row.owner))
				}
			}
			return nil
		})
		for i, d := range part {
			done, err := isMarked(marks[i], d.row.seq)
			if err != nil {
				return err
			}
			if !done {
				owed[d.key] = true
			}
		}
		return nil
	})
	return owed, s.redisError("read the marks of unread counts", err)
}

// isMarked reports whether the counts of batch seq are applied, by the answer with its mark.
// A key that holds no counts takes none.
func isMarked(mark *redis.StringCmd, seq uint64) (bool, error) {
	v, err := mark.Result()
	switch {
	case err == redis.Nil:
		return false, nil
	case wrongType(err):
		return true, nil
	case err != nil:
		return false, err
	}
	return markedUpTo(v, seq)
}

// looksAgain waits before another try of a rebuild that met a batch that owes counts.
func (s *rebuild) looksAgain(ctx context.Context, try int) error {
	if h := s.o.hooks.owing; h != nil {
		h()
	}
	return pause(ctx, try)
}
