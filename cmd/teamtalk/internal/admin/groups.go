package admin

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// FindMembers looks users up by name or id, all or none: an error names everyone who is not there, and with present, who is disabled.
func FindMembers(ctx context.Context, s im.UserStore, names []string, present bool) ([]im.User, error) {
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
			bad = append(bad, fmt.Sprintf("%s is disabled; first: teamtalk user enable %s", a.Name, a.Name))
		default:
			users = append(users, a.User)
		}
	}
	if n := len(bad); n > maxProblems {
		bad = append(bad[:maxProblems], fmt.Sprintf("… and %d more problems", n-maxProblems))
	}
	if len(bad) > 0 {
		return nil, im.Errorf(im.NotFound, "%s", strings.Join(append(bad, "nothing was changed"), "\n"))
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

// GroupTypes are the types of groups as flags and JSON name them.
var GroupTypes = map[string]pb.GroupType{"normal": pb.GroupType_GROUP_TYPE_NORMAL, "temporary": pb.GroupType_GROUP_TYPE_TMP}

// GroupTypeName returns the word for a type of group.
func GroupTypeName(t pb.GroupType) string {
	for name, of := range GroupTypes {
		if of == t {
			return name
		}
	}
	return fmt.Sprint("type ", int32(t))
}

// EachGroup calls do for every group in order of id, in slices of at most groupBatch.
func EachGroup(ctx context.Context, s im.GroupStore, do func([]im.Group) error) error {
	const groupBatch = 200 // with their members
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

// FindGroup looks a group up by id, or else by name.
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
		return im.Group{}, im.Errorf(im.NotFound, "no group has the name or id %q; see teamtalk group list", text)
	case len(found) > 1:
		var ids []string
		for _, g := range found[:min(len(found), 10)] {
			ids = append(ids, fmt.Sprint(g.ID))
		}
		return im.Group{}, im.Errorf(im.Invalid, "%d groups have the name %q; say which by its id: %s", len(found), text, strings.Join(ids, ", "))
	}
	return found[0], nil
}
