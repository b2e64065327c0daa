package move

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"teamtalk/sql/schema"
)

// bigReads are the queries of the subjects that need nothing else.
var bigReads = map[string]string{
	departs: "SELECT id, departName, priority, parentId, status, created, updated FROM IMDepart " +
		"ORDER BY id",
	users: "SELECT id, name, domain, nick, sex, password, salt, phone, email, " +
		"COALESCE(avatar, ''), departId, COALESCE(status, 0), push_shield_status, sign_info, " +
		"created, updated FROM IMUser ORDER BY id",
	sounds: "SELECT id, fromId, toId, COALESCE(path, ''), size, duration, created FROM IMAudio " +
		"ORDER BY id",
	// C++ servers may have added a file twice. The last row counts.
	files: "SELECT id, fromId, toId, taskId, fileName, size, status, created, updated " +
		"FROM IMTransmitFile AS f WHERE NOT EXISTS (SELECT 1 FROM IMTransmitFile AS l " +
		"WHERE l.taskId=f.taskId AND l.fromId=f.fromId AND l.toId=f.toId AND l.id>f.id) " +
		"ORDER BY id",
	departures: "SELECT groupId, userId, MAX(leftAt) FROM IMGroupMember AS m WHERE status<>0 " +
		"AND leftAt=updated AND leftAt>0 " +
		"AND EXISTS (SELECT 1 FROM IMGroup AS g WHERE g.id=m.groupId AND g.status=0) " +
		"AND NOT EXISTS (SELECT 1 FROM IMGroupMember AS n WHERE n.groupId=m.groupId " +
		"AND n.userId=m.userId AND n.status=0) GROUP BY groupId, userId",
	clientIDs: "SELECT toType, relateId, fromId, toId, clientMsgId, msgId, created " +
		"FROM IMClientMsgId ORDER BY created",
	readMarks: "SELECT userId, type, peerId, msgId FROM IMReadMark WHERE userId>0",
}

func (b *big) read(ctx context.Context, what string, emit func(row) error) error {
	if q, ok := bigReads[what]; ok {
		return b.query(ctx, q, kindsOf(what), emit)
	}
	switch what {
	case conversations:
		return b.readConversations(ctx, emit)
	case groups:
		return b.readGroups(ctx, emit)
	case members:
		return b.readMembers(ctx, emit)
	case messages:
		return b.readMessages(ctx, "SELECT m.relateId, m.msgId, m.fromId, "+
			"CAST(r.smallId AS SIGNED)+CAST(r.bigId AS SIGNED)-CAST(m.fromId AS SIGNED), m.type, "+
			"m.status, m.created, m.sentAs, COALESCE(m.content, '') FROM IMMessage_%d AS m "+
			"STRAIGHT_JOIN IMRelationShip AS r "+
			"ON r.id=m.relateId AND m.fromId IN (r.smallId, r.bigId) ORDER BY m.id", messages, emit)
	case groupMessages:
		return b.readMessages(ctx, "SELECT m.groupId, m.msgId, m.userId, m.type, m.status, "+
			"m.created, m.sentAs, m.content FROM IMGroupMessage_%d AS m "+
			"STRAIGHT_JOIN IMGroup AS g ON g.id=m.groupId AND g.status=0 ORDER BY m.id",
			groupMessages, emit)
	case unread:
		return readUnread(ctx, b.store, emit)
	case nextIDs:
		return b.readNextIDs(ctx, emit)
	}
	return b.readRedis(ctx, what, emit)
}

// query emits the rows of a query.
func (b *big) query(ctx context.Context, q, kinds string, emit func(row) error) error {
	rows, err := b.db.QueryContext(ctx, q)
	if err != nil {
		return err
	}
	return each(rows, kinds, emit)
}

// readMessages emits the rows of a query on each table of messages.
func (b *big) readMessages(ctx context.Context, q, what string, emit func(row) error) error {
	for n := range schema.Tables {
		if err := b.query(ctx, fmt.Sprintf(q, n), kindsOf(what), emit); err != nil {
			return err
		}
	}
	return nil
}

// paged collects the rows of a query, and calls do for each page.
func (b *big) paged(ctx context.Context, q, kinds string, do func([]row) error) error {
	var page []row
	err := b.query(ctx, q, kinds, func(r row) error {
		if page = append(page, r); len(page) < pageRows {
			return nil
		}
		err := do(page)
		page = nil
		return err
	})
	if err != nil || len(page) == 0 {
		return err
	}
	return do(page)
}

// readConversations emits relations with both sides. A side without a row is not in its user's
// list.
func (b *big) readConversations(ctx context.Context, emit func(row) error) error {
	q := "SELECT r.id, r.smallId, r.bigId, 0, " +
		"COALESCE(a.status<>0, 1), COALESCE(b.status<>0, 1), r.created, " +
		"GREATEST(r.updated, COALESCE(a.updated, 0), COALESCE(b.updated, 0)) " +
		"FROM IMRelationShip AS r " +
		"LEFT JOIN IMRecentSession AS a ON a.userId=r.smallId AND a.peerId=r.bigId AND a.type=1 " +
		"LEFT JOIN IMRecentSession AS b ON b.userId=r.bigId AND b.peerId=r.smallId AND b.type=1 " +
		"ORDER BY r.id"
	return b.paged(ctx, q, kindsOf(conversations), func(page []row) error {
		last, err := b.lastIDs(ctx, page, "IMMessage_%d", "relateId", "msg_id_")
		if err != nil {
			return err
		}
		for _, r := range page {
			r[3] = last[r.num(0)]
			if err := emit(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// lastIDs returns the last id that was given in each conversation or group of a page: the counter
// in Redis, or the highest id in the table if that is higher.
func (b *big) lastIDs(ctx context.Context, page []row, table, column, counter string) (
	map[int64]int64, error) {
	last, err := b.counters(ctx, counter, page)
	if err != nil {
		return nil, err
	}
	err = b.perTable(ctx, page, "SELECT "+column+", MAX(msgId) FROM "+table+" WHERE "+column+
		" IN (%s) GROUP BY "+column, func(r row) error {
		last[r.num(0)] = max(last[r.num(0)], r.num(1))
		return nil
	})
	return last, err
}

// perTable runs a query with the ids of a page in each of the tables that have any. do gets rows of
// two numbers.
func (b *big) perTable(ctx context.Context, page []row, q string, do func(row) error) error {
	var parts [schema.Tables][]string
	for _, r := range page {
		n := r.num(0) % schema.Tables
		parts[n] = append(parts[n], fmt.Sprint(r.num(0)))
	}
	for n, ids := range parts {
		if len(ids) == 0 {
			continue
		}
		err := b.query(ctx, fmt.Sprintf(q, n, strings.Join(ids, ",")), "ii", do)
		if err != nil {
			return err
		}
	}
	return nil
}

// readGroups emits the groups that are not deleted.
func (b *big) readGroups(ctx context.Context, emit func(row) error) error {
	q := "SELECT id, name, avatar, creator, type, version, 0, lastChated, created, updated " +
		"FROM IMGroup WHERE status=0 ORDER BY id"
	return b.paged(ctx, q, kindsOf(groups), func(page []row) error {
		last, err := b.lastIDs(ctx, page, "IMGroupMessage_%d", "groupId", "group_msg_id_")
		if err != nil {
			return err
		}
		for _, r := range page {
			r[6] = last[r.num(0)]
			if err := emit(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// readMembers emits the members of groups. Where a member begins to see messages is an id, or for
// members that a C++ server has added the time of joining. A member that sees none begins after the
// last one.
func (b *big) readMembers(ctx context.Context, emit func(row) error) error {
	// Columns 2 and 3 are whether joinMsgId counts, and it; 5 is whether the member's entry in
	// its list is removed, or missing.
	q := "SELECT m.groupId, m.userId, m.joinedAt=GREATEST(m.created, m.updated), m.joinMsgId, " +
		"g.lastChated, COALESCE(s.status<>0, 1), GREATEST(m.created, m.updated), " +
		"IF(m.joinedAt=GREATEST(m.created, m.updated), m.addedBy, 0) " +
		"FROM IMGroupMember AS m JOIN IMGroup AS g ON g.id=m.groupId AND g.status=0 " +
		"LEFT JOIN IMRecentSession AS s ON s.userId=m.userId AND s.peerId=m.groupId AND s.type=2 " +
		"WHERE m.status=0 ORDER BY m.groupId, m.userId, GREATEST(m.created, m.updated) DESC"
	var group, user int64
	return b.paged(ctx, q, kindsOf(members), func(page []row) error {
		last, err := b.lastIDs(ctx, page, "IMGroupMessage_%d", "groupId", "group_msg_id_")
		if err != nil {
			return err
		}
		newest := map[int64]int64{} // that can be seen
		err = b.perTable(ctx, page, "SELECT groupId, MAX(msgId) FROM IMGroupMessage_%d "+
			"WHERE groupId IN (%s) AND status=0 GROUP BY groupId", func(r row) error {
			newest[r.num(0)] = r.num(1)
			return nil
		})
		if err != nil {
			return err
		}
		for _, r := range page {
			if r.num(0) == group && r.num(1) == user {
				continue // a C++ server has inserted the member twice
			}
			group, user = r.num(0), r.num(1)
			after := r.num(3)
			if r.num(2) == 0 {
				if after, err = b.firstSeen(ctx, group, r.num(6)); err != nil {
					return err
				}
			}
			removed := r.num(5)
			if after >= newest[group] {
				after, removed = last[group], 0
			}
			r[2], r[3], r[5] = after, last[group], removed
			if err := emit(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// firstSeen returns the id before the first message of a group that was stored at or after a time.
func (b *big) firstSeen(ctx context.Context, group, since int64) (int64, error) {
	var first sql.NullInt64
	err := b.db.QueryRowContext(ctx, fmt.Sprintf("SELECT MIN(msgId) FROM IMGroupMessage_%d "+
		"WHERE groupId=%d AND status=0 AND created>=%d", group%schema.Tables, group, since)).
		Scan(&first)
	if err == nil && !first.Valid {
		return 1<<32 - 1, nil // it sees none
	}
	return first.Int64 - 1, err
}

// readNextIDs emits the next ids of tables.
func (b *big) readNextIDs(ctx context.Context, emit func(row) error) error {
	conn, err := b.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// MySQL 8 keeps old numbers for a day. MariaDB does not know the variable.
	_, _ = conn.ExecContext(ctx, "SET SESSION information_schema_stats_expiry=0")
	for _, t := range []string{"IMUser", "IMDepart", "IMRelationShip", "IMGroup", "IMAudio",
		"IMTransmitFile"} {
		var highest int64
		var next sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM "+t).
			Scan(&highest); err != nil {
			return err
		}
		if err := conn.QueryRowContext(ctx, "SELECT AUTO_INCREMENT FROM information_schema.TABLES "+
			"WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME=?", t).Scan(&next); err != nil {
			return err
		}
		r := row{[]byte(t), max(highest+1, next.Int64)}
		if err := emit(r); err != nil {
			return err
		}
	}
	return nil
}
