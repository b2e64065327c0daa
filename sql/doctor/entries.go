package doctor

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// The checks of this file look at tables that both stores have: users, departments and
// groups.

// entries are the parts in which the two stores differ.
type entries struct {
	db    reader
	store im.Store // for repairs; nil: there are none
	// there is the condition for groups g that are not deleted, and in the one for
	// members m that have not left. Both begin with AND, or are empty.
	there, in string
	// creator makes a user the creator of a group, instead of another one.
	creator func(ctx context.Context, group, from, to uint32) error
	// orphan removes a member from a group that does not exist.
	orphan func(ctx context.Context, group, user uint32) error
}

// checks returns the checks.
func (e *entries) checks() []Check {
	return []Check{e.departments(), e.parents(), e.creators(), e.members()}
}

// departments looks for users whose department does not exist.
func (e *entries) departments() Check {
	return &table{
		about: About{
			Name:     "departments",
			Compares: "users with their departments",
			Repair:   "such a user gets no department",
		},
		db: e.db, subjects: rowIDs("IMUser"),
		look: "SELECT u.id, u.departId FROM IMUser AS u LEFT JOIN IMDepart AS d " +
			"ON d.id=u.departId AND d.status=0 WHERE u.id IN (%s) AND u.departId<>0 " +
			"AND COALESCE(u.status, 0)<>3 AND d.id IS NULL ORDER BY u.id",
		text: "user %[1]s is in department %[2]s, which does not exist",
		mend: func(ctx context.Context, f Finding) error {
			return e.store.SetUserDepart(ctx, id(f.values[0]), 0)
		},
	}
}

// parents looks for departments whose parent does not exist.
func (e *entries) parents() Check {
	return &table{
		about: About{
			Name:     "department-parents",
			Compares: "departments with the departments above them",
			Repair:   "such a department moves to the top, unless the top has its name",
		},
		db: e.db, subjects: rowIDs("IMDepart"),
		look: "SELECT c.id, c.parentId FROM IMDepart AS c LEFT JOIN IMDepart AS d " +
			"ON d.id=c.parentId AND d.status=0 WHERE c.id IN (%s) AND c.parentId<>0 " +
			"AND c.status=0 AND d.id IS NULL ORDER BY c.id",
		text: "department %[1]s is below department %[2]s, which does not exist",
		mend: e.toTop,
	}
}

// toTop moves a department to the top.
func (e *entries) toTop(ctx context.Context, f Finding) error {
	all, _, err := e.store.DepartsChangedSince(ctx, 0)
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.ID == id(f.values[0]) && d.Parent == id(f.values[1]) {
			d.Parent = 0
			return e.store.UpdateDepart(ctx, d)
		}
	}
	return nil
}

// creators looks for groups whose creator does not exist. A user that has departed
// exists. A group without a creator is one that an administrator has made.
func (e *entries) creators() Check {
	return &table{
		about: About{
			Name:     "creators",
			Compares: "groups with the users that made them",
			Repair:   "the member that has been in the group longest becomes the creator",
		},
		db: e.db, subjects: rowIDs("IMGroup"),
		look: "SELECT g.id, g.creator, COALESCE((SELECT m.userId FROM IMGroupMember AS m " +
			"JOIN IMUser AS v ON v.id=m.userId AND COALESCE(v.status, 0)<>3 " +
			"WHERE m.groupId=g.id" + e.in + " ORDER BY m.created, m.userId LIMIT 1), 0) " +
			"FROM IMGroup AS g LEFT JOIN IMUser AS u ON u.id=g.creator " +
			"WHERE g.id IN (%s) AND g.creator<>0" + e.there + " AND u.id IS NULL ORDER BY g.id",
		text: "group %[1]s was made by user %[2]s, which does not exist (next in line: user " +
			"%[3]s; 0: none)",
		keys: 2,
		mend: func(ctx context.Context, f Finding) error {
			if f.values[2] == "0" {
				return nil
			}
			return e.creator(ctx, id(f.values[0]), id(f.values[1]), id(f.values[2]))
		},
	}
}

// members looks for memberships of users or groups that do not exist.
func (e *entries) members() Check {
	return &table{
		about: About{
			Name:     "members",
			Compares: "members of groups with users and groups",
			Repair: "a user that does not exist leaves the group; so do all members of a group " +
				"that does not exist",
		},
		db: e.db,
		subjects: "SELECT DISTINCT groupId FROM IMGroupMember WHERE groupId>? " +
			"ORDER BY groupId LIMIT ?",
		look: "SELECT m.groupId, m.userId, CASE WHEN g.id IS NULL THEN 'group' ELSE 'user' END " +
			"FROM IMGroupMember AS m LEFT JOIN IMGroup AS g ON g.id=m.groupId " +
			"LEFT JOIN IMUser AS u ON u.id=m.userId WHERE m.groupId IN (%s)" + e.in +
			" AND (g.id IS NULL OR u.id IS NULL) ORDER BY m.groupId, m.userId",
		text: "user %[2]s is a member of group %[1]s: the %[3]s does not exist",
		mend: func(ctx context.Context, f Finding) error {
			group, user := id(f.values[0]), id(f.values[1])
			if f.values[2] == "group" {
				return e.orphan(ctx, group, user)
			}
			_, err := e.store.ChangeMembers(ctx, im.MemberEdit{Group: group,
				Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, Users: []uint32{user}})
			return err
		},
	}
}
