package admin

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// FindMembers returns the users with names or ids, all or none. The error names every
// user that does not exist and, with present, every user that is disabled.
func FindMembers(ctx context.Context, s im.UserStore, names []string, present bool) ([]im.User,
	error) {
	var users []im.User
	var bad []string
	for _, name := range names {
		a, err := FindUser(ctx, s, name)
		switch {
		case err != nil && im.KindOf(err) != im.NotFound:
			return nil, err
		case err != nil:
			bad = append(bad, err.Error())
		case present && a.Status == im.StatusDeparted:
			bad = append(bad, fmt.Sprintf("%s is disabled; first: teamtalk user enable %s", a.Name,
				a.Name))
		default:
			users = append(users, a.User)
		}
	}
	if n := len(bad); n > maxProblems {
		bad = append(bad[:maxProblems], fmt.Sprintf("… and %d more problems", n-maxProblems))
	}
	if len(bad) > 0 {
		return nil, im.Errorf(im.NotFound, "%s",
			strings.Join(append(bad, "nothing was changed"), "\n"))
	}
	return users, nil
}

// UserIDs returns the ids of users.
func UserIDs(users []im.User) []uint32 {
	ids := make([]uint32, len(users))
	for i, u := range users {
		ids[i] = u.ID
	}
	return ids
}

// GroupTypes holds the types of groups by their names in flags and JSON.
var GroupTypes = map[string]pb.GroupType{"normal": pb.GroupType_GROUP_TYPE_NORMAL,
	"temporary": pb.GroupType_GROUP_TYPE_TMP}

// GroupTypeName returns the name of a type of group.
func GroupTypeName(t pb.GroupType) string {
	for name, of := range GroupTypes {
		if of == t {
			return name
		}
	}
	return fmt.Sprint("type ", int32(t))
}

// EachGroup calls do with slices of all groups, in the order of their ids.
func EachGroup(ctx context.Context, s im.GroupStore, do func([]im.Group) error) error {
	const groupBatch = 200 // groups of a slice, each with its members
	for after := uint32(0); ; {
		groups, err := s.ListGroups(ctx, after, groupBatch)
		if err != nil || len(groups) == 0 {
			return err
		}
		if err := do(groups); err != nil {
			return err
		}
		after = groups[len(groups)-1].ID
	}
}

// FindGroup returns the group with an id, else the only group with a name.
func FindGroup(ctx context.Context, s im.GroupStore, text string) (im.Group, error) {
	if id, err := strconv.ParseUint(text, 10, 32); err == nil {
		groups, err := s.Groups(ctx, []uint32{uint32(id)})
		if err != nil || len(groups) > 0 {
			return append(groups, im.Group{})[0], err
		}
	}
	var found []im.Group
	err := EachGroup(ctx, s, func(groups []im.Group) error {
		for _, g := range groups {
			if g.Name == text {
				found = append(found, g)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return im.Group{}, err
	case len(found) == 0:
		return im.Group{}, im.Errorf(im.NotFound,
			"no group has the name or id %q; see teamtalk group list", text)
	case len(found) > 1:
		var ids []string
		for _, g := range found[:min(len(found), 10)] {
			ids = append(ids, fmt.Sprint(g.ID))
		}
		return im.Group{}, im.Errorf(im.Invalid,
			"%d groups have the name %q; give the id of one: %s",
			len(found), text, strings.Join(ids, ", "))
	}
	return found[0], nil
}
