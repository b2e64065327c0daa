package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"teamtalk/core/im"
	"teamtalk/sql/embedded"
	"teamtalk/sql/embedded/faults"
)

// openSQLite opens a database with one connection.
func openSQLite(file, params string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?"+params)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// snapshot copies the database as it is at one moment, and returns the version of its schema. One
// statement does it: it reads in one transaction, for which no writer waits. SQLite's backup
// interface copies in steps, and starts over when another process writes between two steps.
func snapshot(ctx context.Context, from, to string) (schema int, err error) {
	db, err := openSQLite(from, "mode=rw&_pragma=busy_timeout(5000)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "vacuum into ?", to); err != nil {
		return 0, fmt.Errorf("copy %s to %s: %w", from, to, faults.Describe(err))
	}
	if err := os.Chmod(to, 0o600); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(to, os.O_RDWR, 0) // no process has the copy open
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	return checkDatabase(ctx, to)
}

// checkDatabase looks for damage in a database that no process uses, without writing, and returns
// the version of its schema.
func checkDatabase(ctx context.Context, file string) (schema int, err error) {
	db, err := openSQLite(file, "mode=ro&immutable=1")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var result string
	if err := db.QueryRowContext(ctx, "pragma quick_check(1)").Scan(&result); err != nil {
		return 0, fmt.Errorf("check %s: %w", file, err)
	}
	if result != "ok" {
		return 0, im.Errorf(im.Invalid, "%s is damaged: %s", file, result)
	}
	err = db.QueryRowContext(ctx, "pragma user_version").Scan(&schema)
	return schema, err
}

// DefaultGap is the number of message ids that Restore leaves out in each conversation.
const DefaultGap = 100_000

// entityGap is the number of ids of users, groups, departments and files that Restore leaves out,
// and by which it raises the versions of groups.
const entityGap = 10_000

// The statements of advance, with the gap ?1, entityGap ?2 and the time ?3. Of a member's three
// numbers, the one that says how much it has read keeps its distance to the group's number. The
// others do so when they hide the group's last message, and otherwise stay.
var advances = []string{
	`update IMRelationShip set lastMsgId = lastMsgId + ?1`,
	`update IMGroupMember set readMsgId = readMsgId + ?1,
		joinMsgId = joinMsgId + case when joinMsgId >= g.lastMsgId then ?1 else 0 end,
		removeMsgId = removeMsgId + case when removeMsgId >= g.lastMsgId then ?1 else 0 end
		from IMGroup g where g.id = groupId`,
	`update IMGroup set lastMsgId = lastMsgId + ?1, version = version + ?2, updated = ?3`,
	`update IMUser set updated = ?3`,
	`update IMDepart set updated = ?3`,
	`insert into sqlite_sequence (name, seq)
		select column1, 0 from (values ('IMUser'), ('IMDepart'), ('IMRelationShip'), ('IMGroup'),
		('IMAudio'), ('IMTransmitFile'))
		where column1 not in (select name from sqlite_sequence)`,
	`update sqlite_sequence set seq = seq + ?2`,
}

// advance leaves a gap in all ids, so that none is given again that the store gave after the
// backup: clients drop a message with an id that they know, and show a user with a known id as the
// one that they know. Users, departments and groups count as changed now, because clients may know
// later changes that are lost, and ask only for what changed after these.
func advance(ctx context.Context, dir string, gap uint32, now int64) (err error) {
	s, err := embedded.Open(ctx, embedded.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Raw(ctx, func(conn *sql.Conn) error {
		var highest int64
		if err := conn.QueryRowContext(ctx, `select coalesce(max(n), 0) from (
			select max(lastMsgId) as n from IMRelationShip union all
			select max(lastMsgId) from IMGroup)`).Scan(&highest); err != nil {
			return err
		}
		if highest+int64(gap) > 1<<32-1 {
			return im.Errorf(im.Invalid, "a gap of %d after the message id %d leaves no ids: "+
				"choose a smaller one", gap, highest)
		}
		for _, q := range advances {
			if _, err := conn.ExecContext(ctx, q, gap, entityGap, now); err != nil {
				return err
			}
		}
		return nil
	})
}
