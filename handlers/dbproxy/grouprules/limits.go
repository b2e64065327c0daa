package grouprules

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/proto/pb"
)

// Limits bound how fast users make groups and put others into them: a number at once, and
// as many again within an hour. 0: no limit. User 0 is not limited.
type Limits struct {
	Creations int // groups that a user makes
	Adds      int // memberships that a user gives to others
	Gains     int // memberships that a user gains from others
}

// Reasons of refusals, for metrics.
const (
	reasonCreations = "creations"
	reasonAdds      = "adds"
	reasonGains     = "gains"
)

// Rules creates groups and changes members. Any goroutine. Without Limits only Store is
// needed.
type Rules struct {
	Store  Store
	Limits Limits
	// Timeout bounds the wait for the store's budgets.
	Timeout time.Duration
	// StoreNow is the time of the store, Now that of this process.
	StoreNow, Now func() time.Time
	Log           *slog.Logger
	// Refused is called with the reason and number of refusals.
	Refused func(reason string, n int)
	// Failed is called when the store does not keep the budgets.
	Failed func()

	mu         sync.Mutex
	paused     time.Time // until then the store is not asked
	away, left obs.Often
}

// storePause is for how long nothing is limited after the store has failed: each request
// would wait for Timeout.
const storePause = 5 * time.Second

// admitTo returns those of users that user by may put into a group now. The permission is
// checked first, so that nobody spends a user's budget without changing a group.
// ChangeMembers checks it again.
func (r *Rules) admitTo(ctx context.Context, by, group uint32, users []uint32) ([]uint32, error) {
	if r.Limits.Adds <= 0 && r.Limits.Gains <= 0 {
		return users, nil
	}
	groups, err := r.Store.Groups(ctx, []uint32{group})
	if err != nil || len(groups) == 0 { // ChangeMembers says that there is no group
		return users, err
	}
	g := &groups[0]
	if err := mayChange(by, pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD, users, g); err != nil {
		return nil, err
	}
	fresh := slices.DeleteFunc(slices.Clone(users), func(u uint32) bool {
		_, in := slices.BinarySearch(g.Members, u)
		return in
	})
	if len(fresh) == 0 {
		return users, nil
	}
	return r.admit(ctx, by, fresh, false)
}

// admit takes from the budgets, and returns those of users that may become members. A user
// whose budget is empty is left out, as one that does not exist: if it made the whole
// request fail, anybody could keep others from making groups with that user. The error is
// Denied when the request is refused, also when nobody but user by remains.
func (r *Rules) admit(ctx context.Context, by uint32, users []uint32,
	creating bool) ([]uint32, error) {
	others := slices.DeleteFunc(slices.Clone(users), func(u uint32) bool { return u == by })
	var own []im.Spending
	if creating && r.Limits.Creations > 0 {
		own = append(own, spending(im.GroupsMade, by, 1, r.Limits.Creations))
	}
	if len(others) > 0 && r.Limits.Adds > 0 {
		own = append(own, spending(im.MembersAdded, by, len(others), r.Limits.Adds))
	}
	for i, enough := range r.spend(ctx, own) {
		if enough {
			continue
		}
		if own[i].Kind == im.GroupsMade {
			r.Refused(reasonCreations, 1)
			return nil, im.Errorf(im.Denied, "user %d made too many groups within an hour", by)
		}
		r.Refused(reasonAdds, 1)
		return nil, im.Errorf(im.Denied,
			"user %d puts too many users into groups within an hour", by)
	}
	return r.admitGains(ctx, by, users, others)
}

// admitGains returns users without those of others whose budget of gains is empty.
func (r *Rules) admitGains(ctx context.Context, by uint32, users,
	others []uint32) ([]uint32, error) {
	if r.Limits.Gains <= 0 {
		return users, nil
	}
	gains := make([]im.Spending, len(others))
	for i, u := range others {
		gains[i] = spending(im.GroupsGained, u, 1, r.Limits.Gains)
	}
	var full []uint32
	for i, enough := range r.spend(ctx, gains) {
		if !enough {
			full = append(full, others[i])
		}
	}
	if len(full) == 0 {
		return users, nil
	}
	r.Refused(reasonGains, len(full))
	if len(full) == len(others) {
		return nil, im.Errorf(im.Denied,
			"user %d was put into too many groups by others within an hour", full[0])
	}
	r.left.Warn(r.Log, r.Now(), "users left out of a group: others put them into too many",
		"role", "dbproxy", "by", by, "user", full[0], "users", len(full))
	return slices.DeleteFunc(slices.Clone(users), func(u uint32) bool {
		_, is := slices.BinarySearch(full, u)
		return is
	}), nil
}

func spending(k im.BudgetKind, user uint32, n, limit int) im.Spending {
	return im.Spending{Kind: k, User: user, N: n, Limit: limit, Window: time.Hour}
}

// spend returns for each spending whether the budget held enough. It returns nil when the
// store does not keep budgets for now: then nothing is limited.
func (r *Rules) spend(ctx context.Context, spendings []im.Spending) []bool {
	if len(spendings) == 0 {
		return nil
	}
	r.mu.Lock()
	paused := r.Now().Before(r.paused)
	r.mu.Unlock()
	if paused {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	enough, err := r.Store.Spend(within, r.StoreNow(), spendings)
	if err == nil {
		return enough
	}
	if ctx.Err() != nil { // the request has waited too long, whatever the store does
		return nil
	}
	r.mu.Lock()
	r.paused = r.Now().Add(storePause)
	r.mu.Unlock()
	r.Failed()
	r.away.Warn(r.Log, r.Now(), "groups are not limited: the store does not keep the budgets",
		"role", "dbproxy", "err", err)
	return nil
}
