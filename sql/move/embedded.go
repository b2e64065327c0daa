package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"teamtalk/core/im"
	"teamtalk/sql/embedded"
)

// lite is an embedded store as a side.
type lite struct {
	store *embedded.Store
	db    *sql.DB // reads
	file  string  // of the database
}

// openEmbedded opens the embedded store in dir, as its only user.
func openEmbedded(ctx context.Context, dir string, log *slog.Logger) (*lite, error) {
	s, err := embedded.Open(ctx, embedded.Options{Dir: dir, Log: log})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, embedded.FileName)
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?_query_only=1")
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &lite{s, db, file}, nil
}

func (l *lite) close() error { return errors.Join(l.db.Close(), l.store.Close()) }

func (l *lite) view() im.Store { return l.store }

// apart writes the messages that wait for their tables, and looks for those that the tables have
// rejected: no other table has them, and no user sees them. With leave it returns a note about
// them, without it an error of kind Invalid.
func (l *lite) apart(ctx context.Context, leave bool) (notes []string, err error) {
	// Unlike reads, a change fails when it cannot write the messages that wait.
	if err := l.store.Raw(ctx, func(*sql.Conn) error { return nil }); err != nil {
		return nil, err
	}
	messages, unreadable, err := l.store.CountApart(ctx)
	if err != nil || messages+unreadable == 0 {
		return nil, err
	}
	what := number(messages, "message that its tables have rejected",
		"messages that its tables have rejected")
	if unreadable > 0 {
		what += " and " + number(unreadable, "row of messages that cannot be read",
			"rows of messages that cannot be read")
	}
	what += " (table Arrived)"
	if !leave {
		return nil, im.Errorf(im.Invalid, "%s keeps apart %s, which no user sees: teamtalk "+
			"doctor --only kept-apart lists them, and with --repair puts them back; or move "+
			"without them (--leave-apart)", l.file, what)
	}
	return []string{fmt.Sprintf("left out: %s; they stay in %s", what, l.file)}, nil
}

// note returns a note about messages whose conversation has no row: they have no receiver, and no
// user sees them.
func (l *lite) note(ctx context.Context) (notes []string, err error) {
	var n int64
	err = l.db.QueryRowContext(ctx, "select count(*) from IMMessage "+
		"where id >> 32 not in (select id from IMRelationShip)").Scan(&n)
	if n > 0 {
		notes = append(notes, fmt.Sprintf("left out: %d rows of IMMessage, of conversations "+
			"without a row", n))
	}
	return notes, err
}

// number returns a number of things as text.
func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// liteReads are the queries of the subjects.
var liteReads = map[string]string{
	departs: "select id, departName, priority, parentId, status, created, updated " +
		"from IMDepart order by id",
	users: "select id, name, domain, nick, sex, password, salt, phone, email, avatar, departId, " +
		"status, push_shield_status, sign_info, created, updated from IMUser order by id",
	sounds: "select id, fromId, toId, path, size, duration, created from IMAudio order by id",
	files: "select id, fromId, toId, taskId, fileName, size, status, created, updated " +
		"from IMTransmitFile order by id",
	conversations: "select id, smallId, bigId, lastMsgId, statusSmall, statusBig, created, " +
		"updated from IMRelationShip order by id",
	messages: `select m.id >> 32, m.id & 4294967295, m.fromId, r.smallId + r.bigId - m.fromId,
		m.type, m.status, m.created, m.sentAs, m.content
		from IMMessage m join IMRelationShip r on r.id = m.id >> 32 order by m.id`,
	groups: "select id, name, avatar, creator, type, version, lastMsgId, lastChated, created, " +
		"updated from IMGroup order by id",
	groupMessages: "select id >> 32, id & 4294967295, userId, type, status, created, sentAs, " +
		"content from IMGroupMessage order by id",
	members: `select groupId, userId, case when sees then joinMsgId else lastMsgId end, lastMsgId,
		lastChated, sees and removeMsgId >= lastMsgId, created, addedBy from (
			select m.*, g.lastMsgId, g.lastChated, exists (select 1 from IMGroupMessage x
				where x.id > (m.groupId << 32) + m.joinMsgId
				and x.id <= (m.groupId << 32) + 4294967295 and x.status = 0) as sees
			from IMGroupMember m join IMGroup g on g.id = m.groupId)
		order by groupId, userId`,
	departures: "select groupId, userId, leftAt from IMGroupDeparture order by groupId, userId",
	clientIDs: `select case when c.relateId < 0 then 2 else 1 end, abs(c.relateId), c.fromId,
		coalesce(r.smallId + r.bigId - c.fromId, -c.relateId), c.clientId, c.msgId, c.created
		from ClientMessage c left join IMRelationShip r on r.id = c.relateId order by c.id`,
	tokens:  "select userId, client, token from DeviceToken order by userId",
	shields: "select groupId, userId from GroupShield order by groupId, userId",
	logins:  "select kind, key, value, at, until from LoginMark",
	nextIDs: `select column1, coalesce(seq, 0) + 1
		from (values ('IMUser'), ('IMDepart'), ('IMRelationShip'), ('IMGroup'), ('IMAudio'),
		('IMTransmitFile')) left join sqlite_sequence on name = column1`,
}

func (l *lite) read(ctx context.Context, what string, emit func(row) error) error {
	switch what {
	case unread:
		return readUnread(ctx, l.store, emit)
	case readMarks:
		return l.readMarks(ctx, emit)
	}
	rows, err := l.db.QueryContext(ctx, liteReads[what])
	if err != nil {
		return err
	}
	return each(rows, kindsOf(what), emit)
}

// The queries of readMarks: the sides of conversations and the members of groups, with their
// unread counts, and the message before the oldest of so many unread ones.
const (
	sidesQuery = `select 1, id, smallId, bigId, lastMsgId, unreadSmall from IMRelationShip
		union all select 1, id, bigId, smallId, lastMsgId, unreadBig from IMRelationShip
		union all select 2, g.id, m.userId, g.id, g.lastMsgId, g.lastMsgId - m.readMsgId
		from IMGroupMember m join IMGroup g on g.id = m.groupId`
	beforeQuery = `select id & 4294967295 from IMMessage where id > ?1 << 32
		and id <= (?1 << 32) + 4294967295 and fromId = ?2 and status = 0
		order by id desc limit 1 offset ?3`
	beforeInGroupQuery = `select id & 4294967295 from IMGroupMessage where id > ?1 << 32
		and id <= (?1 << 32) + 4294967295 and status = 0 order by id desc limit 1 offset ?3`
)

// readMarks emits the last message that each user has read in each conversation. The embedded store
// has counts and no marks: the mark is the message before the unread ones.
func (l *lite) readMarks(ctx context.Context, emit func(row) error) error {
	rows, err := l.db.QueryContext(ctx, sidesQuery)
	if err != nil {
		return err
	}
	return each(rows, "iiiiii", func(r row) error {
		kind, id, user, peer, mark, count := r.num(0), r.num(1), r.num(2), r.num(3), r.num(4),
			r.num(5)
		if count > 0 {
			q := beforeQuery
			if kind == 2 {
				q = beforeInGroupQuery
			}
			err := l.db.QueryRowContext(ctx, q, id, peer, count).Scan(&mark)
			if errors.Is(err, sql.ErrNoRows) {
				return nil // all messages are unread
			}
			if err != nil {
				return err
			}
		}
		if mark <= 0 {
			return nil
		}
		return emit(numbers(uint32(user), uint32(kind), uint32(peer), uint32(mark)))
	})
}

// liteWrites are the statements that store rows.
var liteWrites = map[string]string{
	departs: "insert into IMDepart (id, departName, priority, parentId, status, created, " +
		"updated) values (?, ?, ?, ?, ?, ?, ?)",
	users: "insert into IMUser (id, name, domain, nick, sex, password, salt, phone, email, " +
		"avatar, departId, status, push_shield_status, sign_info, created, updated, nameKey) " +
		"values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	sounds: "insert into IMAudio (id, fromId, toId, path, size, duration, created) " +
		"values (?, ?, ?, ?, ?, ?, ?)",
	files: "insert into IMTransmitFile (id, fromId, toId, taskId, fileName, size, status, " +
		"created, updated) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
	conversations: "insert into IMRelationShip (id, smallId, bigId, lastMsgId, statusSmall, " +
		"statusBig, created, updated, unreadSmall, unreadBig) " +
		"values (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
	messages: "insert into IMMessage (id, fromId, type, status, created, sentAs, content) " +
		"values (?1 << 32 | ?2, ?3, ?5, ?6, ?7, ?8, ?9)",
	groups: "insert into IMGroup (id, name, avatar, creator, type, version, lastMsgId, " +
		"lastChated, created, updated) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	groupMessages: "insert into IMGroupMessage (id, userId, type, status, created, sentAs, " +
		"content) values (?1 << 32 | ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
	// Unread messages follow. Until then everything is read.
	members: "insert into IMGroupMember (groupId, userId, joinMsgId, readMsgId, removeMsgId, " +
		"created, addedBy) values (?1, ?2, ?3, ?4, ?4 * ?6, ?7, ?8)",
	departures: "insert into IMGroupDeparture (groupId, userId, leftAt) values (?, ?, ?)",
	clientIDs: "insert into ClientMessage (relateId, fromId, clientId, msgId, created) " +
		"values (case ?1 when 2 then -?2 else ?2 end, ?3, ?5, ?6, ?7)",
	unread: "update IMRelationShip set " +
		"unreadSmall = unreadSmall + case smallId when ?1 then ?4 else 0 end, " +
		"unreadBig = unreadBig + case bigId when ?1 then ?4 else 0 end " +
		"where ?2 = 1 and smallId = min(?1, ?3) and bigId = max(?1, ?3)",
	tokens:  "insert into DeviceToken (userId, client, token) values (?, ?, ?)",
	shields: "insert into GroupShield (groupId, userId) values (?, ?)",
	logins: "insert or replace into LoginMark (kind, key, value, at, until) " +
		"values (?, ?, ?, ?, ?)",
	nextIDs: "insert into sqlite_sequence (name, seq) values (?1, ?2)",
}

// unreadInGroup stores an unread count of a group.
const unreadInGroup = "update IMGroupMember set readMsgId = readMsgId - ? " +
	"where groupId = ? and userId = ?"

// texts are the subjects whose texts are of type text, not blob, with the columns.
var texts = map[string]string{departs: "s", users: "s", sounds: "s", files: "s", groups: "s",
	tokens: "s", nextIDs: "s"}

func (l *lite) write(ctx context.Context, what string, rows []row) error {
	return l.store.Raw(ctx, func(conn *sql.Conn) error {
		if what == nextIDs {
			if _, err := conn.ExecContext(ctx, "delete from sqlite_sequence"); err != nil {
				return err
			}
		}
		stmt, err := conn.PrepareContext(ctx, liteWrites[what])
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, r := range rows {
			if what == unread && r.num(1) == 2 {
				_, err = conn.ExecContext(ctx, unreadInGroup, r.num(3), r.num(2), r.num(0))
			} else {
				_, err = stmt.ExecContext(ctx, liteArgs(what, r)...)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// liteArgs returns the arguments of the statement for a row.
func liteArgs(what string, r row) []any {
	args := make([]any, len(r), len(r)+1)
	for i, v := range r {
		b, ok := v.([]byte)
		if ok && (texts[what] != "" || what == logins && i == 1) {
			v = string(b)
		}
		args[i] = v
	}
	switch what {
	case users:
		args = append(args, embedded.NameKey(string(r.text(1))))
	case nextIDs:
		args[1] = min(r.num(1)-1, math.MaxUint32)
	}
	return args
}
