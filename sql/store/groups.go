package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// A change of a group is one transaction that first locks the group's row. So changes by
// different processes run one after the other. The same transaction writes to the outbox
// what Redis must learn of the change for C++ servers (mirror.go).

// groups is the part that reads and changes groups.
type groups struct {
	db       *databases
	ids      *messageIDs
	members  *members
	outbox   *outbox
	mirror   *mirror
	sessions *sessions
}

// newGroups makes the part.
func newGroups(db *databases, ids *messageIDs, members *members, outbox *outbox, mirror *mirror,
	sessions *sessions) *groups {
	return &groups{db: db, ids: ids, members: members, outbox: outbox, mirror: mirror,
		sessions: sessions}
}

// groupColumns are the columns of a group, in the order of groupFields.
const groupColumns = "id, name, avatar, creator, type, version, created, updated, lastChated"

// groupFields returns the destinations for a row of groupColumns.
func groupFields(g *im.Group) []any {
	return []any{&g.ID, &g.Name, &g.Avatar, &g.Creator, &g.Type, &g.Version, &g.Created,
		&g.Updated, &g.LastChat}
}

// CreateGroup creates a group; see im.GroupStore.
func (s *groups) CreateGroup(ctx context.Context, g im.Group) (im.Group, error) {
	if err := im.CheckGroup(&g); err != nil {
		return im.Group{}, err
	}
	asked := distinct(g.Members)
	owed, err := s.change(ctx, func(tx *sql.Tx) (dues, error) {
		var err error
		if g.Members, err = presentUsers(ctx, tx, asked); err != nil {
			return dues{}, err
		}
		if len(g.Members) == 0 {
			return dues{}, im.Errorf(im.Invalid, "group without members")
		}
		if err := im.CheckGroupSize(len(g.Members)); err != nil {
			return dues{}, err
		}
		g.Version, g.Created, g.LastChat = 1, uint32(s.db.time().Unix()), 0
		g.Updated = g.Created
		if g.ID, err = insertGroup(ctx, tx, g); err != nil {
			return dues{}, err
		}
		if err := insertMembers(ctx, tx, g.ID, g.Members, joining{at: g.Created}); err != nil {
			return dues{}, err
		}
		return dues{changes: []memberChange{{group: g.ID, version: 1, joined: true,
			users: g.Members}}}, nil
	})
	if err != nil {
		return im.Group{}, s.db.dbError("create group", err)
	}
	s.db.m.changes.WithLabelValues("created").Inc()
	s.mirror.tell(ctx, owed)
	g.Members = slices.Clone(g.Members)
	return g, nil
}

// presentUsers returns those of the users that exist and have not departed.
func presentUsers(ctx context.Context, db querier, ids []uint32) ([]uint32, error) {
	var list []uint32
	err := inChunks(ids, 1000, func(part []uint32) error {
		some, err := numbers(ctx, db, fmt.Sprintf("SELECT id FROM IMUser WHERE id IN (%s) "+
			"AND COALESCE(status, 0)<>%d ORDER BY id", join(part), im.StatusDeparted))
		list = append(list, some...)
		return err
	})
	return list, err
}

// insertGroup inserts a group's row and returns its id.
func insertGroup(ctx context.Context, tx *sql.Tx, g im.Group) (uint32, error) {
	res, err := tx.ExecContext(ctx, "INSERT INTO IMGroup "+
		"(name,avatar,creator,type,userCnt,status,version,lastChated,updated,created) "+
		"VALUES (?,?,?,?,?,0,1,0,?,?)",
		g.Name, g.Avatar, g.Creator, uint32(g.Type), len(g.Members), g.Updated, g.Created)
	if err != nil {
		return 0, err
	}
	id, err := res.LastInsertId()
	return uint32(id), err
}

// insertMembers inserts the rows of users that were never members of the group.
func insertMembers(ctx context.Context, tx *sql.Tx, group uint32, users []uint32,
	j joining) error {
	return inChunks(users, 1000, func(part []uint32) error {
		b := []byte("INSERT INTO IMGroupMember " +
			"(groupId,userId,status,created,updated,joinedAt,joinMsgId) VALUES ")
		for i, u := range part {
			if i > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, "(%d,%d,0,%d,%[3]d,%[3]d,%d)", group, u, j.at, j.after)
		}
		_, err := tx.ExecContext(ctx, string(b))
		return err
	})
}

// errUnchanged ends a transaction that would change nothing.
var errUnchanged = fmt.Errorf("nothing to change")

// owedChange is what a committed change owes to Redis, with its owner in the outbox.
type owedChange struct {
	sl   *slot
	owed dues
}

// change runs do in a transaction, and commits with it what do returns as owed. It
// retries after a deadlock or a lost connection.
func (s *groups) change(ctx context.Context,
	do func(tx *sql.Tx) (dues, error)) (owedChange, error) {
	c := owedChange{sl: newSlot()}
	err := s.db.retry(ctx, func() error {
		conn, err := s.db.master.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		s.outbox.begin(c.sl)
		if c.owed, err = do(tx); err == nil {
			err = writeDues(ctx, atOnce{tx}, c.sl, c.owed)
		}
		if err != nil {
			tx.Rollback() // if it fails, the connection is lost and the transaction with it
			return err
		}
		return s.outbox.finish(ctx, conn, c.sl, c.owed, nil, tx.Commit)
	})
	return c, err
}

// ChangeMembers adds users to a group or removes them; see im.GroupStore.
func (s *groups) ChangeMembers(ctx context.Context, group uint32, t pb.GroupModifyType,
	users []uint32, allow func(g *im.Group) error) (im.MemberChange, error) {
	adding := t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	if !adding && t != pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL {
		return im.MemberChange{}, im.Errorf(im.Invalid, "unknown change %d of members", t)
	}
	asked := distinct(users)
	var result im.MemberChange
	var refused error
	owed, err := s.change(ctx, func(tx *sql.Tx) (dues, error) {
		g, err := lockGroup(ctx, tx, group)
		if err != nil {
			return dues{}, err
		}
		result = im.MemberChange{Version: g.Version, Current: g.Members}
		if allow != nil {
			shown := g
			shown.Members = slices.Clone(g.Members)
			if refused = allow(&shown); refused != nil {
				return dues{}, errUnchanged
			}
		}
		return s.changeMembers(ctx, tx, g, adding, asked, &result)
	})
	switch {
	case refused != nil:
		return im.MemberChange{}, refused
	case err == errUnchanged:
		return result, nil
	case err != nil:
		return im.MemberChange{}, s.db.dbError("change members", err)
	}
	what := "removed"
	if adding {
		what = "added"
	}
	s.db.m.changes.WithLabelValues(what).Inc()
	for _, u := range result.Changed {
		s.sessions.forgetSide(u, group, true)
	}
	s.members.put(group, membership{result.Version, slices.Clone(result.Current)})
	s.mirror.tell(ctx, owed)
	return result, nil
}

// lockGroup reads a group and its current members. The group's row stays locked until the
// transaction ends.
func lockGroup(ctx context.Context, tx *sql.Tx, id uint32) (im.Group, error) {
	var g im.Group
	err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT "+groupColumns+" FROM IMGroup "+
		"WHERE id=%d AND status=0 FOR UPDATE", id)).Scan(groupFields(&g)...)
	if err == sql.ErrNoRows {
		return g, errNoGroup(id)
	}
	if err != nil {
		return g, err
	}
	// This is the transaction's first read without a lock, so it sees all commits up to
	// now.
	g.Members, err = numbers(ctx, tx, fmt.Sprintf("SELECT DISTINCT userId FROM IMGroupMember "+
		"WHERE groupId=%d AND status=0 ORDER BY userId", id))
	return g, err
}

// errNoGroup returns the error for a group that does not exist.
func errNoGroup(id uint32) error { return im.Errorf(im.NotFound, "group %d does not exist", id) }

// changeMembers writes a change of the members of g and stores its outcome in result.
func (s *groups) changeMembers(ctx context.Context, tx *sql.Tx, g im.Group, adding bool,
	asked []uint32, result *im.MemberChange) (dues, error) {
	in := membership{users: g.Members}
	changed := slices.DeleteFunc(slices.Clone(asked), func(u uint32) bool {
		return in.has(u) == adding
	})
	var err error
	if adding {
		if changed, err = presentUsers(ctx, tx, changed); err != nil {
			return dues{}, err
		}
	}
	if len(changed) == 0 {
		return dues{}, errUnchanged
	}
	now := uint32(s.db.time().Unix())
	var current []uint32
	if adding {
		current = append(slices.Clone(g.Members), changed...)
		slices.Sort(current)
		if err = im.CheckGroupSize(len(current)); err == nil {
			err = s.addMembers(ctx, tx, g.ID, changed, now)
		}
	} else {
		out := membership{users: changed}
		current = slices.DeleteFunc(slices.Clone(g.Members), out.has)
		err = s.removeMembers(ctx, tx, g.ID, changed, now)
	}
	if err != nil {
		return dues{}, err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMGroup SET version=version+1, userCnt=%d, "+
		"updated=GREATEST(updated, %d) WHERE id=%d", len(current), now, g.ID))
	if err != nil {
		return dues{}, err
	}
	*result = im.MemberChange{Version: g.Version + 1, Current: current, Changed: changed}
	return dues{changes: []memberChange{{group: g.ID, version: result.Version, joined: adding,
		users: changed}}}, nil
}

// addMembers adds users. It reuses the rows of former members and inserts the others.
func (s *groups) addMembers(ctx context.Context, tx *sql.Tx, group uint32, users []uint32,
	now uint32) error {
	of := thread{group: true, id: group}
	highest, err := s.ids.highestIDs(ctx, tx, []thread{of})
	if err != nil {
		return err
	}
	j := joining{after: highest[of], at: now}
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
	err = inChunks(rows, 1000, func(part []uint32) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMGroupMember "+
			"SET status=0, created=%d, updated=%[1]d, joinedAt=%[1]d, joinMsgId=%d "+
			"WHERE id IN (%s)", j.at, j.after, join(part)))
		return err
	})
	if err != nil {
		return err
	}
	return insertMembers(ctx, tx, group, fresh, j)
}

// removeMembers marks members as removed, and removes the group from their lists of
// conversations: C++ servers list every conversation that has a row.
func (s *groups) removeMembers(ctx context.Context, tx *sql.Tx, group uint32, users []uint32,
	now uint32) error {
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
	err = inChunks(rows, 1000, func(part []uint32) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMGroupMember SET status=1, updated=%d "+
			"WHERE id IN (%s)", now, join(part)))
		return err
	})
	if err != nil {
		return err
	}
	of := thread{group: true, id: group}
	highest, err := s.ids.highestIDs(ctx, tx, []thread{of})
	if err != nil {
		return err
	}
	return inChunks(users, 1000, func(part []uint32) error {
		ids, err := numbers(ctx, tx, fmt.Sprintf("SELECT id FROM IMRecentSession "+
			"WHERE userId IN (%s) AND peerId=%d AND type=%d AND status=0 ORDER BY id",
			join(part), group, pb.SessionType_SESSION_TYPE_GROUP))
		if err != nil || len(ids) == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("UPDATE IMRecentSession "+
			"SET status=1, removedMsgId=%d WHERE id IN (%s)", highest[of], join(ids)))
		return err
	})
}

// memberRows calls do with the rows that users have in a group.
func memberRows(ctx context.Context, tx *sql.Tx, group uint32, users []uint32,
	do func(id, user, status uint32)) error {
	return inChunks(users, 1000, func(part []uint32) error {
		rows, err := tx.QueryContext(ctx, fmt.Sprintf("SELECT id, userId, status "+
			"FROM IMGroupMember WHERE groupId=%d AND userId IN (%s)", group, join(part)))
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

// SetGroupName changes a group's name; see im.GroupStore.
func (s *groups) SetGroupName(ctx context.Context, group uint32, name string) error {
	if err := im.CheckGroupName(name); err != nil {
		return err
	}
	var found int64
	err := s.db.retry(ctx, func() error {
		res, err := s.db.master.ExecContext(ctx, "UPDATE IMGroup SET name=?, version=version+1, "+
			"updated=GREATEST(updated, ?) WHERE id=? AND status=0", name, s.db.time().Unix(), group)
		if err == nil {
			found, err = res.RowsAffected()
		}
		return err
	})
	if err != nil {
		return s.db.dbError("rename group", err)
	}
	if found == 0 {
		return errNoGroup(group)
	}
	s.db.m.changes.WithLabelValues("renamed").Inc()
	return nil
}

// Groups returns groups by id; see im.GroupStore. Everything about groups except their
// messages is read from the master, because it must include the last change.
func (s *groups) Groups(ctx context.Context, ids []uint32) ([]im.Group, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.db.dbError("read groups", err)
	}
	var list []im.Group
	err := inChunks(distinct(ids), 1000, func(part []uint32) error {
		some, err := s.groupsWhere(ctx, "id IN ("+join(part)+")")
		list = append(list, some...)
		return err
	})
	return list, s.db.dbError("read groups", err)
}

// ListGroups returns groups in order of id; see im.GroupStore.
func (s *groups) ListGroups(ctx context.Context, after uint32, limit int) ([]im.Group, error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, s.db.dbError("list groups", err)
	}
	list, err := s.groupsWhere(ctx, fmt.Sprintf("id>%d ORDER BY id LIMIT %d", after, limit))
	return list, s.db.dbError("list groups", err)
}

// groupsWhere returns the groups that a condition selects, with their members. A group
// that changes between the two reads has its earlier version and its later members. A
// caller that compares versions then asks again.
func (s *groups) groupsWhere(ctx context.Context, where string) ([]im.Group, error) {
	list, err := readGroups(ctx, s.db.master, where)
	if err != nil {
		return nil, err
	}
	versions := make([]im.GroupVersion, len(list))
	for i, g := range list {
		versions[i] = im.GroupVersion{ID: g.ID, Version: g.Version}
	}
	members, err := s.members.membersAt(ctx, s.db.master, versions)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Members = slices.Clone(members[list[i].ID].users)
	}
	return list, nil
}

// readGroups reads groups without their members.
func readGroups(ctx context.Context, db querier, where string) ([]im.Group, error) {
	rows, err := db.QueryContext(ctx, "SELECT "+groupColumns+" FROM IMGroup "+
		"WHERE status=0 AND "+where)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []im.Group
	for rows.Next() {
		var g im.Group
		if err := rows.Scan(groupFields(&g)...); err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, rows.Err()
}

// GroupVersions returns the versions of groups; see im.GroupStore.
func (s *groups) GroupVersions(ctx context.Context, ids []uint32) ([]im.GroupVersion, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.db.dbError("read group versions", err)
	}
	list, err := groupVersions(ctx, s.db.master, ids)
	return list, s.db.dbError("read group versions", err)
}

// GroupsOf returns a user's groups; see im.GroupStore.
func (s *groups) GroupsOf(ctx context.Context, user uint32, t pb.GroupType,
	since uint32) ([]im.GroupVersion, error) {
	var q strings.Builder
	fmt.Fprintf(&q, "SELECT DISTINCT g.id, g.version FROM IMGroupMember AS m JOIN IMGroup AS g "+
		"ON g.id=m.groupId WHERE m.userId=%d AND m.status=0 AND g.status=0 AND g.type=%d",
		user, t)
	if since > 0 {
		fmt.Fprintf(&q, " AND (g.updated>=%d OR m.created>=%[1]d OR m.updated>=%[1]d)", since)
	}
	q.WriteString(" ORDER BY g.id")
	rows, err := s.db.master.QueryContext(ctx, q.String())
	if err != nil {
		return nil, s.db.dbError("read a user's groups", err)
	}
	defer rows.Close()
	var list []im.GroupVersion
	for rows.Next() {
		var v im.GroupVersion
		if err := rows.Scan(&v.ID, &v.Version); err != nil {
			return nil, s.db.dbError("read a user's groups", err)
		}
		list = append(list, v)
	}
	return list, s.db.dbError("read a user's groups", rows.Err())
}
