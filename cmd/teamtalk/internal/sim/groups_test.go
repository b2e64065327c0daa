package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// group is a group in the database, and its members so far.
type group struct {
	im.Group
	past []membership
}

// membership is the members of a group from a time on.
type membership struct {
	since   time.Duration
	members []uint32
}

// groups is the number of groups. Their ids begin above firstGroup. The creator of group
// firstGroup+i is user i.
const (
	groups     = 2
	firstGroup = 1000
)

func isGroup(id uint32) bool { return id > firstGroup }

// newGroups returns the groups. Each has all users but one.
func newGroups() map[uint32]*group {
	all := map[uint32]*group{}
	for i := uint32(1); i <= groups; i++ {
		g := &group{Group: im.Group{ID: firstGroup + i, Name: "g", Creator: i, Version: 1,
			Type: pb.GroupType_GROUP_TYPE_TMP}}
		for u := uint32(1); u <= users; u++ {
			if u != i+2 {
				g.Members = append(g.Members, u)
			}
		}
		g.past = []membership{{0, g.Members}}
		all[g.ID] = g
	}
	return all
}

// had reports whether user was a member at some time between two.
func (g *group) had(user uint32, since, end time.Duration) bool {
	for i, m := range g.past {
		if m.since <= end && (i+1 == len(g.past) || g.past[i+1].since >= since) &&
			slices.Contains(m.members, user) {
			return true
		}
	}
	return false
}

// always reports whether user was a member all the time between two.
func (g *group) always(user uint32, since, end time.Duration) bool {
	for i, m := range g.past {
		if m.since <= end && (i+1 == len(g.past) || g.past[i+1].since >= since) &&
			!slices.Contains(m.members, user) {
			return false
		}
	}
	return true
}

// ChangeMembers adds users to a group or removes them.
func (st *store) ChangeMembers(_ context.Context, e im.MemberEdit) (im.MemberChange, error) {
	var change im.MemberChange
	var refused error
	id, t := e.Group, e.Type
	err := st.do(fmt.Sprintf("members %d %v %v", id, t, e.Users), func() {
		g := st.db.groups[id]
		copied := g.Group
		list, err := e.Allow(&copied, nil)
		if refused = err; refused != nil {
			return
		}
		members := slices.Clone(g.Members)
		for _, user := range list {
			at, in := slices.BinarySearch(members, user)
			switch add := t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD; {
			case add && !in:
				members = slices.Insert(members, at, user)
			case !add && in:
				members = slices.Delete(members, at, at+1)
			default:
				continue
			}
			change.Changed = append(change.Changed, user)
		}
		if len(change.Changed) > 0 {
			g.Members = members
			g.Version++
			g.past = append(g.past, membership{st.db.now(), members})
		}
		change.Version, change.Current = g.Version, members
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return im.MemberChange{}, err
	}
	return change, nil
}

// Groups returns groups.
func (st *store) Groups(_ context.Context, ids []uint32) ([]im.Group, error) {
	var list []im.Group
	err := st.do(fmt.Sprintf("groups %v", ids), func() {
		for _, id := range ids {
			if g := st.db.groups[id]; g != nil {
				list = append(list, g.Group)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// GroupVersions returns the versions of groups. It answers at once.
func (st *store) GroupVersions(_ context.Context, ids []uint32) ([]im.GroupVersion, error) {
	var list []im.GroupVersion
	for _, id := range ids {
		list = append(list, im.GroupVersion{ID: id})
	}
	return list, nil
}

// ShieldedGroups returns none.
func (st *store) ShieldedGroups(context.Context, uint32, []uint32) ([]uint32, error) {
	return nil, nil
}

// GroupHistory returns the messages of a group. The model does not hide those from before
// the user joined.
func (st *store) GroupHistory(_ context.Context, user, id, begin uint32, count int) (
	[]im.Message, error) {
	return st.history(user, id, begin, count, im.GroupKey(id))
}

// GroupMessagesByID returns messages of a group, in order of id, like GroupHistory.
func (st *store) GroupMessagesByID(_ context.Context, user, id uint32, ids []uint32) (
	[]im.Message, error) {
	return st.byID(user, id, ids, im.GroupKey(id))
}

// ClearGroupUnread records that user has read the messages of a group.
func (st *store) ClearGroupUnread(ctx context.Context, user, id uint32) error {
	return st.ClearUnread(ctx, user, id)
}
