package storetest

import (
	"slices"
	"time"

	"teamtalk/core/im"
)

var budgetTests = []test{
	{"budgets are spent and regained", budgetsRegained},
	{"budgets cancelled before", budgetsCancelled},
}

// wantSpent takes n from each of the users' budgets of 10 an hour.
func (f *base) wantSpent(at time.Time, k im.BudgetKind, n int, users []uint32,
	want ...bool) {
	f.Helper()
	spendings := make([]im.Spending, len(users))
	for i, u := range users {
		spendings[i] = im.Spending{Kind: k, User: u, N: n, Limit: 10, Window: time.Hour}
	}
	got, err := f.s.Spend(f.ctx, at, spendings)
	f.check("Spend", err)
	if !slices.Equal(got, want) {
		f.Errorf("%d from kind %d of %v: %v, want %v", n, k, users, got, want)
	}
}

func budgetsRegained(f *fixture) {
	at := f.factory.Now()
	one, two := []uint32{1}, []uint32{1, 2}
	f.wantSpent(at, im.GroupsMade, 11, one, false) // nothing is taken
	f.wantSpent(at, im.GroupsMade, 10, one, true)
	f.wantSpent(at, im.GroupsMade, 1, two, false, true)
	f.wantSpent(at, im.GroupsGained, 1, one, true)
	f.wantSpent(at.Add(359*time.Second), im.GroupsMade, 1, one, false)
	f.wantSpent(at.Add(360*time.Second), im.GroupsMade, 1, one, true)
	f.wantSpent(at.Add(360*time.Second), im.GroupsMade, 1, one, false)
	f.wantSpent(at, im.MembersAdded, 4, []uint32{3, 3, 3}, true, true, false)
	// A clock that was set back by a day locks nobody out for longer than the window.
	back := at.Add(-24 * time.Hour)
	f.wantSpent(back, im.GroupsMade, 1, one, false)
	f.wantSpent(at.Add(2*time.Hour), im.GroupsMade, 10, one, true)
	if got, err := f.s.Spend(f.ctx, at, nil); err != nil || len(got) != 0 {
		f.Errorf("nothing spent: %v, %v", got, err)
	}
	f.wantSpent(at, im.GroupsGained, 1, spenders(2500), slices.Repeat([]bool{true}, 2500)...)
}

// spenders returns n ids of users that need not exist.
func spenders(n int) []uint32 {
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(1000 + i)
	}
	return ids
}

func budgetsCancelled(f *fixture) {
	_, err := f.s.Spend(cancelled(), f.factory.Now(), []im.Spending{{Kind: im.GroupsMade,
		User: 1, N: 10, Limit: 10, Window: time.Hour}})
	f.wantGivenUp("Spend", err)
	f.wantSpent(f.factory.Now(), im.GroupsMade, 10, []uint32{1}, true)
}
