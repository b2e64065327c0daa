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
