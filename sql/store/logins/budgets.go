package logins

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/redisconn"
)

// Budgets is the part that keeps budgets. A key holds when its budget is full again, and
// expires then.
type Budgets struct{ db *database.DB }

// NewBudgets makes the part.
func NewBudgets(db *database.DB) *Budgets { return &Budgets{db: db} }

// spend takes from the budget KEYS[1]. ARGV in microseconds: the time, how much longer the
// budget takes to be full, and its window.
var spend = redis.NewScript(`
local at, cost, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
full = math.min(math.max(full, at), at + window) + cost
if full > at + window then return 0 end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - at) / 1000))
return 1`)

// budgetKey returns the key of the budget from which s takes.
func budgetKey(s im.Spending) string {
	if s.By != 0 {
		return fmt.Sprintf("budget_%d_%d_%d", s.Kind, s.User, s.By)
	}
	return fmt.Sprintf("budget_%d_%d", s.Kind, s.User)
}

// spendChunk is the number of budgets in one pipeline.
const spendChunk = 1000

// Spend takes from budgets; see im.BudgetStore.
func (b *Budgets) Spend(ctx context.Context, at time.Time,
	spendings []im.Spending) ([]bool, error) {
	enough := make([]bool, 0, len(spendings))
	for part := range slices.Chunk(spendings, spendChunk) {
		if err := ctx.Err(); err != nil {
			return nil, b.db.RedisError("spend", err)
		}
		runs := make([]*redisconn.Run, len(part))
		for i, s := range part {
			cost := s.Window / time.Duration(s.Limit) * time.Duration(s.N)
			runs[i] = &redisconn.Run{Script: spend,
				Keys: []string{budgetKey(s)},
				Args: []any{at.UnixMicro(), cost.Microseconds(), s.Window.Microseconds()}}
		}
		redisconn.RunAll(ctx, b.db.Redis.Token, runs)
		if err := redisconn.FirstError(runs); err != nil {
			return nil, b.db.RedisError("spend", err)
		}
		for _, r := range runs {
			n, err := r.Answer.Int()
			if err != nil {
				return nil, b.db.RedisError("spend", err)
			}
			enough = append(enough, n == 1)
		}
	}
	return enough, nil
}
