package members

import (
	"context"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
)

// A row of a former member has the time of leaving, if the user left by itself, and that of a
// member has the user that added it. Both count only with the time at which they were
// written: servers that do not know the columns leave old values in them.

// Left returns those of users, in increasing order, that are not in a group because they left
// it by themselves at or after since; see im.GroupStore.
func Left(ctx context.Context, db database.Querier, group uint32, users []uint32,
	since uint32) ([]uint32, error) {
	var left []uint32
	if since == 0 {
		return nil, nil
	}
	// C++ servers may have inserted a member twice: one of the rows suffices to be a member.
	err := database.InChunks(database.Distinct(users), 1000, func(part []uint32) error {
		some, err := database.Numbers(ctx, db, fmt.Sprintf("SELECT userId FROM IMGroupMember "+
			"WHERE groupId=%d AND userId IN (%s) GROUP BY userId HAVING MIN(status)>0 "+
			"AND MAX(IF(leftAt=updated, leftAt, 0))>=%d ORDER BY userId", group,
			database.Join(part), since))
		left = append(left, some...)
		return err
	})
	return left, err
}

// Given returns those of users, in increasing order, that have at least n memberships from
// user by, or from any user; see im.GroupStore. An index alone tells how many memberships a
// user has, so the rows of only those with n or more are read.
func Given(ctx context.Context, db database.Querier, users []uint32, by uint32,
	n int) ([]uint32, error) {
	if n < 1 {
		return nil, im.Errorf(im.Invalid, "at least %d memberships", n)
	}
	from := fmt.Sprintf("addedBy=%d", by)
	if by == 0 {
		from = "addedBy<>0"
	}
	var many []uint32
	err := database.InChunks(database.Distinct(users), 1000, func(part []uint32) error {
		crowded, err := database.Numbers(ctx, db, fmt.Sprintf("SELECT userId "+
			"FROM IMGroupMember WHERE userId IN (%s) AND status=0 GROUP BY userId "+
			"HAVING COUNT(*)>=%d", database.Join(part), n))
		if err != nil || len(crowded) == 0 {
			return err
		}
		some, err := database.Numbers(ctx, db, fmt.Sprintf("SELECT userId "+
			"FROM IMGroupMember AS m WHERE userId IN (%s) AND status=0 AND %s "+
			"AND joinedAt="+joinTime+" "+
			"AND EXISTS (SELECT 1 FROM IMGroup AS g WHERE g.id=m.groupId AND g.status=0) "+
			"GROUP BY userId HAVING COUNT(*)>=%d ORDER BY userId", database.Join(crowded), from, n))
		many = append(many, some...)
		return err
	})
	return many, err
}
