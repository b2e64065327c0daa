package benchcmd

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"teamtalk/bench/faults"
	"teamtalk/sql/embedded"
	"teamtalk/sql/mysqlconn"
)

// embeddedFile is the file of the embedded store in its folder.
const embeddedFile = embedded.FileName

// tables reads the tables of a store.
type tables struct {
	db       *sql.DB
	messages []string // queries for (group, smaller user, larger user, id, sender, content)
	members  string   // query for the members of a group
	// waiting is the query for the oldest and the newest batch that no table has yet. Empty: the
	// tables have all at once.
	waiting string
}

// openMySQL opens the tables of MySQL.
func openMySQL(ctx context.Context, dsn string) (*tables, error) {
	t := &tables{members: "SELECT userId FROM IMGroupMember WHERE groupId = ? AND status = 0 " +
		"ORDER BY userId"}
	for n := range 8 {
		t.messages = append(t.messages, fmt.Sprintf("SELECT 0, r.smallId, r.bigId, m.msgId, "+
			"m.fromId, m.content FROM IMMessage_%d m JOIN IMRelationShip r ON r.id = m.relateId "+
			"WHERE m.status = 0 ORDER BY m.relateId, m.msgId", n),
			fmt.Sprintf("SELECT groupId, 0, 0, msgId, userId, content FROM IMGroupMessage_%d "+
				"WHERE status = 0 ORDER BY groupId, msgId", n))
	}
	cfg, err := mysqlconn.Parse(dsn, nil)
	if err != nil {
		return nil, err
	}
	connector, err := mysqlconn.Connector(cfg)
	if err != nil {
		return nil, err
	}
	return t, t.open(ctx, sql.OpenDB(connector))
}

// openEmbedded opens the tables of an embedded store, which a server may have open.
func openEmbedded(ctx context.Context, path string) (*tables, error) {
	t := &tables{
		members: "SELECT userId FROM IMGroupMember WHERE groupId = ? ORDER BY userId",
		waiting: "SELECT COALESCE(MIN(id), 0), COALESCE(MAX(id), 0) FROM Arrived WHERE id > 0",
		messages: []string{"SELECT 0, r.smallId, r.bigId, m.id & 0xffffffff, m.fromId, m.content " +
			"FROM IMMessage m JOIN IMRelationShip r ON r.id = m.id >> 32 WHERE m.status = 0 " +
			"ORDER BY m.id",
			"SELECT id >> 32, 0, 0, id & 0xffffffff, userId, content FROM IMGroupMessage " +
				"WHERE status = 0 ORDER BY id"},
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	return t, t.open(ctx, db)
}

// open takes the database, and checks that it answers.
func (t *tables) open(ctx context.Context, db *sql.DB) error {
	t.db = db
	t.db.SetMaxIdleConns(0) // the server may be killed between two questions
	return t.db.PingContext(ctx)
}

// Close closes the database.
func (t *tables) Close() error { return t.db.Close() }

// writeTime bounds the time in which the server writes an accepted message into the tables. It
// usually takes half a second.
const writeTime = 30 * time.Second

// written waits until the tables have all messages that were accepted before the call. The server
// of an embedded store writes them a while after the answer.
func (t *tables) written(ctx context.Context) error {
	if t.waiting == "" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, writeTime,
		fmt.Errorf("the server writes no messages into the tables for %v", writeTime))
	defer cancel()
	for last := int64(0); ; {
		var oldest, newest int64
		if err := t.db.QueryRowContext(ctx, t.waiting).Scan(&oldest, &newest); err != nil {
			return err
		}
		if last == 0 {
			last = newest
		}
		if oldest == 0 || oldest > last {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Messages returns all messages that were accepted before the call.
func (t *tables) Messages(ctx context.Context) (map[faults.Conv][]faults.Stored, error) {
	if err := t.written(ctx); err != nil {
		return nil, err
	}
	all := map[faults.Conv][]faults.Stored{}
	for _, query := range t.messages {
		rows, err := t.db.QueryContext(ctx, query)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var c faults.Conv
			var m faults.Stored
			err := rows.Scan(&c.Group, &c.A, &c.B, &m.ID, &m.From, &m.Content)
			if err != nil {
				_ = rows.Close()
				return nil, err
			}
			all[c] = append(all[c], m)
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Members returns the members of a group in increasing order.
func (t *tables) Members(ctx context.Context, group uint32) ([]uint32, error) {
	rows, err := t.db.QueryContext(ctx, t.members, group)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var users []uint32
	for rows.Next() {
		var user uint32
		if err := rows.Scan(&user); err != nil {
			return nil, err
		}
		users = append(users, user)
	}
	return users, rows.Err()
}
