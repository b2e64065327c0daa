package dbproxy

import (
	"context"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// CreateGroup makes a group with g's Name, Avatar, Creator, Type and Members, and returns it as it is stored: members once each, in increasing order,
// without those that do not exist. The creator is in it only when named among the members, and is 0 for a group of another system. Invalid
// without a name, without a member, and as im.GroupStore says. Which types of groups clients may make is the message server's rule.
func (s *Server) CreateGroup(ctx context.Context, g im.Group) (im.Group, error) {
	switch {
	case g.Name == "":
		return im.Group{}, im.Errorf(im.Invalid, "group without a name")
	case len(g.Members) == 0:
		return im.Group{}, im.Errorf(im.Invalid, "group without members")
	case g.Type != pb.GroupType_GROUP_TYPE_NORMAL && g.Type != pb.GroupType_GROUP_TYPE_TMP:
		return im.Group{}, im.Errorf(im.Invalid, "group of type %d", g.Type)
	}
	g.Members = ascending(g.Members)
	return s.store.CreateGroup(ctx, g)
}

// ChangeMembers adds users to a group or takes them out, in the name of user by; 0 is another system, which may do everything. Denied when by may
// not (see mayChange), Invalid when nobody is named or nobody was changed, NotFound and Invalid as im.GroupStore says.
func (s *Server) ChangeMembers(ctx context.Context, by, group uint32, t pb.GroupModifyType, users []uint32) (im.MemberChange, error) {
	if len(users) == 0 {
		return im.MemberChange{}, im.Errorf(im.Invalid, "no members named")
	}
	users = ascending(users)
	change, err := s.store.ChangeMembers(ctx, group, t, users, func(g *im.Group) error { return mayChange(by, t, users, g) })
	if err == nil && len(change.Changed) == 0 {
		err = im.Errorf(im.Invalid, "no member of group %d to change", group) // who is in already, or is not
	}
	return change, err
}

// mayChange says why user by may not change g's members in this way, nil when it may. Every member of a temporary group may add to it, and leave it;
// everything else is for the creator, who must be a member too. User 0 is another system.
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
	case temporary && len(users) == 1 && users[0] == by: // not ADD: leaving
		return nil
	}
	return im.Errorf(im.Denied, "user %d may not change the members of group %d", by, g.ID)
}

// ascending returns ids in increasing order, once each, in a slice of its own.
func ascending(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}
