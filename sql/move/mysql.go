package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
	"teamtalk/sql/store/redisconn"
)

// big is a MySQL database with its Redis instances as a side.
type big struct {
	db    *sql.DB
	redis redisconn.Clients
	store *store.Store
	notes []string
}

// connections is the number of connections to MySQL: one is in the middle of an answer, and others
// look up what belongs to its rows.
const connections = 3

// connect opens the databases without the store.
func connect(ctx context.Context, m MySQL) (*big, error) {
	cfg, err := mysqlconn.Parse(m.DSN, m.TLS)
	if err != nil {
		return nil, err
	}
	cfg.InterpolateParams = true
	cfg.ReadTimeout, cfg.WriteTimeout = 0, 0 // an answer lasts for as long as the other side writes
	connector, err := mysqlconn.Connector(cfg)
	if err != nil {
		return nil, err
	}
	b := &big{db: sql.OpenDB(connector)}
	b.db.SetMaxOpenConns(connections)
	b.db.SetMaxIdleConns(connections)
	b.redis, err = redisconn.Open(m.Redis, connections, redisconn.NewEpoch(func() {}),
		slog.New(slog.DiscardHandler))
	if err == nil {
		err = b.reach(ctx)
	}
	if err == nil {
		err = schema.Alone(ctx, b.db)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// reach returns an error that names the database that does not answer.
func (b *big) reach(ctx context.Context) error {
	if err := b.db.PingContext(ctx); err != nil {
		return fmt.Errorf("connect to MySQL (setting mysql.master): %w", err)
	}
	for _, c := range b.redis.All {
		if err := c.Ping(ctx).Err(); err != nil {
			return fmt.Errorf("connect to Redis (section redis of the settings): %w", err)
		}
	}
	return nil
}

// openStore opens the store on the databases. Its housekeeping changes nothing meanwhile.
func (b *big) openStore(ctx context.Context, m MySQL, o Options, halfMoved bool) (err error) {
	b.store, err = store.Open(ctx, store.Options{Master: m.DSN, TLS: m.TLS, Redis: m.Redis,
		Workers: connections, Housekeeping: 1000 * time.Hour, NoRebuild: true, Logger: o.Log,
		HalfMoved: halfMoved})
	return err
}

// openTarget opens databases without data of users, or such that a move has half filled, and makes
// the tables.
func openTarget(ctx context.Context, m MySQL, o Options) (_ *big, err error) {
	opened, err := connect(ctx, m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	// An older database with users is refused before its tables change.
	if err := opened.vacant(ctx); err != nil {
		return nil, err
	}
	if err := schema.Migrate(ctx, opened.db, schema.Options{}); err != nil {
		return nil, err
	}
	state, err := schema.Status(ctx, opened.db)
	if err != nil {
		return nil, err
	}
	if !state.Finalized {
		return nil, im.Errorf(im.Invalid, "the tables are those of C++ servers: use an empty "+
			"database, or run migrate finalize first")
	}
	return opened, opened.openStore(ctx, m, o, true)
}

// openSource opens databases to read them.
func openSource(ctx context.Context, m MySQL, o Options) (_ *big, err error) {
	opened, err := connect(ctx, m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	state, err := schema.Status(ctx, opened.db)
	if err != nil {
		return nil, err
	}
	if !state.Finalized || len(state.Pending) > 0 {
		return nil, im.Errorf(im.Invalid, "the database is not finalized: run migrate and "+
			"migrate finalize first")
	}
	// Opening applies the counts that are owed to Redis.
	if err := opened.openStore(ctx, m, o, false); err != nil {
		return nil, err
	}
	if err := opened.restoreCounts(ctx); err != nil {
		return nil, err
	}
	if _, err := opened.store.SyncSessions(ctx); err != nil {
		return nil, err
	}
	return opened, opened.note(ctx)
}

func (b *big) close() (err error) {
	if b.store != nil {
		err = b.store.Close()
	}
	return errors.Join(err, b.redis.Close(), b.db.Close())
}

func (b *big) view() im.Store { return b.store }

// tables are the tables that a move fills.
func tables() []string {
	list := []string{"IMUser", "IMDepart", "IMRelationShip", "IMRecentSession", "IMGroup",
		"IMGroupMember", "IMAudio", "IMTransmitFile", "IMClientMsgId", "IMReadMark",
		"IMUnreadOutbox", "IMUnreadKept"}
	for n := range uint32(schema.Tables) {
		list = append(list, fmt.Sprintf("IMMessage_%d", n), fmt.Sprintf("IMGroupMessage_%d", n))
	}
	return list
}

// vacant returns an error if the databases have data, unless a move has half filled them.
func (b *big) vacant(ctx context.Context) error {
	half, err := schema.HalfMoved(ctx, b.db)
	if missingTable(err) {
		half, err = false, nil
	}
	if half || err != nil {
		return err
	}
	for _, t := range tables() {
		var one int
		where := ""
		if t == "IMReadMark" {
			where = " WHERE userId>0"
		}
		err := b.db.QueryRowContext(ctx, "SELECT 1 FROM "+t+where+" LIMIT 1").Scan(&one)
		if err == nil {
			return im.Errorf(im.Exists, "the table %s has rows: move to an empty database", t)
		}
		if !errors.Is(err, sql.ErrNoRows) && !missingTable(err) {
			return err
		}
	}
	return b.scan(ctx, func(key string) error {
		return im.Errorf(im.Exists, "Redis has data of another deployment, such as the key %s: "+
			"use an empty Redis, or another number of a database", key)
	})
}

// missingTable reports whether a table does not exist yet.
func missingTable(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == 1146
}

// clear marks the databases as half filled, and empties them.
func (b *big) clear(ctx context.Context) error {
	if err := schema.BeginMove(ctx, b.db); err != nil {
		return err
	}
	for _, t := range tables() {
		if _, err := b.db.ExecContext(ctx, "TRUNCATE TABLE "+t); err != nil {
			return err
		}
	}
	return b.wipe(ctx)
}

// finish writes what follows from the rows.
func (b *big) finish(ctx context.Context) error {
	for _, q := range []string{
		"UPDATE IMGroup AS g SET userCnt=(SELECT COUNT(*) FROM IMGroupMember AS m " +
			"WHERE m.groupId=g.id AND m.status=0)",
		// Marks exist for everything, so they begin before all messages.
		"INSERT INTO IMReadMark (userId, peerId, type, msgId) VALUES (0, 0, 0, 1)",
		// Times of change do not go back, whatever the clock of the host.
		"INSERT INTO IMLease (name, holder, epoch, until) VALUES ('clock', '', 0, GREATEST(" +
			"(SELECT COALESCE(MAX(updated), 0) FROM IMUser), " +
			"(SELECT COALESCE(MAX(updated), 0) FROM IMDepart), " +
			"(SELECT COALESCE(MAX(GREATEST(updated, lastChated)), 0) FROM IMGroup), " +
			"(SELECT COALESCE(MAX(updated), 0) FROM IMRelationShip))) " +
			"ON DUPLICATE KEY UPDATE until=VALUES(until)",
	} {
		if _, err := b.db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return b.finishRedis(ctx)
}

// complete makes the databases those of a store.
func (b *big) complete(ctx context.Context) error { return schema.EndMove(ctx, b.db) }

// note notes the rows that the embedded store has no place for.
func (b *big) note(ctx context.Context) error {
	queries := map[string]string{
		"IMAdmin, of the web administration":     "SELECT COUNT(*) FROM IMAdmin",
		"IMDiscovery, of the web administration": "SELECT COUNT(*) FROM IMDiscovery",
		"IMGroup, of deleted groups":             "SELECT COUNT(*) FROM IMGroup WHERE status<>0",
		"IMTransmitFile, of files that are in the list twice": "SELECT COUNT(*)-" +
			"COUNT(DISTINCT taskId, fromId, toId) FROM IMTransmitFile",
	}
	for n := range schema.Tables {
		queries[fmt.Sprintf("IMMessage_%d, of pairs of users without a relation", n)] =
			fmt.Sprintf("SELECT COUNT(*) FROM IMMessage_%d AS m LEFT JOIN IMRelationShip AS r "+
				"ON r.id=m.relateId AND m.fromId IN (r.smallId, r.bigId) WHERE r.id IS NULL", n)
		queries[fmt.Sprintf("IMGroupMessage_%d, of deleted groups", n)] =
			fmt.Sprintf("SELECT COUNT(*) FROM IMGroupMessage_%d AS m LEFT JOIN IMGroup AS g "+
				"ON g.id=m.groupId AND g.status=0 WHERE g.id IS NULL", n)
	}
	for what, q := range queries {
		var n int64
		if err := b.db.QueryRowContext(ctx, q).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			b.notes = append(b.notes, fmt.Sprintf("left out: %d rows of %s", n, what))
		}
	}
	slices.Sort(b.notes)
	return nil
}

// bigWrites are the tables and columns of the subjects that have one row for each of theirs.
var bigWrites = map[string]struct{ table, columns string }{
	departs: {"IMDepart", "id, departName, priority, parentId, status, created, updated"},
	users: {"IMUser", "id, name, domain, nick, sex, password, salt, phone, email, avatar, " +
		"departId, status, push_shield_status, sign_info, created, updated"},
	sounds: {"IMAudio", "id, fromId, toId, path, size, duration, created"},
	files: {"IMTransmitFile", "id, fromId, toId, taskId, fileName, size, status, created, " +
		"updated"},
	clientIDs: {"IMClientMsgId", "toType, relateId, fromId, toId, clientMsgId, msgId, created"},
	readMarks: {"IMReadMark", "userId, type, peerId, msgId"},
}

func (b *big) write(ctx context.Context, what string, rows []row) error {
	if w, ok := bigWrites[what]; ok {
		list := make([][]any, len(rows))
		for i, r := range rows {
			list[i] = r
		}
		return b.insert(ctx, w.table, w.columns, list)
	}
	switch what {
	case conversations:
		return b.writeConversations(ctx, rows)
	case messages, groupMessages:
		return b.writeMessages(ctx, what, rows)
	case groups:
		return b.writeGroups(ctx, rows)
	case members:
		return b.writeMembers(ctx, rows)
	case departures:
		return b.writeDepartures(ctx, rows)
	case nextIDs:
		return b.writeNextIDs(ctx, rows)
	}
	return b.writeRedis(ctx, what, rows)
}

// insert inserts rows with one statement.
func (b *big) insert(ctx context.Context, table, columns string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	one := "(?" + strings.Repeat(",?", len(rows[0])-1) + ")"
	q := "INSERT INTO " + table + " (" + columns + ") VALUES " + one +
		strings.Repeat(","+one, len(rows)-1)
	var args []any
	for _, r := range rows {
		for _, v := range r {
			if t, ok := v.([]byte); ok && table != "IMClientMsgId" {
				v = string(t) // the driver marks bytes as binary
			}
			args = append(args, v)
		}
	}
	_, err := b.db.ExecContext(ctx, q, args...)
	return err
}

// writeMessages inserts messages into their tables.
func (b *big) writeMessages(ctx context.Context, what string, rows []row) error {
	var parts [schema.Tables][][]any
	table, columns := "IMMessage_", "relateId, msgId, fromId, toId, type, status, created, "+
		"sentAs, content, updated"
	created := 6
	if what == groupMessages {
		table, columns = "IMGroupMessage_", "groupId, msgId, userId, type, status, created, "+
			"sentAs, content, updated"
		created = 5
	}
	for _, r := range rows {
		n := r.num(0) % schema.Tables
		parts[n] = append(parts[n], append(r[:len(r):len(r)], r.num(created)))
	}
	for n, part := range parts {
		if err := b.insert(ctx, fmt.Sprint(table, n), columns, part); err != nil {
			return err
		}
	}
	return nil
}

// writeConversations inserts relations with the sides' entries in their lists, and sets the
// counters of message ids.
func (b *big) writeConversations(ctx context.Context, rows []row) error {
	var relations, sessions [][]any
	for _, r := range rows {
		relations = append(relations, []any{r.num(0), r.num(1), r.num(2), 0, r.num(6), r.num(7)})
		for side := range 2 {
			status, removed := r.num(4+side), int64(0)
			if status != 0 {
				removed = r.num(3)
			}
			sessions = append(sessions, []any{r.num(1 + side), r.num(2 - side), 1, status, r.num(6),
				r.num(7), removed})
		}
	}
	err := b.insert(ctx, "IMRelationShip", "id, smallId, bigId, status, created, updated",
		relations)
	if err == nil {
		err = b.insert(ctx, "IMRecentSession", sessionColumns, sessions)
	}
	if err != nil {
		return err
	}
	return b.setCounters(ctx, "msg_id_", rows, 3)
}

const sessionColumns = "userId, peerId, type, status, created, updated, removedMsgId"

// writeGroups inserts groups, and sets their counters of ids and of messages.
func (b *big) writeGroups(ctx context.Context, rows []row) error {
	list := make([][]any, len(rows))
	for i, r := range rows {
		list[i] = []any{r.num(0), r.text(1), r.text(2), r.num(3), r.num(4), r.num(5), r.num(7),
			r.num(8), r.num(9), 0}
	}
	err := b.insert(ctx, "IMGroup", "id, name, avatar, creator, type, version, lastChated, "+
		"created, updated, status", list)
	if err != nil {
		return err
	}
	if err := b.setCounters(ctx, "group_msg_id_", rows, 6); err != nil {
		return err
	}
	return b.setSent(ctx, rows)
}

// writeMembers inserts memberships and the members' entries in their lists, and sets what they
// have read to everything. Unread counts follow.
func (b *big) writeMembers(ctx context.Context, rows []row) error {
	var joined, sessions [][]any
	for _, r := range rows {
		group, user, after, last := r.num(0), r.num(1), r.num(2), r.num(3)
		at := r.num(6)
		joined = append(joined, []any{group, user, 0, at, at, at, after, r.num(7)})
		if after < last { // it sees a message
			sessions = append(sessions, []any{user, group, 2, r.num(5), at, r.num(4),
				r.num(5) * last})
		}
	}
	err := b.insert(ctx, "IMGroupMember", "groupId, userId, status, created, updated, joinedAt, "+
		"joinMsgId, addedBy", joined)
	if err == nil {
		err = b.insert(ctx, "IMRecentSession", sessionColumns, sessions)
	}
	if err != nil {
		return err
	}
	return b.setRead(ctx, rows)
}

// writeDepartures inserts rows of former members.
func (b *big) writeDepartures(ctx context.Context, rows []row) error {
	list := make([][]any, len(rows))
	for i, r := range rows {
		at := r.num(2)
		list[i] = []any{r.num(0), r.num(1), 1, at, at, at}
	}
	return b.insert(ctx, "IMGroupMember", "groupId, userId, status, created, updated, leftAt", list)
}

// writeNextIDs sets the next ids of tables.
func (b *big) writeNextIDs(ctx context.Context, rows []row) error {
	for _, r := range rows {
		q := fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT=%d", r.text(0), r.num(1))
		if _, err := b.db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}
