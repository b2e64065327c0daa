package grouprules

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/obs"
)

// Limits bound how fast users make groups and put others into them: a number at once, and
// as many again within an hour. They also bound how many memberships others give to a user,
// and protect users that left a group. 0: no limit. User 0 is not limited.
type Limits struct {
	Creations int // groups that a user makes
	Adds      int // memberships that a user gives to others
	Gains     int // memberships that a user gains from others
	// Memberships is the number of groups in which a user is because others put it there.
	Memberships int
	// Left is how long a user that left a group by itself is not added to it by others.
	Left time.Duration
}

// share divides Gains and Memberships: one user may give another a quarter of them. So one
// attacker does not keep colleagues from adding its victim, not even by adding and removing
// it in a loop.
const share = 4

// Reasons of refusals, for metrics.
const (
	reasonCreations       = "creations"
	reasonAdds            = "adds"
	reasonGains           = "gains"
	reasonGainsShare      = "gains_share"
	reasonMemberships     = "memberships"
	reasonMembershipShare = "memberships_share"
	reasonLeft            = "left"
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

	changed atomic.Pointer[Limits] // those of SetLimits; nil: Limits

	mu         sync.Mutex
	paused     time.Time // until then the store is not asked
	away, left obs.Often
}

// storePause is for how long nothing is limited after the store has failed: each request
// would wait for Timeout.
const storePause = 5 * time.Second

// SetLimits replaces Limits.
func (r *Rules) SetLimits(l Limits) { r.changed.Store(&l) }

func (r *Rules) limits() Limits {
	if l := r.changed.Load(); l != nil {
		return *l
	}
	return r.Limits
}

// leftSince returns since when a user must have left for others not to add it, in unix
// seconds; 0: users that left are not protected.
func (r *Rules) leftSince() uint32 {
	if r.limits().Left <= 0 {
		return 0
	}
	return uint32(max(r.StoreNow().Add(-r.limits().Left).Unix(), 1))
}

// admitTo returns those of e's users that its user may put into the group now. The
// permission is checked first, so that nobody spends a user's budget without changing a
// group. ChangeMembers checks it again.
func (r *Rules) admitTo(ctx context.Context, e im.MemberEdit) ([]uint32, error) {
	if r.limits() == (Limits{}) {
		return e.Users, nil
	}
	groups, err := r.Store.Groups(ctx, []uint32{e.Group})
	if err != nil || len(groups) == 0 { // ChangeMembers says that there is no group
		return e.Users, err
	}
	g := &groups[0]
	fresh := without(e.Users, g.Members)
	left, err := r.Store.LeftGroup(ctx, e.Group, fresh, e.LeftSince)
	if err != nil {
		return nil, err
	}
	users, err := permit(e, g, left)
	if len(left) > 0 && len(users) < len(e.Users) && (err == nil || errors.As(err, new(*Refusal))) {
		r.leaveOut(reasonLeft, e.By, left)
	}
	if err != nil {
		return nil, err
	}
	if fresh = without(users, g.Members); len(fresh) == 0 {
		return users, nil
	}
	users, err = r.admit(ctx, e.By, fresh, false)
	// One that left and wants to return is no member: the members are not its business.
	if _, in := slices.BinarySearch(g.Members, e.By); in && im.KindOf(err) == im.Denied {
		err = &Refusal{err, g.Members}
	}
	return users, err
}

// admit takes from the budgets, and returns those of users that may become members. A user
// whose budget is empty is left out, as one that does not exist: if it made the whole
// request fail, anybody could keep others from making groups with that user. The error is
// Denied when the request is refused, also when nobody but user by remains.
func (r *Rules) admit(ctx context.Context, by uint32, users []uint32,
	creating bool) ([]uint32, error) {
	others := without(users, []uint32{by})
	var own []im.Spending
	if creating && r.limits().Creations > 0 {
		own = append(own, spending(im.GroupsMade, by, 0, 1, r.limits().Creations))
	}
	if len(others) > 0 && r.limits().Adds > 0 {
		own = append(own, spending(im.MembersAdded, by, 0, len(others), r.limits().Adds))
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
	if !creating && len(others) == 0 {
		others = users // by returns to a group, which its own share bounds
	}
	return r.admitOthers(ctx, by, users, others)
}

// admitOthers returns users without those of others that may gain no membership from by now.
func (r *Rules) admitOthers(ctx context.Context, by uint32, users,
	others []uint32) ([]uint32, error) {
	may := others
	for _, check := range []struct {
		reason string
		full   func(ctx context.Context, by uint32, users []uint32) ([]uint32, error)
	}{{reasonMemberships, r.crowded}, {reasonMembershipShare, r.crowdedBy},
		{reasonGainsShare, r.gainedShare}, {reasonGains, r.gained}} {
		full, err := check.full(ctx, by, may)
		if err != nil {
			return nil, err
		}
		if len(full) == 0 {
			continue
		}
		r.leaveOut(check.reason, by, full)
		if may = without(may, full); len(may) == 0 {
			return nil, im.Errorf(im.Denied, "user %d was put into too many groups by others "+
				"(limit of %s)", full[0], check.reason)
		}
	}
	return without(users, without(others, may)), nil
}

// leaveOut counts and logs users that by may not add.
func (r *Rules) leaveOut(reason string, by uint32, users []uint32) {
	r.Refused(reason, len(users))
	r.left.Warn(r.Log, r.Now(), "users left out of a group", "role", "dbproxy", "reason", reason,
		"by", by, "user", users[0], "users", len(users))
}

// crowded returns those of users that are in too many groups because others put them there.
func (r *Rules) crowded(ctx context.Context, by uint32, users []uint32) ([]uint32, error) {
	users = without(users, []uint32{by})
	if r.limits().Memberships <= 0 || len(users) == 0 {
		return nil, nil
	}
	return r.Store.GivenMemberships(ctx, users, 0, r.limits().Memberships)
}

// crowdedBy returns those of users that are in too many groups because by put them there.
func (r *Rules) crowdedBy(ctx context.Context, by uint32, users []uint32) ([]uint32, error) {
	users = without(users, []uint32{by})
	if r.limits().Memberships <= 0 || len(users) == 0 {
		return nil, nil
	}
	return r.Store.GivenMemberships(ctx, users, by, max(r.limits().Memberships/share, 1))
}

// gainedShare returns those of users whose memberships from by are too many within an hour.
func (r *Rules) gainedShare(ctx context.Context, by uint32, users []uint32) ([]uint32, error) {
	return r.emptied(ctx, im.GroupsGainedFrom, by, users, max(r.limits().Gains/share, 1)), nil
}

// gained returns those of users whose memberships from others are too many within an hour.
func (r *Rules) gained(ctx context.Context, by uint32, users []uint32) ([]uint32, error) {
	return r.emptied(ctx, im.GroupsGained, 0, without(users, []uint32{by}), r.limits().Gains), nil
}

// emptied takes one from the budget of each user, and returns the users whose budget was
// empty.
func (r *Rules) emptied(ctx context.Context, k im.BudgetKind, by uint32, users []uint32,
	limit int) []uint32 {
	if r.limits().Gains <= 0 {
		return nil
	}
	gains := make([]im.Spending, len(users))
	for i, u := range users {
		gains[i] = spending(k, u, by, 1, limit)
	}
	var empty []uint32
	for i, enough := range r.spend(ctx, gains) {
		if !enough {
			empty = append(empty, users[i])
		}
	}
	return empty
}

func spending(k im.BudgetKind, user, by uint32, n, limit int) im.Spending {
	return im.Spending{Kind: k, User: user, By: by, N: n, Limit: limit, Window: time.Hour}
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
