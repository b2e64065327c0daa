package embedded

import (
	"context"
	"database/sql"

	"teamtalk/core/im"
)

// groupStatements are the reads about groups.
type groupStatements struct {
	groups, listGroups, groupVersions, groupsOf    *sql.Stmt
	groupHistory, groupMessagesByID, groupLatestID *sql.Stmt
	hasGroupUnread                                 *sql.Stmt
}

// visible is what a member may see of a group: the part of IMGroupMessage.id above the message id, and the newest message before joining; NULL,
// which equals nothing and is below nothing, when user ?2 is not in group ?1.
const visible = "(select (groupId << 32) + joinMsgId from IMGroupMember where groupId = ?1 and userId = ?2)"

func (st *groupStatements) queries() []query {
	return []query{
		{&st.groups, "select " + groupColumns + " from IMGroup g where g.id in (select value from json_each(?))"},
		{&st.listGroups, "select " + groupColumns + " from IMGroup g where g.id > ? order by g.id limit ?"},
		{&st.groupVersions, "select id, version from IMGroup where id in (select value from json_each(?))"},
		{&st.groupsOf, `select g.id, g.version from IMGroupMember m join IMGroup g on g.id = m.groupId
			where m.userId = ? and g.type = ? and g.updated >= ? order by g.id`},
		{&st.groupHistory, "select " + groupMessageColumns + " from IMGroupMessage m " + joinAudio + " where m.id > " + visible +
			" and m.id <= (?1 << 32) + ?3 and m.status = 0 order by m.id desc limit ?4"},
		{&st.groupMessagesByID, "select " + groupMessageColumns + " from IMGroupMessage m " + joinAudio +
			" where m.id in (select (?1 << 32) + value from json_each(?3)) and m.id > " + visible + " and m.status = 0 order by m.id"},
		{&st.groupLatestID, `select g.lastMsgId from IMGroupMember m join IMGroup g on g.id = m.groupId
			where m.groupId = ?1 and m.userId = ?2 and g.lastMsgId > m.joinMsgId`},
		{&st.hasGroupUnread, `select g.lastMsgId - m.readMsgId from IMGroupMember m join IMGroup g on g.id = m.groupId
			where m.groupId = ?1 and m.userId = ?2`},
	}
}

// groupMessages runs a read of a group's messages.
func (s *Store) groupMessages(ctx context.Context, op string, stmt *sql.Stmt, user, group uint32, args ...any) ([]im.Message, error) {
	return s.messageRows(ctx, op, stmt, user, group, append([]any{group, user}, args...)...)
}

// GroupHistory returns messages newest first, as im.GroupStore says.
func (s *Store) GroupHistory(ctx context.Context, user, group, begin uint32, count int) ([]im.Message, error) {
	if begin == 0 {
		begin-- // the highest there is
	}
	return s.groupMessages(ctx, "group history", s.read.groupHistory, user, group, begin, max(count, 0))
}

// GroupMessagesByID returns messages in order of id, as im.GroupStore says.
func (s *Store) GroupMessagesByID(ctx context.Context, user, group uint32, ids []uint32) ([]im.Message, error) {
	return s.groupMessages(ctx, "group messages by id", s.read.groupMessagesByID, user, group, jsonArray(ids))
}

// GroupLatestID returns a group's newest id, as im.GroupStore says.
func (s *Store) GroupLatestID(ctx context.Context, user, group uint32) (id uint32, err error) {
	err = s.rows(ctx, "group latest id", s.read.groupLatestID, func(row scanner) error { return row.Scan(&id) }, group, user)
	return id, err
}
