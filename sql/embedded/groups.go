package embedded

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded/arrivals"
)

// groups is the part that reads and changes groups.
type groups struct{ *database }

// groupColumns are the columns of a group, with its members as a JSON array. The writer
// uses lastMsgId.
const groupColumns = `g.id, g.name, g.avatar, g.creator, g.type, g.version, g.created, g.updated,
	g.lastChated, g.lastMsgId,
	(select json_group_array(userId) from IMGroupMember where groupId = g.id)`

// scanGroup reads groupColumns.
func scanGroup(row scanner) (g im.Group, lastMsgID uint32, err error) {
	var members []byte
	err = row.Scan(&g.ID, &g.Name, &g.Avatar, &g.Creator, &g.Type, &g.Version, &g.Created,
		&g.Updated, &g.LastChat, &lastMsgID, &members)
	if err != nil {
		return im.Group{}, 0, err
	}
	if err := json.Unmarshal(members, &g.Members); err != nil {
		return im.Group{}, 0, err
	}
	slices.Sort(g.Members) // they are in the order of the key, which SQLite does not promise
	return g, lastMsgID, nil
}

// CreateGroup creates a group; see im.GroupStore.
func (s *groups) CreateGroup(ctx context.Context, g im.Group, by uint32) (made im.Group,
	err error) {
	var refused error
	err = s.call("create group", func() error {
		if err := im.CheckGroup(&g); err != nil {
			return err
		}
		err := s.run(ctx, transaction{}, func(w *writer) (err error) {
			made, refused, err = w.createGroup(g, by, uint32(s.time().Unix()))
			return err
		})
		return errors.Join(err, refused)
	})
	if err != nil {
		return im.Group{}, err
	}
	return made, nil
}

// createGroup inserts g for user by. The reason for a rejection is returned in refused, so
// that the transaction and the caches remain.
func (w *writer) createGroup(g im.Group, by, now uint32) (made im.Group, refused, err error) {
	if g.Members, err = w.present(g.Members); err != nil {
		return im.Group{}, nil, err
	}
	if n := len(g.Members); n == 0 {
		return im.Group{}, im.Errorf(im.Invalid, "group without members"), nil
	} else if refused := im.CheckGroupSize(n); refused != nil {
		return im.Group{}, refused, nil
	}
	result, err := w.conn.ExecContext(context.Background(), `insert into IMGroup (name, avatar,
		creator, type, version, lastMsgId, lastChated, created, updated)
		values (?1, ?2, ?3, ?4, 1, 0, 0, ?5, ?5)`, g.Name, g.Avatar, g.Creator, g.Type, now)
	if err != nil {
		return im.Group{}, nil, err
	}
	id, err := result.LastInsertId()
	if err != nil {
		return im.Group{}, nil, err
	}
	g.ID, g.Version, g.Created, g.Updated, g.LastChat = uint32(id), 1, now, now, 0
	return g, nil, w.join(g.ID, 0, g.Members, by, now)
}

// present returns those of the users that exist and have not departed, once each, in
// increasing order.
func (w *writer) present(users []uint32) (present []uint32, err error) {
	rows, err := w.conn.QueryContext(context.Background(),
		"select id from IMUser where id in (select value from json_each(?)) and status <> 3 "+
			"order by id", jsonArray(users))
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

// collect returns the ids in rows.
func collect(rows *sql.Rows) (ids []uint32, err error) {
	defer rows.Close()
	for rows.Next() {
		var id uint32
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// join adds members to a group, for user by. They see the messages after last.
func (w *writer) join(group, last uint32, users []uint32, by, now uint32) error {
	list := jsonArray(users)
	if err := w.exec("delete from IMGroupDeparture where groupId = ? and userId in (select "+
		"value from json_each(?))", group, list); err != nil {
		return err
	}
	return w.exec(`insert into IMGroupMember (groupId, userId, joinMsgId, readMsgId, created,
		addedBy) select ?1, value, ?2, ?2, ?3, case value when ?5 then 0 else ?5 end
		from json_each(?4)`, group, last, now, list, by)
}

// leave removes members from a group. User by is noted as one that left.
func (w *writer) leave(group uint32, users []uint32, by, now uint32) error {
	for _, u := range users {
		w.members.Remove(memberKey{group, u})
	}
	if slices.Contains(users, by) {
		if err := w.exec("insert into IMGroupDeparture (groupId, userId, leftAt) "+
			"values (?, ?, ?)", group, by, now); err != nil {
			return err
		}
	}
	return w.exec("delete from IMGroupMember "+
		"where groupId = ? and userId in (select value from json_each(?))", group, jsonArray(users))
}

// ChangeMembers adds users to a group or removes them; see im.GroupStore. e.Allow runs in
// the writer's transaction.
func (s *groups) ChangeMembers(ctx context.Context, e im.MemberEdit) (change im.MemberChange,
	err error) {
	var refused error
	err = s.call("change members", func() error {
		if e.Type != pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD &&
			e.Type != pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL {
			return im.Errorf(im.Invalid, "unknown change %d of members", e.Type)
		}
		scope := arrivals.Groups(e.Group)
		err := s.run(ctx, transaction{scope: scope}, func(w *writer) (err error) {
			change, refused, err = w.changeMembers(e, uint32(s.time().Unix()))
			return err
		})
		return errors.Join(err, refused)
	})
	if err != nil {
		return im.MemberChange{}, err
	}
	return change, nil
}

// changeMembers changes the members of a group. The reason for a rejection is returned in
// refused, so that the transaction and the caches remain: requests that are not allowed
// must not slow down other users.
func (w *writer) changeMembers(e im.MemberEdit, now uint32) (change im.MemberChange,
	refused, err error) {
	g, last, err := scanGroup(w.conn.QueryRowContext(context.Background(),
		"select "+groupColumns+" from IMGroup g where g.id = ?", e.Group))
	if errors.Is(err, sql.ErrNoRows) {
		return change, noGroup(e.Group), nil
	}
	if err != nil {
		return change, nil, err
	}
	adding := e.Type == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	if e.Allow != nil {
		var left []uint32
		if adding {
			if left, err = w.left(e); err != nil {
				return change, nil, err
			}
		}
		shown := g
		shown.Members = slices.Clone(g.Members)
		if e.Users, refused = e.Allow(&shown, left); refused != nil {
			return change, refused, nil
		}
	}
	changed := differ(g.Members, e.Users, adding)
	if adding && len(changed) > 0 {
		if changed, err = w.present(changed); err != nil {
			return change, nil, err
		}
	}
	if len(changed) == 0 {
		return im.MemberChange{Version: g.Version, Current: g.Members}, nil, nil
	}
	if adding {
		if refused := im.CheckGroupSize(len(g.Members) + len(changed)); refused != nil {
			return change, refused, nil
		}
	}
	current, err := w.setMembers(&g, last, changed, e, now)
	return im.MemberChange{Version: g.Version + 1, Current: current, Changed: changed}, nil, err
}

// left returns those of e's users that left the group by themselves.
func (w *writer) left(e im.MemberEdit) (left []uint32, err error) {
	if e.LeftSince == 0 {
		return nil, nil
	}
	rows, err := w.conn.QueryContext(context.Background(), leftGroup, e.Group,
		jsonArray(e.Users), e.LeftSince)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

// setMembers adds the changed users to g, whose newest message is last, or removes them.
// It returns the members after the change.
func (w *writer) setMembers(g *im.Group, last uint32, changed []uint32, e im.MemberEdit,
	now uint32) (current []uint32, err error) {
	if e.Type == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD {
		current = slices.Concat(g.Members, changed)
		slices.Sort(current)
		err = w.join(g.ID, last, changed, e.By, now)
	} else {
		current = slices.DeleteFunc(g.Members, func(u uint32) bool {
			_, gone := slices.BinarySearch(changed, u)
			return gone
		})
		err = w.leave(g.ID, changed, e.By, now)
	}
	if err == nil {
		_, err = w.changeGroup(g.ID, now, "")
	}
	return current, err
}

// differ returns the users to change, in increasing order and once each: those that are
// not members when adding, and those that are members otherwise.
func differ(members, users []uint32, adding bool) []uint32 {
	var changed []uint32
	for _, u := range users {
		if _, in := slices.BinarySearch(members, u); in != adding {
			changed = append(changed, u)
		}
	}
	slices.Sort(changed)
	return slices.Compact(changed)
}

func noGroup(id uint32) error { return im.Errorf(im.NotFound, "group %d does not exist", id) }

// changeGroup raises the version of a group, and sets its name unless name is empty. It
// reports whether the group exists. updated never decreases, even when the clock steps
// back: clients that ask for changes since a time would miss them.
func (w *writer) changeGroup(group, now uint32, name string) (bool, error) {
	w.groups.Remove(group)
	result, err := w.conn.ExecContext(context.Background(), `update IMGroup
		set version = version + 1, updated = max(updated, ?2),
		name = case ?3 when '' then name else ?3 end where id = ?1`, group, now, name)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// SetGroupName changes a group's name; see im.GroupStore.
func (s *groups) SetGroupName(ctx context.Context, group uint32, name string) error {
	return s.call("set group name", func() error {
		if err := im.CheckGroupName(name); err != nil {
			return err
		}
		found := false
		err := s.run(ctx, transaction{}, func(w *writer) (err error) {
			found, err = w.changeGroup(group, uint32(s.time().Unix()), name)
			return err
		})
		if err == nil && !found {
			return noGroup(group)
		}
		return err
	})
}

// groupRows runs a read of groups.
func (s *groups) groupRows(ctx context.Context, op string, scope arrivals.Scope,
	stmt *sql.Stmt, args ...any) ([]im.Group, error) {
	var groups []im.Group
	err := s.rows(ctx, op, scope, stmt, func(row scanner) error {
		g, _, err := scanGroup(row)
		groups = append(groups, g)
		return err
	}, args...)
	if err != nil {
		return nil, err
	}
	return groups, nil
}

// Groups returns groups by id; see im.GroupStore.
func (s *groups) Groups(ctx context.Context, ids []uint32) ([]im.Group, error) {
	return s.groupRows(ctx, "groups", arrivals.Groups(ids...), s.read.groups, jsonArray(ids))
}

// ListGroups returns a page of groups; see im.GroupStore.
func (s *groups) ListGroups(ctx context.Context, after uint32, limit int) ([]im.Group, error) {
	return s.groupRows(ctx, "list groups", arrivals.All, s.read.listGroups, after, max(limit, 0))
}

// versionRows runs a read of the versions of groups.
func (s *groups) versionRows(ctx context.Context, op string, stmt *sql.Stmt,
	args ...any) ([]im.GroupVersion, error) {
	var versions []im.GroupVersion
	err := s.rows(ctx, op, arrivals.None, stmt, func(row scanner) error {
		var v im.GroupVersion
		err := row.Scan(&v.ID, &v.Version)
		versions = append(versions, v)
		return err
	}, args...)
	if err != nil {
		return nil, err
	}
	return versions, nil
}

// idRows runs a read of ids.
func (s *groups) idRows(ctx context.Context, op string, stmt *sql.Stmt,
	args ...any) (ids []uint32, err error) {
	err = s.rows(ctx, op, arrivals.None, stmt, func(row scanner) error {
		var id uint32
		err := row.Scan(&id)
		ids = append(ids, id)
		return err
	}, args...)
	return ids, err
}

// LeftGroup returns those of users that left a group by themselves; see im.GroupStore.
func (s *groups) LeftGroup(ctx context.Context, group uint32, users []uint32,
	since uint32) ([]uint32, error) {
	return s.idRows(ctx, "left group", s.read.leftGroup, group, jsonArray(users), since)
}

// GivenMemberships returns those of users with many memberships from others; see
// im.GroupStore.
func (s *groups) GivenMemberships(ctx context.Context, users []uint32, by uint32,
	n int) ([]uint32, error) {
	if n < 1 {
		return nil, im.Errorf(im.Invalid, "at least %d memberships", n)
	}
	return s.idRows(ctx, "given memberships", s.read.givenMemberships, jsonArray(users), by, n)
}

// GroupVersions returns the versions of groups; see im.GroupStore.
func (s *groups) GroupVersions(ctx context.Context, ids []uint32) ([]im.GroupVersion, error) {
	return s.versionRows(ctx, "group versions", s.read.groupVersions, jsonArray(ids))
}

// GroupsOf returns a user's groups; see im.GroupStore. Joining changes the group, so the
// time of the group's last change covers joining too.
func (s *groups) GroupsOf(ctx context.Context, user uint32, t pb.GroupType,
	since uint32) ([]im.GroupVersion, error) {
	return s.versionRows(ctx, "groups of", s.read.groupsOf, user, t, since)
}
