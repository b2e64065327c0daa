package embedded

import (
	"context"
	"database/sql"
	"encoding/json"
)

// statements are the reads. Each read is one statement, so that it sees one state of the
// database. database/sql prepares them on every connection that runs them.
type statements struct {
	accountByName, users, usersSince, usersPresent, listUsers *sql.Stmt
	credentials, usersNewest, passwords                       *sql.Stmt
	departsSince, deviceTokens, groupShields, shieldedGroups  *sql.Stmt
	offlineFiles, offlineFilePage, offlineFileState           *sql.Stmt
	loginMarks, failureNetworks                               *sql.Stmt
	history, messagesByID, latestID                           *sql.Stmt
	hasUnread, unreadCounts, unreadTotals, recentSessions     *sql.Stmt
	anyArrived                                                *sql.Stmt

	groupStatements
}

const (
	userColumns = "id, name, domain, nick, sex, phone, email, avatar, departId, status, " +
		"sign_info, push_shield_status, updated"

	// relationKey is the part of IMMessage.id above the message id. It is NULL, which
	// equals nothing, when ?1 and ?2 have no conversation.
	relationKey = "(select id << 32 from IMRelationShip where smallId = ?1 and bigId = ?2)"

	messageColumns = "m.id & 4294967295, m.fromId, m.type, m.created, m.content, a.path, " +
		"a.size, a.duration"
	groupMessageColumns = "m.id & 4294967295, m.userId, m.type, m.created, m.content, a.path, " +
		"a.size, a.duration"

	// joinAudio joins the sound of a message m. It matches none when m is not an audio
	// message.
	joinAudio = "left join IMAudio a on a.id = case when m.type in (2, 18) then " +
		"cast(cast(m.content as text) as integer) end"

	// sides are the conversations of a user from its side, groups included. type is im's
	// SessionType. A row outside the user's list has status 1. The user sees the messages after
	// since.
	sides = `select 1 as type, id, bigId as peer, unreadSmall as unread, statusSmall as status,
		0 as since, lastMsgId, updated
			from IMRelationShip where smallId = ?1
		union all
		select 1, id, smallId, unreadBig, statusBig, 0, lastMsgId, updated
			from IMRelationShip where bigId = ?1
		union all
		select 2, g.id, g.id, g.lastMsgId - m.readMsgId,
			g.lastMsgId <= max(m.joinMsgId, m.removeMsgId), m.joinMsgId, g.lastMsgId, g.lastChated
			from IMGroupMember m join IMGroup g on g.id = m.groupId where m.userId = ?1`

	// newest is the place of the last message of the conversation c. After a restore, or a move
	// from MySQL, no message may have the last id that was given, nor when the tables have rejected
	// it. A member of a group then sees none from before it joined.
	newest = "(c.id << 32) + c.since + 1 and (c.id << 32) + c.lastMsgId and status = 0 " +
		"order by id desc limit 1) "

	// latest joins the last messages of the sides in c.
	latest = " c join IMMessage m on m.id = (select id from IMMessage where id between " +
		newest + joinAudio + " where c.type = 1"
	latestInGroup = " c join IMGroupMessage m on m.id = (select id from IMGroupMessage " +
		"where id between " + newest + joinAudio + " where c.type = 2"
)

func (st *statements) prepare(ctx context.Context, db *sql.DB) error {
	for _, q := range st.queries() {
		if err := q.prepare(ctx, db); err != nil {
			return err
		}
	}
	return nil
}

func (st *statements) queries() []query {
	return append(append(append(st.groupStatements.queries(), st.loginQueries()...),
		st.fileQueries()...), []query{
		{&st.anyArrived, "select exists (select 1 from Arrived where id > 0)"},
		{&st.accountByName, "select " + userColumns + ", password, salt from IMUser " +
			"where nameKey = ?"},
		{&st.users, "select " + userColumns + " from IMUser where id in (select value " +
			"from json_each(?))"},
		{&st.usersSince, "select " + userColumns + " from IMUser where updated >= ?"},
		{&st.usersPresent, "select " + userColumns + " from IMUser where status <> 3"},
		{&st.listUsers, "select " + userColumns + " from IMUser where id > ? order by id limit ?"},
		{&st.usersNewest, "select coalesce(max(updated), 0) from IMUser"},
		{&st.credentials, "select id, updated, status, password, salt from IMUser " +
			"where updated >= ?1 and (updated > ?1 or id > ?2) order by updated, id limit ?3"},
		{&st.departsSince, "select " + departColumns + " from IMDepart where updated >= ?1 and " +
			"(?1 > 0 or status <> 1)"},
		{&st.deviceTokens, "select userId, client, token from DeviceToken " +
			"where userId in (select value from json_each(?))"},
		{&st.groupShields, `select userId from GroupShield where groupId = ? and userId
			in (select value from json_each(?))
			order by userId`},
		{&st.shieldedGroups, `select groupId from GroupShield where userId = ? and groupId
			in (select value from json_each(?))
			order by groupId`},
		{&st.history, "select " + messageColumns + " from IMMessage m " + joinAudio + " " +
			"where m.id > " + relationKey +
			" and m.id <= " + relationKey + " + ?3 and m.status = 0 order by m.id desc limit ?4"},
		{&st.messagesByID, "select " + messageColumns + " from IMMessage m " + joinAudio + " " +
			"where m.id in (select " + relationKey +
			" + value from json_each(?3)) and m.status = 0 order by m.id"},
		{&st.latestID, "select id & 4294967295 from IMMessage where id > " + relationKey +
			" and id <= " + relationKey + " + 4294967295 and status = 0 order by id desc limit 1"},
		{&st.hasUnread, `select coalesce(sum(case
			when smallId = ?3 then unreadSmall else unreadBig end), 0)
			from IMRelationShip where smallId = ?1 and bigId = ?2`},
		{&st.unreadCounts, "with unread as materialized (select * from (" + sides + ") " +
			"where unread > 0), side as materialized (select (select sum(unread) from unread) " +
			"as total, * from unread order by updated desc, type, peer limit ?2) " +
			"select c.total, c.type, c.peer, c.unread, " + messageColumns + " from side" +
			latest + " union all " +
			"select c.total, c.type, c.peer, c.unread, " + groupMessageColumns + " from side" +
			latestInGroup},
		{&st.unreadTotals, `with asked as materialized (select value as id from json_each(?)),
			side as (select smallId as user, unreadSmall as unread from IMRelationShip where smallId
			in asked
				union all select bigId, unreadBig from IMRelationShip where bigId in asked
				union all select m.userId, g.lastMsgId - m.readMsgId
					from IMGroupMember m join IMGroup g on g.id = m.groupId where m.userId in asked)
			select user, sum(unread) from side where unread > 0 group by user`},
		{&st.recentSessions, "with side as materialized (select * from (" + sides +
			") where updated >= ?2 and status = 0 order by updated desc, type, peer limit ?3) " +
			"select c.type, c.peer, c.updated, " + messageColumns + " from side" + latest + " " +
			"union all " +
			"select c.type, c.peer, c.updated, " + groupMessageColumns + " from side" +
			latestInGroup + " order by 3 desc, 1, 2"},
	}...)
}

// fileQueries are the reads of offline files.
func (st *statements) fileQueries() []query {
	return []query{
		{&st.offlineFiles, `select fromId, toId, taskId, fileName, size, created from IMTransmitFile
			where toId = ? and status = 0 order by id limit ?`},
		{&st.offlineFilePage, `select id, status, fromId, toId, taskId, fileName, size, created
			from IMTransmitFile
			where id > ? order by id limit ?`},
		{&st.offlineFileState,
			`select status from IMTransmitFile where toId = ? and fromId = ? and taskId = ?`},
	}
}

// jsonArray returns ids for json_each: one argument for any number of ids.
func jsonArray(ids []uint32) string {
	// Numbers always marshal. nil gives null, for which json_each returns one row without
	// a value.
	b, _ := json.Marshal(ids)
	return string(b)
}

// groupStatements are the reads of groups.
type groupStatements struct {
	groups, listGroups, groupVersions, groupsOf    *sql.Stmt
	groupHistory, groupMessagesByID, groupLatestID *sql.Stmt
	hasGroupUnread, leftGroup, givenMemberships    *sql.Stmt
}

func (st *groupStatements) queries() []query {
	return []query{
		{&st.groups, "select " + groupColumns + " from IMGroup g where g.id in (select value " +
			"from json_each(?))"},
		{&st.listGroups, "select " + groupColumns + " from IMGroup g where g.id > ? " +
			"order by g.id limit ?"},
		{&st.groupVersions, "select id, version from IMGroup where id in (select value " +
			"from json_each(?))"},
		{&st.groupsOf, `select g.id, g.version from IMGroupMember m join IMGroup g
			on g.id = m.groupId
			where m.userId = ?1 and ?2 in (0, g.type) and g.updated >= ?3 order by g.id`},
		{&st.groupHistory, "select " + groupMessageColumns + " from IMGroupMessage m " +
			joinAudio + " where m.id > " + visible +
			" and m.id <= (?1 << 32) + ?3 and m.status = 0 order by m.id desc limit ?4"},
		{&st.groupMessagesByID, "select " + groupMessageColumns + " from IMGroupMessage m " +
			joinAudio +
			" where m.id in (select (?1 << 32) + value from json_each(?3)) and m.id > " + visible +
			" and m.status = 0 order by m.id"},
		{&st.groupLatestID, "select id & 4294967295 from IMGroupMessage where id > " + visible +
			" and id <= (?1 << 32) + 4294967295 and status = 0 order by id desc limit 1"},
		{&st.hasGroupUnread, `select g.lastMsgId - m.readMsgId from IMGroupMember m join IMGroup g
			on g.id = m.groupId
			where m.groupId = ?1 and m.userId = ?2`},
		{&st.leftGroup, leftGroup},
		{&st.givenMemberships, `with crowded as materialized (select userId from IMGroupMember
			where userId in (select value from json_each(?1)) group by userId
			having count(*) >= ?3)
			select userId from IMGroupMember where userId in (select userId from crowded)
			and case ?2 when 0 then addedBy <> 0 else addedBy = ?2 end
			group by userId having count(*) >= ?3 order by userId`},
	}
}

// leftGroup reads those of users ?2 that left group ?1 at or after ?3; none for ?3 = 0.
const leftGroup = "select userId from IMGroupDeparture where groupId = ?1 and userId in " +
	"(select value from json_each(?2)) and leftAt >= ?3 and ?3 > 0 order by userId"

// visible is the limit of the messages that a member may see: the part of
// IMGroupMessage.id above the message id, plus the newest message before joining. It is
// NULL, which equals nothing and is below nothing, when user ?2 is not a member of group
// ?1.
const visible = "(select (groupId << 32) + joinMsgId from IMGroupMember where groupId = ?1 " +
	"and userId = ?2)"
