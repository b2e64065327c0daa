// Package grouprules decides which groups may be created, and which changes of members may be
// made.
package grouprules

import (
	"context"
	"errors"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Store is the part of im.GroupStore that Rules needs.
type Store interface {
	CreateGroup(ctx context.Context, g im.Group, by uint32) (im.Group, error)
	ChangeMembers(ctx context.Context, e im.MemberEdit) (im.MemberChange, error)
	Groups(ctx context.Context, ids []uint32) ([]im.Group, error)
	LeftGroup(ctx context.Context, group uint32, users []uint32, since uint32) ([]uint32, error)
	GivenMemberships(ctx context.Context, users []uint32, by uint32, n int) ([]uint32, error)
	im.BudgetStore
}

// Refusal is the reason why a member adds nobody to its group.
type Refusal struct {
	Err     error
	Current []uint32 // the members
}

// Error returns the text of Err.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

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
	return r.Store.CreateGroup(ctx, g, g.Creator)
}

// Change changes the members of a group; see dbproxy.Server.ChangeMembers. The error is a
// Refusal when by is a member, and the users that it wanted to add cannot be: the rules leave
// them out, they are members already, or the group would get too large.
func (r *Rules) Change(ctx context.Context, by, group uint32, t pb.GroupModifyType,
	users []uint32) (im.MemberChange, error) {
	if len(users) == 0 {
		return im.MemberChange{}, im.Errorf(im.Invalid, "no members named")
	}
	e := im.MemberEdit{Group: group, Type: t, Users: Ascending(users), By: by}
	if by != 0 && t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD {
		e.LeftSince = r.leftSince()
		var err error
		if e.Users, err = r.admitTo(ctx, e); err != nil {
			return im.MemberChange{}, err
		}
	}
	var members []uint32 // before the change
	e.Allow = func(g *im.Group, left []uint32) ([]uint32, error) {
		members = g.Members
		return permit(e, g, left)
	}
	change, err := r.Store.ChangeMembers(ctx, e)
	if err == nil && len(change.Changed) == 0 {
		// All users to add are members already, or no user to remove is a member.
		err = im.Errorf(im.Invalid, "no member of group %d to change", group)
	}
	_, in := slices.BinarySearch(members, by)
	if in && im.KindOf(err) == im.Invalid && !errors.As(err, new(*Refusal)) {
		err = &Refusal{err, members}
	}
	return change, err
}

// permit returns those of e's users whose membership of g may change; left are those that
// left g by themselves.
func permit(e im.MemberEdit, g *im.Group, left []uint32) ([]uint32, error) {
	if err := mayChange(e, g, left); err != nil {
		return nil, err
	}
	if len(left) == 0 || slices.Equal(left, []uint32{e.By}) {
		return e.Users, nil
	}
	stay := without(e.Users, left)
	if len(stay) == 0 {
		return nil, &Refusal{im.Errorf(im.Denied,
			"user %d left group %d by itself, and may return by itself", left[0], g.ID), g.Members}
	}
	return stay, nil
}

// mayChange returns the reason why e's user may not make this change to g's members; nil
// when it may. Every member of a temporary group may add users and may leave. Other changes
// are reserved for the creator, if it is a member. A user that left by itself may return.
// User 0 is another system, which may make every change.
func mayChange(e im.MemberEdit, g *im.Group, left []uint32) error {
	by, adding := e.By, e.Type == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	if by == 0 {
		return nil
	}
	alone := len(e.Users) == 1 && e.Users[0] == by
	if _, in := slices.BinarySearch(g.Members, by); !in {
		if adding && alone && slices.Equal(left, e.Users) {
			return nil
		}
		return im.Errorf(im.Denied, "user %d is not in group %d", by, g.ID)
	}
	temporary := g.Type == pb.GroupType_GROUP_TYPE_TMP
	if by == g.Creator || temporary && (adding || alone) { // alone and not adding: by leaves
		return nil
	}
	return &Refusal{im.Errorf(im.Denied, "user %d may not change the members of group %d", by,
		g.ID), g.Members}
}

// without returns those of users that are not in out, which is in ascending order.
func without(users, out []uint32) []uint32 {
	return slices.DeleteFunc(slices.Clone(users), func(u uint32) bool {
		_, is := slices.BinarySearch(out, u)
		return is
	})
}

// Ascending returns ids in ascending order without duplicates, in a new slice.
func Ascending(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}
