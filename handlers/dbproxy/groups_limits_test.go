package dbproxy_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/dbproxy/grouprules"
	"teamtalk/proto/pb"
)

// TestGroupsMadeAreRated: creations and memberships given are refused above their limits,
// another system is not limited, and the time gives the budgets back.
func TestGroupsMadeAreRated(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := open(t, options{db: dbproxy.Options{Registerer: reg,
		Groups: grouprules.Limits{Creations: 2, Adds: 3}}})
	p := h.dial()
	group := makeGroup(p, 1, temporary, 1)
	makeGroup(p, 1, temporary, 1, 2)
	create := func(by, code uint32, members ...uint32) {
		t.Helper()
		rsp := ask[*pb.IMGroupCreateRsp](p, 1, createReq(by, temporary, "g", members...))
		if rsp.GetResultCode() != code || rsp.HasGroupId() != (code == 0) {
			t.Errorf("group of %d: %v, want code %d", by, rsp, code)
		}
	}
	change := func(by, code uint32, users ...uint32) {
		t.Helper()
		rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2, changeReq(by, group, add, users...))
		if rsp.GetResultCode() != code {
			t.Errorf("%d adds %v: %v, want code %d", by, users, rsp, code)
		}
	}
	create(1, 1, 1)
	create(2, 0, 2)
	change(1, 1, 2, 3, 4) // of the three, one is spent
	change(1, 0, 2, 3)
	change(1, 1, 4)
	for range 5 {
		create(0, 0, 1, 2, 3, 4)
	}
	change(0, 0, 4, 5)
	if n := counted(t, reg, "teamtalk_dbproxy_group_refused_total"); n != 3 {
		t.Errorf("%v refusals are counted, want 3", n)
	}
	h.clock.Add(time.Hour)
	create(1, 0, 1, 2)
}

// TestGroupsGainedAreRated: a user that others put into too many groups is left out of
// further ones, and its colleagues are not. Requests without permission spend nothing.
func TestGroupsGainedAreRated(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := open(t, options{db: dbproxy.Options{Registerer: reg,
		Groups: grouprules.Limits{Gains: 2}}})
	p := h.dial()
	group := makeGroup(p, 1, temporary, 1)
	for range 5 {
		rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2, changeReq(9, group, add, 2))
		if rsp.GetResultCode() != 1 {
			t.Fatalf("a stranger added a user: %v", rsp)
		}
	}
	makeGroup(p, 1, temporary, 1, 2)
	makeGroup(p, 3, temporary, 2, 3)
	for range 3 {
		makeGroup(p, 2, temporary, 2) // its own
	}
	made := ask[*pb.IMGroupCreateRsp](p, 1, createReq(4, temporary, "g", 2, 4, 5))
	if made.GetResultCode() != 0 || !slices.Equal(made.GetUserIdList(), []uint32{4, 5}) {
		t.Errorf("group with a full user: %v", made)
	}
	if made = ask[*pb.IMGroupCreateRsp](p, 1, createReq(4, temporary, "g", 2, 4)); made.
		GetResultCode() != 1 {
		t.Errorf("group with none but a full user: %v", made)
	}
	rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2, changeReq(1, group, add, 2, 6))
	if rsp.GetResultCode() != 0 || !slices.Equal(rsp.GetChgUserIdList(), []uint32{6}) {
		t.Errorf("a full user and another added: %v", rsp)
	}
	if n := counted(t, reg, "teamtalk_dbproxy_group_refused_total"); n != 3 {
		t.Errorf("%v refusals are counted, want 3", n)
	}
}

// poor is a store that does not keep budgets.
type poor struct{ im.Store }

func (poor) Spend(context.Context, time.Time, []im.Spending) ([]bool, error) {
	return nil, im.Errorf(im.Unavailable, "no Redis")
}

// TestGroupsWithoutBudgets: while the store keeps no budgets, groups are made.
func TestGroupsWithoutBudgets(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := open(t, options{stored: func(s im.Store) im.Store { return poor{s} },
		db: dbproxy.Options{Registerer: reg,
			Groups: grouprules.Limits{Creations: 1, Adds: 1, Gains: 1}}})
	p := h.dial()
	makeGroup(p, 1, temporary, 1, 2)
	makeGroup(p, 1, temporary, 1, 2)
	// The clock stands still: the second request is within the pause.
	if n := counted(t, reg, "teamtalk_dbproxy_group_budgets_unavailable_total"); n != 1 {
		t.Errorf("%v failures are counted, want 1", n)
	}
}

// wantAdded adds users to a group, as user by, and checks the code and those that were added.
func (p *peer) wantAdded(by, group uint32, users []uint32, code uint32, added ...uint32) {
	p.t.Helper()
	rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2, changeReq(by, group, add, users...))
	if rsp.GetResultCode() != code || !slices.Equal(rsp.GetChgUserIdList(), added) {
		p.t.Errorf("%d adds %v: %v, want code %d, added %v", by, users, rsp, code, added)
	}
}

// wantRemoved removes a user from a group, as user by.
func (p *peer) wantRemoved(by, group, user uint32) {
	p.t.Helper()
	rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2, changeReq(by, group, del, user))
	if rsp.GetResultCode() != 0 {
		p.t.Fatalf("%d removes %d: %v", by, user, rsp)
	}
}

// TestLeftIsNotAddedAgain: a user that left by itself is not added by others, returns by
// itself, and is added by another system or when the time has passed. One that was removed is
// added, and does not return by itself.
func TestLeftIsNotAddedAgain(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := open(t, options{db: dbproxy.Options{Registerer: reg,
		Groups: grouprules.Limits{Left: 24 * time.Hour}}})
	p := h.dial()
	group := makeGroup(p, 1, temporary, 1, 2, 3)
	p.wantRemoved(2, group, 2)
	p.wantAdded(1, group, []uint32{2}, 1) // the creator
	p.wantAdded(3, group, []uint32{2}, 1)
	p.wantAdded(3, group, []uint32{2, 3}, 1)
	p.wantAdded(3, group, []uint32{2, 4}, 0, 4)
	if n := counted(t, reg, "teamtalk_dbproxy_group_refused_total"); n != 4 {
		t.Errorf("%v refusals are counted, want 4", n)
	}
	p.wantAdded(2, group, []uint32{2, 5}, 1) // only itself
	p.wantAdded(2, group, []uint32{2}, 0, 2)

	p.wantRemoved(1, group, 2)
	p.wantAdded(2, group, []uint32{2}, 1)
	p.wantAdded(1, group, []uint32{2}, 0, 2)

	p.wantRemoved(2, group, 2)
	p.wantAdded(0, group, []uint32{2}, 0, 2)
	p.wantRemoved(2, group, 2)
	h.clock.Add(25 * time.Hour)
	p.wantAdded(1, group, []uint32{2}, 0, 2)
	p.wantAdded(9, group, []uint32{9}, 1) // was never a member
}

// TestLeftSpendsNothing: attempts to add a user that left do not spend its budget.
func TestLeftSpendsNothing(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{
		Groups: grouprules.Limits{Left: time.Hour, Gains: 4, Memberships: 100}}})
	p := h.dial()
	group := makeGroup(p, 1, temporary, 1)
	other := makeGroup(p, 3, temporary, 3)
	p.wantAdded(1, group, []uint32{2}, 0, 2)
	p.wantRemoved(2, group, 2)
	for range 5 {
		p.wantAdded(1, group, []uint32{2}, 1)
	}
	p.wantAdded(3, other, []uint32{2}, 0, 2)
	// Leaving and returning in a loop has a bound as well.
	p.wantAdded(2, group, []uint32{2}, 0, 2)
	p.wantRemoved(2, group, 2)
	p.wantAdded(2, group, []uint32{2}, 1)
}

// TestGroupsGainedFromOne: a user that adds and removes another in a loop, or puts it into
// many groups, leaves most of its budget to others.
func TestGroupsGainedFromOne(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := open(t, options{db: dbproxy.Options{Registerer: reg,
		Groups: grouprules.Limits{Gains: 8}}})
	p := h.dial()
	group := makeGroup(p, 1, temporary, 1, 3)
	for range 2 {
		p.wantAdded(1, group, []uint32{2}, 0, 2)
		p.wantRemoved(1, group, 2)
	}
	for range 5 {
		p.wantAdded(1, group, []uint32{2}, 1)
	}
	for by := uint32(3); by < 6; by++ {
		makeGroup(p, by, temporary, by, 2)
		makeGroup(p, by, temporary, by, 2)
	}
	if n := counted(t, reg, "teamtalk_dbproxy_group_refused_total"); n != 5 {
		t.Errorf("%v refusals are counted, want 5", n)
	}
	rsp := ask[*pb.IMGroupCreateRsp](p, 1, createReq(6, temporary, "g", 2, 6))
	if rsp.GetResultCode() != 1 {
		t.Errorf("2 gains a ninth membership: %v", rsp)
	}
}

// TestMembershipsAreBounded: others put a user into a number of groups and not into more,
// whatever time they take, and one of them into a quarter. The user's own groups, and those of
// other systems, do not count. It makes room when it leaves a group.
func TestMembershipsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := open(t, options{db: dbproxy.Options{Registerer: reg,
		Groups: grouprules.Limits{Gains: 100, Memberships: 8}}})
	p := h.dial()
	wantMade := func(by uint32, want ...uint32) {
		t.Helper()
		rsp := ask[*pb.IMGroupCreateRsp](p, 1, createReq(by, temporary, "g", by, 2, 9))
		if rsp.GetResultCode() != 0 || !slices.Equal(rsp.GetUserIdList(), want) {
			t.Errorf("%d makes a group: %v, want members %v", by, rsp, want)
		}
	}
	for range 5 {
		makeGroup(p, 2, temporary, 2) // its own
		makeGroup(p, 0, temporary, 2)
	}
	var last uint32
	for by := uint32(3); by < 7; by++ {
		makeGroup(p, by, temporary, by, 2)
		last = makeGroup(p, by, temporary, by, 2)
		h.clock.Add(24 * time.Hour)
		if by == 3 {
			wantMade(by, 3, 9)
			h.clock.Add(24 * time.Hour)
		}
	}
	wantMade(7, 7, 9)
	p.wantAdded(6, last, []uint32{8}, 0, 8)
	if n := counted(t, reg, "teamtalk_dbproxy_group_refused_total"); n != 2 {
		t.Errorf("%v refusals are counted, want 2", n)
	}
	makeGroup(p, 0, temporary, 2) // another system is not limited
	p.wantRemoved(2, last, 2)
	wantMade(7, 2, 7, 9)
	wantMade(8, 8, 9)
}

// TestRefusedAdditionsNameTheMembers: the answer to a member whose addition is refused has
// the current members if it asks for them, and that to others has none, also to one that
// left and wants to return.
func TestRefusedAdditionsNameTheMembers(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{Groups: grouprules.Limits{Left: time.Hour,
		Adds: 1, Gains: 4}}})
	p := h.dial()
	group := makeGroup(p, 1, temporary, 1, 2)
	p.wantRemoved(2, group, 2)
	p.wantAdded(2, group, []uint32{2}, 0, 2)
	p.wantRemoved(2, group, 2) // it may not return again for now
	for what, test := range map[string]struct {
		by, user uint32
		members  []uint32
	}{"left": {1, 2, []uint32{1}}, "budget": {1, 3, []uint32{1}}, "stranger": {4, 3, nil},
		"returns": {2, 2, nil}, "member already": {1, 1, []uint32{1}}} {
		req := changeReq(test.by, group, add, test.user)
		if rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2, req); rsp.GetResultCode() != 1 ||
			len(rsp.GetCurUserIdList()) > 0 {
			t.Errorf("%s: %v, want no members", what, rsp)
		}
		req = changeReq(test.by, group, add, test.user)
		req.SetWantMembers(true)
		rsp := ask[*pb.IMGroupChangeMemberRsp](p, 2, req)
		if rsp.GetResultCode() != 1 || !slices.Equal(rsp.GetCurUserIdList(), test.members) ||
			len(rsp.GetChgUserIdList()) > 0 {
			t.Errorf("%s: %v, want members %v", what, rsp, test.members)
		}
	}
}
