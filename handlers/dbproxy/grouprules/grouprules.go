// Package grouprules decides which groups may be created, and which changes of members may be
// made.
package grouprules

import (
	"context"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Store is the part of im.GroupStore that Rules needs.
type Store interface {
	CreateGroup(ctx context.Context, g im.Group) (im.Group, error)
	ChangeMembers(ctx context.Context, group uint32, t pb.GroupModifyType, users []uint32,
		allow func(g *im.Group) error) (im.MemberChange, error)
	Groups(ctx context.Context, ids []uint32) ([]im.Group, error)
	im.BudgetStore
}

// Create creates a group; see dbproxy.Server.CreateGroup.
func (r *Rules) Create(ctx context.Context, g im.Group) (im.Group, error) {
	if err := im.CheckGroup(&g); err != nil {
		return im.Group{}, err
	}
	if len(g.Members) == 0 {
		return im.Group{}, im.Errorf(im.Invalid, "group without members")
	}
	g.Members = Ascending(g.Members)
	if g.Creator != 0 {
		var err error
		if g.Members, err = r.admit(ctx, g.Creator, g.Members, true); err != nil {
			return im.Group{}, err
		}
	}
	return r.Store.CreateGroup(ctx, g)
}

// Change changes the members of a group; see dbproxy.Server.ChangeMembers.
func (r *Rules) Change(ctx context.Context, by, group uint32, t pb.GroupModifyType,
	users []uint32) (im.MemberChange, error) {
	if len(users) == 0 {
		return im.MemberChange{}, im.Errorf(im.Invalid, "no members named")
	}
	users = Ascending(users)
	if by != 0 && t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD {
		var err error
		if users, err = r.admitTo(ctx, by, group, users); err != nil {
			return im.MemberChange{}, err
		}
	}
	change, err := r.Store.ChangeMembers(ctx, group, t, users,
		func(g *im.Group) error { return mayChange(by, t, users, g) })
	if err == nil && len(change.Changed) == 0 {
		// All users to add are members already, or no user to remove is a member.
		err = im.Errorf(im.Invalid, "no member of group %d to change", group)
	}
	return change, err
}

// mayChange returns the reason why user by may not make this change to g's members; nil
// when it may. Every member of a temporary group may add users and may leave. Other
// changes are reserved for the creator, if it is a member. User 0 is another system,
// which may make every change.
func mayChange(by uint32, t pb.GroupModifyType, users []uint32, g *im.Group) error {
	if by == 0 {
		return nil
	}
	if _, in := slices.BinarySearch(g.Members, by); !in {
		return im.Errorf(im.Denied, "user %d is not in group %d", by, g.ID)
	}
	temporary := g.Type == pb.GroupType_GROUP_TYPE_TMP
	switch {
	case by == g.Creator:
		return nil
	case temporary && t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD:
		return nil
	case temporary && len(users) == 1 && users[0] == by: // not ADD: by leaves the group
		return nil
	}
	return im.Errorf(im.Denied, "user %d may not change the members of group %d", by, g.ID)
}

// Ascending returns ids in ascending order without duplicates, in a new slice.
func Ascending(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}
