package im

import (
	"context"
	"time"
)

// BudgetKind says what a Budget bounds.
type BudgetKind uint8

// The kinds of budgets.
const (
	// GroupsMade bounds the groups that a user makes.
	GroupsMade BudgetKind = iota + 1
	// MembersAdded bounds the memberships that a user gives to others.
	MembersAdded
	// GroupsGained bounds the memberships that a user gains from others.
	GroupsGained
	// GroupsGainedFrom bounds the memberships that a user gains from user By.
	GroupsGainedFrom
)

// Spending takes from a budget of a user. A budget that was not used for Window holds Limit;
// it gains Limit within Window, evenly.
type Spending struct {
	Kind   BudgetKind
	User   uint32
	By     uint32 // another user, for kinds with a budget for each pair; otherwise 0
	N      int    // how much is taken, at least 1
	Limit  int    // at least 1
	Window time.Duration
}

// BudgetStore keeps budgets, for all db_proxies on the same databases. Budgets need not
// survive a restart: then they are full.
type BudgetStore interface {
	// Spend takes from budgets, in order, and returns for each whether it held enough. When
	// it did not, nothing is taken from it. at is the time by Store.Now. After an error,
	// some of the budgets may have been taken from.
	Spend(ctx context.Context, at time.Time, spendings []Spending) ([]bool, error)
}
