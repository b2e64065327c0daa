package groups

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/outbox"
)

// ChangeMembers adds users to a group or removes them; see im.GroupStore.
func (s *Groups) ChangeMembers(ctx context.Context, e im.MemberEdit) (im.MemberChange, error) {
	adding := e.Type == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	if !adding && e.Type != pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL {
		return im.MemberChange{}, im.Errorf(im.Invalid, "unknown change %d of members", e.Type)
	}
	group := e.Group
	var result im.MemberChange
	var refused error
	owed, err := s.change(ctx, func(tx *sql.Tx) (outbox.Dues, error) {
		g, err := lockGroup(ctx, tx, group)
		if err != nil {
			return outbox.Dues{}, err
		}
		result = im.MemberChange{Version: g.Version, Current: g.Members}
		now := e
		if now.Users, refused, err = allowed(ctx, tx, e, g); err != nil {
			return outbox.Dues{}, err
		} else if refused != nil {
			return outbox.Dues{}, errUnchanged
		}
		return s.changeMembers(ctx, tx, g, now, &result)
	})
	switch {
	case refused != nil:
		return im.MemberChange{}, refused
	case err == errUnchanged:
		return result, nil
	case err != nil:
		return im.MemberChange{}, s.db.SQLError("change members", err)
	}
	what := "removed"
	if adding {
		what = "added"
	}
	s.mirror.changes.WithLabelValues(what).Inc()
	for _, u := range result.Changed {
		s.rows.Forget(u, group, true)
	}
	s.members.Put(group, members.Members{Version: result.Version,
		Users: slices.Clone(result.Current)})
	s.mirror.tell(ctx, owed)
	return result, nil
}

// allowed returns the users that e may change in group g, or why it may change none.
func allowed(ctx context.Context, tx *sql.Tx, e im.MemberEdit, g im.Group) (users []uint32,
	refused, err error) {
	if e.Allow == nil {
		return e.Users, nil, nil
	}
	var left []uint32
	if e.Type == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD {
		if left, err = members.Left(ctx, tx, g.ID, e.Users, e.LeftSince); err != nil {
			return nil, nil, err
		}
	}
	g.Members = slices.Clone(g.Members)
	users, refused = e.Allow(&g, left)
	return users, refused, nil
}

// changeMembers writes a change of the members of g and stores its outcome in result.
func (s *Groups) changeMembers(ctx context.Context, tx *sql.Tx, g im.Group, e im.MemberEdit,
	result *im.MemberChange) (outbox.Dues, error) {
	adding := e.Type == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	in := members.Members{Users: g.Members}
	changed := slices.DeleteFunc(database.Distinct(e.Users), func(u uint32) bool {
		return in.Has(u) == adding
	})
	var err error
	if adding {
		if changed, err = presentUsers(ctx, tx, changed); err != nil {
			return outbox.Dues{}, err
		}
	}
	if len(changed) == 0 {
		return outbox.Dues{}, errUnchanged
	}
	now := uint32(s.db.Time().Unix())
	var current []uint32
	if adding {
		current = append(slices.Clone(g.Members), changed...)
		slices.Sort(current)
		if err = im.CheckGroupSize(len(current)); err == nil {
			err = s.addMembers(ctx, tx, g.ID, changed, e.By, now)
		}
	} else {
		out := members.Members{Users: changed}
		current = slices.DeleteFunc(slices.Clone(g.Members), out.Has)
		err = s.removeMembers(ctx, tx, g.ID, changed, e.By, now)
	}
	if err != nil {
		return outbox.Dues{}, err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMGroup SET version=version+1, userCnt=%d, "+
		"updated=GREATEST(updated, %d) WHERE id=%d", len(current), now, g.ID))
	if err != nil {
		return outbox.Dues{}, err
	}
	*result = im.MemberChange{Version: g.Version + 1, Current: current, Changed: changed}
	return outbox.Dues{Changes: []outbox.MemberChange{{Group: g.ID, Version: result.Version,
		Joined: adding,
		Users:  changed}}}, nil
}

// addMembers adds users, for user by. It reuses the rows of former members and inserts the
// others.
func (s *Groups) addMembers(ctx context.Context, tx *sql.Tx, group uint32, users []uint32,
	by, now uint32) error {
	of := conversation.Thread{Group: true, ID: group}
	highest, err := s.ids.Highest(ctx, tx, []conversation.Thread{of})
	if err != nil {
		return err
	}
	j := members.Joining{After: highest[of], At: now}
	known := map[uint32]uint32{}
	err = memberRows(ctx, tx, group, users, func(id, user, _ uint32) {
		known[user] = max(known[user], id)
	})
	if err != nil {
		return err
	}
	var fresh, rows []uint32
	for _, u := range users {
		if id, ok := known[u]; ok {
			rows = append(rows, id)
		} else {
			fresh = append(fresh, u)
		}
	}
	slices.Sort(rows)
	err = database.InChunks(rows, 1000, func(part []uint32) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMGroupMember "+
			"SET status=0, created=%d, updated=%[1]d, joinedAt=%[1]d, joinMsgId=%d, leftAt=0, "+
			"addedBy=IF(userId=%[3]d, 0, %[3]d) WHERE id IN (%[4]s)", j.At, j.After, by,
			database.Join(part)))
		return err
	})
	if err != nil {
		return err
	}
	return insertMembers(ctx, tx, group, fresh, by, j)
}

// removeMembers marks members as removed, user by as one that left, and removes the group
// from their lists of conversations: C++ servers list every conversation that has a row.
func (s *Groups) removeMembers(ctx context.Context, tx *sql.Tx, group uint32, users []uint32,
	by, now uint32) error {
	var rows []uint32
	err := memberRows(ctx, tx, group, users, func(id, _, status uint32) {
		if status == 0 {
			rows = append(rows, id)
		}
	})
	if err != nil {
		return err
	}
	slices.Sort(rows)
	err = database.InChunks(rows, 1000, func(part []uint32) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMGroupMember SET status=1, updated=%d, "+
			"leftAt=IF(userId=%d, %[1]d, 0), addedBy=0 WHERE id IN (%[3]s)", now, by,
			database.Join(part)))
		return err
	})
	if err != nil {
		return err
	}
	of := conversation.Thread{Group: true, ID: group}
	highest, err := s.ids.Highest(ctx, tx, []conversation.Thread{of})
	if err != nil {
		return err
	}
	return database.InChunks(users, 1000, func(part []uint32) error {
		ids, err := database.Numbers(ctx, tx, fmt.Sprintf("SELECT id FROM IMRecentSession "+
			"WHERE userId IN (%s) AND peerId=%d AND type=%d AND status=0 ORDER BY id",
			database.Join(part), group, pb.SessionType_SESSION_TYPE_GROUP))
		if err != nil || len(ids) == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMRecentSession "+
			"SET status=1, removedMsgId=%d WHERE id IN (%s)", highest[of], database.Join(ids)))
		return err
	})
}

// memberRows calls do with the rows that users have in a group.
func memberRows(ctx context.Context, tx *sql.Tx, group uint32, users []uint32,
	do func(id, user, status uint32)) error {
	return database.InChunks(users, 1000, func(part []uint32) error {
		rows, err := tx.QueryContext(ctx, fmt.Sprintf("SELECT id, userId, status "+
			"FROM IMGroupMember WHERE groupId=%d AND userId IN (%s)", group, database.Join(part)))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, user, status uint32
			if err := rows.Scan(&id, &user, &status); err != nil {
				return err
			}
			do(id, user, status)
		}
		return rows.Err()
	})
}
