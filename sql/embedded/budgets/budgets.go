// Package budgets keeps budgets in memory, for a store that serves one db_proxy.
package budgets

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/im"
)

// Budgets is an im.BudgetStore. Any goroutine.
type Budgets struct {
	mu sync.Mutex
	// full and pairs are when each budget is full again. Budgets of pairs of users are apart:
	// there are many, and they must not evict the others.
	full, pairs *simplelru.LRU[key, time.Time]
}

type key struct {
	kind     im.BudgetKind
	user, by uint32
}

// maxBudgets bounds the budgets in memory, of users and of pairs. Above it, the one used least
// recently is full.
const maxBudgets = 1 << 17

// New returns full budgets.
func New() *Budgets {
	b := &Budgets{}
	// The only error is a size that is not positive.
	b.full, _ = simplelru.NewLRU[key, time.Time](maxBudgets, nil)
	b.pairs, _ = simplelru.NewLRU[key, time.Time](maxBudgets, nil)
	return b
}

// Spend takes from budgets; see im.BudgetStore.
func (b *Budgets) Spend(ctx context.Context, at time.Time,
	spendings []im.Spending) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, im.WithKind(im.Unavailable, "spend", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	enough := make([]bool, len(spendings))
	for i, s := range spendings {
		of, budgets := key{s.Kind, s.User, s.By}, b.full
		if s.By != 0 {
			budgets = b.pairs
		}
		full, _ := budgets.Get(of)
		if full.Before(at) {
			full = at
		}
		if latest := at.Add(s.Window); full.After(latest) { // a clock was set back
			full = latest
		}
		full = full.Add(s.Window / time.Duration(s.Limit) * time.Duration(s.N))
		if enough[i] = !full.After(at.Add(s.Window)); enough[i] {
			budgets.Add(of, full)
		}
	}
	return enough, nil
}
