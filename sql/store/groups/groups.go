// Package groups reads and changes groups and their members, and mirrors the members in Redis for
// C++ servers.
package groups

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/sessions"
)

// A change of a group is one transaction that first locks the group's row. So changes by
// different processes run one after the other. The same transaction writes to the outbox
// what Redis must learn of the change for C++ servers (mirror.go).

// Groups is the part that reads and changes groups.
type Groups struct {
	db      *database.DB
	ids     *conversation.IDs
	members *members.Reader
	outbox  *outbox.Outbox
	mirror  *Mirror
	rows    *sessions.Rows
}

// New makes the part.
func New(db *database.DB, ids *conversation.IDs, members *members.Reader, outbox *outbox.Outbox,
	mirror *Mirror, rows *sessions.Rows) *Groups {
	return &Groups{db: db, ids: ids, members: members, outbox: outbox, mirror: mirror, rows: rows}
}

// groupColumns are the columns of a group, in the order of groupFields.
const groupColumns = "id, name, avatar, creator, type, version, created, updated, lastChated"

// groupFields returns the destinations for a row of groupColumns.
func groupFields(g *im.Group) []any {
	return []any{&g.ID, &g.Name, &g.Avatar, &g.Creator, &g.Type, &g.Version, &g.Created,
		&g.Updated, &g.LastChat}
}

// CreateGroup creates a group; see im.GroupStore.
func (s *Groups) CreateGroup(ctx context.Context, g im.Group, by uint32) (im.Group, error) {
	if err := im.CheckGroup(&g); err != nil {
		return im.Group{}, err
	}
	asked := database.Distinct(g.Members)
	owed, err := s.change(ctx, func(tx *sql.Tx) (outbox.Dues, error) {
		var err error
		if g.Members, err = presentUsers(ctx, tx, asked); err != nil {
			return outbox.Dues{}, err
		}
		if len(g.Members) == 0 {
			return outbox.Dues{}, im.Errorf(im.Invalid, "group without members")
		}
		if err := im.CheckGroupSize(len(g.Members)); err != nil {
			return outbox.Dues{}, err
		}
		g.Version, g.Created, g.LastChat = 1, uint32(s.db.Time().Unix()), 0
		g.Updated = g.Created
		if g.ID, err = insertGroup(ctx, tx, g); err != nil {
			return outbox.Dues{}, err
		}
		if err := insertMembers(ctx, tx, g.ID, g.Members, by,
			members.Joining{At: g.Created}); err != nil {
			return outbox.Dues{}, err
		}
		return outbox.Dues{Changes: []outbox.MemberChange{{Group: g.ID, Version: 1, Joined: true,
			Users: g.Members}}}, nil
	})
	if err != nil {
		return im.Group{}, s.db.SQLError("create group", err)
	}
	s.mirror.changes.WithLabelValues("created").Inc()
	s.mirror.tell(ctx, owed)
	g.Members = slices.Clone(g.Members)
	return g, nil
}

// presentUsers returns those of the users that exist and have not departed.
func presentUsers(ctx context.Context, db database.Querier, ids []uint32) ([]uint32, error) {
	var list []uint32
	err := database.InChunks(ids, 1000, func(part []uint32) error {
		some, err := database.Numbers(ctx, db, fmt.Sprintf("SELECT id FROM IMUser "+
			"WHERE id IN (%s) AND COALESCE(status, 0)<>%d ORDER BY id", database.Join(part),
			im.StatusDeparted))
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

// insertMembers inserts the rows of users that were never members of the group, and that user
// by adds.
func insertMembers(ctx context.Context, tx *sql.Tx, group uint32, users []uint32, by uint32,
	j members.Joining) error {
	return database.InChunks(users, 1000, func(part []uint32) error {
		b := []byte("INSERT INTO IMGroupMember " +
			"(groupId,userId,status,created,updated,joinedAt,joinMsgId,addedBy) VALUES ")
		for i, u := range part {
			if i > 0 {
				b = append(b, ',')
			}
			from := by
			if u == by {
				from = 0
			}
			b = fmt.Appendf(b, "(%d,%d,0,%d,%[3]d,%[3]d,%d,%d)", group, u, j.At, j.After, from)
		}
		_, err := tx.ExecContext(ctx, string(b))
		return err
	})
}

// errUnchanged ends a transaction that would change nothing.
var errUnchanged = fmt.Errorf("nothing to change")

// owedChange is what a committed change owes to Redis, with its owner in the outbox.
type owedChange struct {
	sl   *outbox.Slot
	owed outbox.Dues
}

// change runs do in a transaction, and commits with it what do returns as owed. It
// retries after a deadlock or a lost connection.
func (s *Groups) change(ctx context.Context,
	do func(tx *sql.Tx) (outbox.Dues, error)) (owedChange, error) {
	c := owedChange{sl: outbox.NewSlot()}
	err := s.db.Retry(ctx, func() error {
		conn, err := s.db.Master.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		s.outbox.Begin(c.sl)
		if c.owed, err = do(tx); err == nil {
			err = outbox.Write(ctx, database.Direct{Querier: tx}, c.sl, c.owed)
		}
		if err != nil {
			tx.Rollback() // if it fails, the connection is lost and the transaction with it
			return err
		}
		return s.outbox.Finish(ctx, conn, c.sl, c.owed, nil, tx.Commit)
	})
	return c, err
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
	g.Members, err = database.Numbers(ctx, tx, fmt.Sprintf("SELECT DISTINCT userId "+
		"FROM IMGroupMember WHERE groupId=%d AND status=0 ORDER BY userId", id))
	return g, err
}

// errNoGroup returns the error for a group that does not exist.
func errNoGroup(id uint32) error { return im.Errorf(im.NotFound, "group %d does not exist", id) }

// SetGroupName changes a group's name; see im.GroupStore.
func (s *Groups) SetGroupName(ctx context.Context, group uint32, name string) error {
	if err := im.CheckGroupName(name); err != nil {
		return err
	}
	var found int64
	err := s.db.Retry(ctx, func() error {
		res, err := s.db.Master.ExecContext(ctx, "UPDATE IMGroup SET name=?, version=version+1, "+
			"updated=GREATEST(updated, ?) WHERE id=? AND status=0", name, s.db.Time().Unix(), group)
		if err == nil {
			found, err = res.RowsAffected()
		}
		return err
	})
	if err != nil {
		return s.db.SQLError("rename group", err)
	}
	if found == 0 {
		return errNoGroup(group)
	}
	s.mirror.changes.WithLabelValues("renamed").Inc()
	return nil
}

// Groups returns groups by id; see im.GroupStore. Everything about groups except their
// messages is read from the master, because it must include the last change.
func (s *Groups) Groups(ctx context.Context, ids []uint32) ([]im.Group, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.db.SQLError("read groups", err)
	}
	var list []im.Group
	err := database.InChunks(database.Distinct(ids), 1000, func(part []uint32) error {
		some, err := s.groupsWhere(ctx, "id IN ("+database.Join(part)+")")
		list = append(list, some...)
		return err
	})
	return list, s.db.SQLError("read groups", err)
}

// ListGroups returns groups in order of id; see im.GroupStore.
func (s *Groups) ListGroups(ctx context.Context, after uint32, limit int) ([]im.Group, error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, s.db.SQLError("list groups", err)
	}
	list, err := s.groupsWhere(ctx, fmt.Sprintf("id>%d ORDER BY id LIMIT %d", after, limit))
	return list, s.db.SQLError("list groups", err)
}

// groupsWhere returns the groups that a condition selects, with their members. A group
// that changes between the two reads has its earlier version and its later members. A
// caller that compares versions then asks again.
func (s *Groups) groupsWhere(ctx context.Context, where string) ([]im.Group, error) {
	list, err := readGroups(ctx, s.db.Master, where)
	if err != nil {
		return nil, err
	}
	versions := make([]im.GroupVersion, len(list))
	for i, g := range list {
		versions[i] = im.GroupVersion{ID: g.ID, Version: g.Version}
	}
	members, err := s.members.At(ctx, s.db.Master, versions)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Members = slices.Clone(members[list[i].ID].Users)
	}
	return list, nil
}

// readGroups reads groups without their members.
func readGroups(ctx context.Context, db database.Querier, where string) ([]im.Group, error) {
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

// LeftGroup returns those of users that left a group by themselves; see im.GroupStore.
func (s *Groups) LeftGroup(ctx context.Context, group uint32, users []uint32,
	since uint32) ([]uint32, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.db.SQLError("read departures from a group", err)
	}
	left, err := members.Left(ctx, s.db.Master, group, users, since)
	return left, s.db.SQLError("read departures from a group", err)
}

// GivenMemberships returns those of users with many memberships from others; see
// im.GroupStore.
func (s *Groups) GivenMemberships(ctx context.Context, users []uint32, by uint32,
	n int) ([]uint32, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.db.SQLError("count memberships", err)
	}
	many, err := members.Given(ctx, s.db.Master, users, by, n)
	return many, s.db.SQLError("count memberships", err)
}

// GroupVersions returns the versions of groups; see im.GroupStore.
func (s *Groups) GroupVersions(ctx context.Context, ids []uint32) ([]im.GroupVersion, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.db.SQLError("read group versions", err)
	}
	list, err := members.Versions(ctx, s.db.Master, ids)
	return list, s.db.SQLError("read group versions", err)
}

// GroupsOf returns a user's groups; see im.GroupStore.
func (s *Groups) GroupsOf(ctx context.Context, user uint32, t pb.GroupType,
	since uint32) ([]im.GroupVersion, error) {
	var q strings.Builder
	fmt.Fprintf(&q, "SELECT DISTINCT g.id, g.version FROM IMGroupMember AS m JOIN IMGroup AS g "+
		"ON g.id=m.groupId WHERE m.userId=%d AND m.status=0 AND g.status=0", user)
	if t != 0 {
		fmt.Fprintf(&q, " AND g.type=%d", t)
	}
	if since > 0 {
		fmt.Fprintf(&q, " AND (g.updated>=%d OR m.created>=%[1]d OR m.updated>=%[1]d)", since)
	}
	q.WriteString(" ORDER BY g.id")
	rows, err := s.db.Master.QueryContext(ctx, q.String())
	if err != nil {
		return nil, s.db.SQLError("read a user's groups", err)
	}
	defer rows.Close()
	var list []im.GroupVersion
	for rows.Next() {
		var v im.GroupVersion
		if err := rows.Scan(&v.ID, &v.Version); err != nil {
			return nil, s.db.SQLError("read a user's groups", err)
		}
		list = append(list, v)
	}
	return list, s.db.SQLError("read a user's groups", rows.Err())
}
