//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"testing"

	"teamtalk/cmd/teamtalk/internal/persona"
	"teamtalk/proto/pb"
)

// TestConsent lets each client in the field add a user that has left its group, and make more
// groups than it may. The refusals leave the client with the group as it is. The user returns
// by itself.
func TestConsent(t *testing.T) {
	t.Parallel()
	rows := []persona.Persona{persona.Windows(), persona.Mac(), persona.IOS(), persona.Android(),
		persona.Web()}
	forEachShape(t, settings{users: len(rows) + 2,
		flags: []string{"--dbproxy.group-creations", "1"}},
		func(t *testing.T, sys *deployment) {
			left := startPersona(t, sys, persona.Android(), persona.Options{User: "u00001"})
			stays := startPersona(t, sys, persona.Web(), persona.Options{User: "u00002"})
			logIn(t, left, stays)
			for i, row := range rows {
				t.Run(row.Name, func(t *testing.T) {
					c := startPersona(t, sys, row, persona.Options{
						User: fmt.Sprintf("u%05d", i+3)})
					logIn(t, c)
					consent(&day{t: t}, c, left, stays)
					for _, c := range []*persona.Client{c, left, stays} {
						if f := c.Faults(); len(f) > 0 {
							t.Errorf("%s: %q", c.Name(), f)
						}
					}
				})
			}
		})
}

// consent lets c make a group with two others, one of them leave it, and c add it again.
func consent(d *day, c, left, stays *persona.Client) {
	d.t.Helper()
	create := func() *pb.IMGroupCreateRsp {
		return ask[*pb.IMGroupCreateRsp](d, c, pb.IMGroupCreateReq_builder{
			UserId: new(c.Self()), GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(),
			GroupName: new("consent"), GroupAvatar: new(""),
			MemberIdList: []uint32{c.Self(), left.Self(), stays.Self()}}.Build())
	}
	made := create()
	group := made.GetGroupId()
	if made.GetResultCode() != 0 || len(made.GetUserIdList()) != 3 {
		d.t.Fatalf("group not created: %v", made)
	}
	if again := create(); again.GetResultCode() == 0 || again.HasGroupId() {
		d.t.Errorf("a second group within an hour: %v", again)
	}
	change := func(by *persona.Client, t pb.GroupModifyType) *pb.IMGroupChangeMemberRsp {
		return ask[*pb.IMGroupChangeMemberRsp](d, by, pb.IMGroupChangeMemberReq_builder{
			UserId: new(by.Self()), ChangeType: t.Enum(), GroupId: &group,
			MemberIdList: []uint32{left.Self()}}.Build())
	}
	const add, del = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD,
		pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
	both := slices.Sorted(slices.Values([]uint32{c.Self(), stays.Self()}))
	all := slices.Sorted(slices.Values(append(slices.Clone(both), left.Self())))
	members := func(want []uint32) func() bool {
		return func() bool { return slices.Equal(c.Group(group).GetGroupMemberList(), want) }
	}
	if rsp := change(left, del); rsp.GetResultCode() != 0 {
		d.t.Fatalf("not left: %v", rsp)
	}
	until(d.t, "the client to know that a member left", members(both))
	for _, by := range []*persona.Client{c, stays} {
		if rsp := change(by, add); len(rsp.GetChgUserIdList()) > 0 {
			d.t.Errorf("%s added a user that left: %v", by.Name(), rsp)
		}
	}
	if !members(both)() {
		d.t.Errorf("after the refusal the client has the members %v, want %v",
			c.Group(group).GetGroupMemberList(), both)
	}
	if rsp := change(left, add); !slices.Equal(rsp.GetCurUserIdList(), all) {
		d.t.Errorf("not returned: %v", rsp)
	}
	until(d.t, "the client to know that the member returned", members(all))
}
