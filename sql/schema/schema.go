// Package schema makes and changes the MySQL tables: numbered migrations, in two phases.
//
// Migrate makes the changes that are safe while C++ db_proxies write to the same database: it adds tables, indexes and columns with defaults,
// and never renames or drops. Finalize, run when every db_proxy is ours, resolves the duplicates that the C++ servers left and adds the unique
// keys that keep new ones out. A database that Migrate made from nothing has the unique keys from birth.
//
// Both may be killed at any point and run again, and two never run at once: they hold a named lock of the database. The runner is written by hand
// because DDL in MySQL commits by itself: what makes a migration resumable is that each statement first looks whether its work is done, which
// migration libraries do not do. SCHEMA.md, one folder up, describes every table and key.
package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
)

// Options say how Migrate and Finalize run. The zero value is good for Migrate.
type Options struct {
	// Progress is told each thing that is done, in a sentence for people. Nil means nobody listens.
	Progress func(msg string)
	// RaiseCounter sets a conversation's counter of message ids to at least max. Finalize calls it before it commits ids above what
	// the counter may hold. Nil means that no counter is raised: the store then raises each when it first uses it.
	RaiseCounter func(ctx context.Context, c Conversation, max uint32) error
	// Force makes Finalize run although other connections use the database. Messages they store meanwhile may fail.
	Force bool
}

// Conversation names a sequence of message ids.
type Conversation struct {
	Group bool   // of a group
	ID    uint32 // IMRelationShip.id, or the group's id
}

// State is how far a database's schema is.
type State struct {
	Version   int      // number of the newest migration applied, 0 for none
	Latest    int      // number of the newest migration there is
	Pending   []string // names of those not applied, in order
	Finalized bool     // every unique key is there
	Missing   []string // unique keys that are not there, as table.key
}

// versionTable records what was applied. Row 0 says that Migrate made the database from nothing.
const versionTable = `CREATE TABLE schema_migrations (
  version INT UNSIGNED NOT NULL,
  name VARCHAR(64) NOT NULL,
  applied INT UNSIGNED NOT NULL,
  PRIMARY KEY (version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin`

// Status returns the state of the schema of the database that db is connected to. It changes nothing.
func Status(ctx context.Context, db *sql.DB) (State, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return State{}, im.WithKind(im.Unavailable, "connect to the database", err)
	}
	defer conn.Close()
	return (&run{conn: conn}).status(ctx)
}

// Migrate brings the schema to the newest version with changes that are safe beside running C++ servers, and finalizes the database when it
// was empty before. Its kind of error is Busy when another process migrates, Unavailable when the database does not answer.
func Migrate(ctx context.Context, db *sql.DB, o Options) error {
	return locked(ctx, db, o, (*run).migrate)
}

// run is one migration at work. It holds one connection, which holds the named lock.
type run struct {
	conn *sql.Conn
	o    Options
}

// say reports progress.
func (r *run) say(format string, args ...any) {
	if r.o.Progress != nil {
		r.o.Progress(fmt.Sprintf(format, args...))
	}
}

// lockName is an SQL expression for the name of the lock: named locks belong to the server, so the name holds the database's, hashed because
// a lock's name has at most 64 characters.
const lockName = `CONCAT('teamtalk.schema.', LEFT(MD5(DATABASE()), 16))`

// locked runs do on one connection, under the named lock.
func locked(ctx context.Context, db *sql.DB, o Options,
	do func(*run, context.Context) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return im.WithKind(im.Unavailable, "connect to the database", err)
	}
	defer conn.Close()
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK("+lockName+", 0)").Scan(&got); err != nil {
		return fmt.Errorf("take the migration lock: %w", err)
	}
	if got.Int64 != 1 {
		return im.Errorf(im.Busy, "another process is migrating this database")
	}
	// When the connection is gone so is the lock; nothing is left to do about an error here.
	defer conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK("+lockName+")")
	// A table that stays locked must not make every other statement on it queue behind a waiting ALTER: give up soon, and try again.
	if _, err := conn.ExecContext(ctx,
		"SET SESSION lock_wait_timeout=5, SESSION innodb_lock_wait_timeout=20, SESSION "+
			"sql_mode='STRICT_ALL_TABLES'"); err != nil {
		return fmt.Errorf("prepare the session: %w", err)
	}
	return do(&run{conn: conn, o: o}, ctx)
}

// migrate applies what is pending.
func (r *run) migrate(ctx context.Context) error {
	if err := r.writable(ctx); err != nil {
		return err
	}
	applied, err := r.applied(ctx)
	if err != nil {
		return err
	}
	if len(applied) == 0 {
		if applied, err = r.begin(ctx); err != nil {
			return err
		}
	}
	for _, m := range migrations() {
		if slices.Contains(applied, m.version) {
			continue
		}
		r.say("migration %d (%s)", m.version, m.name)
		if err := r.apply(ctx, m.steps); err != nil {
			return fmt.Errorf("migration %d (%s): %w", m.version, m.name, err)
		}
		if err := r.record(ctx, m.version, m.name); err != nil {
			return err
		}
	}
	if slices.Contains(applied, 0) {
		return r.apply(ctx, finalSteps())
	}
	return nil
}

// begin makes the table of versions, and notes in it whether the database is new. From the note a migration that is killed half way knows later that
// the tables it finds are its own.
func (r *run) begin(ctx context.Context) ([]int, error) {
	old, err := r.has(ctx, step{table: "IMUser"})
	if err != nil {
		return nil, err
	}
	if err := r.apply(ctx, []step{parse(versionTable)}); err != nil {
		return nil, err
	}
	if old {
		r.say("found the tables of an existing deployment")
		return nil, nil
	}
	return []int{0}, r.record(ctx, 0, "new database")
}

// record notes that a migration is done.
func (r *run) record(ctx context.Context, version int, name string) error {
	_, err := r.conn.ExecContext(ctx,
		"INSERT INTO schema_migrations (version, name, applied) VALUES (?, ?, UNIX_TIMESTAMP())",
		version, name)
	if err != nil {
		return fmt.Errorf("record migration %d: %w", version, err)
	}
	return nil
}

// applied returns the numbers of the migrations done.
func (r *run) applied(ctx context.Context) ([]int, error) {
	if ok, err := r.has(ctx, step{table: "schema_migrations"}); err != nil || !ok {
		return nil, err
	}
	rows, err := r.conn.QueryContext(ctx, "SELECT version FROM schema_migrations ORDER BY version")
	if err != nil {
		return nil, fmt.Errorf("read schema version: %w", err)
	}
	defer rows.Close()
	var versions []int
	for rows.Next() {
		var v int
		if err := rows.Scan(&v); err != nil {
			return nil, fmt.Errorf("read schema version: %w", err)
		}
		versions = append(versions, v)
	}
	return versions, rows.Err()
}

// status reads versions and keys.
func (r *run) status(ctx context.Context) (State, error) {
	applied, err := r.applied(ctx)
	if err != nil {
		return State{}, err
	}
	var s State
	for _, m := range migrations() {
		s.Latest = m.version
		if slices.Contains(applied, m.version) {
			s.Version = m.version
		} else {
			s.Pending = append(s.Pending, fmt.Sprintf("%d (%s)", m.version, m.name))
		}
	}
	for _, st := range finalSteps() {
		ok, err := r.has(ctx, st)
		if err != nil {
			return State{}, err
		}
		if !ok {
			s.Missing = append(s.Missing, st.table+"."+st.name)
		}
	}
	s.Finalized = len(s.Missing) == 0
	return s, nil
}

// apply runs the steps whose work is not done.
func (r *run) apply(ctx context.Context, steps []step) error {
	for _, st := range steps {
		done, err := r.has(ctx, st)
		if err != nil {
			return err
		}
		if done {
			continue
		}
		if err := r.ddl(ctx, st.sql); err != nil {
			return fmt.Errorf("%s: %w", st, err)
		}
		r.say("%s: done", st)
	}
	return nil
}

// has reports whether the work of a step is done.
func (r *run) has(ctx context.Context, st step) (bool, error) {
	query,
		args := "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA=DATABASE() "+
		"AND LOWER(TABLE_NAME)=LOWER(?)", []any{st.table}
	switch st.kind {
	case addColumn:
		query,
			args = "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE "+
			"TABLE_SCHEMA=DATABASE() AND LOWER(TABLE_NAME)=LOWER(?) AND COLUMN_NAME=?",
			[]any{st.table, st.name}
	case addIndex:
		query,
			args = "SELECT COUNT(*) FROM information_schema.STATISTICS WHERE "+
			"TABLE_SCHEMA=DATABASE() AND LOWER(TABLE_NAME)=LOWER(?) AND INDEX_NAME=?",
			[]any{st.table, st.name}
	case widenColumn:
		query,
			args = "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE "+
			"TABLE_SCHEMA=DATABASE() AND LOWER(TABLE_NAME)=LOWER(?) AND COLUMN_NAME=? AND "+
			"CHARACTER_MAXIMUM_LENGTH>=?",
			[]any{st.table, st.name, st.width}
	}
	var n int
	if err := r.conn.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return false, fmt.Errorf("look for %s: %w", st, err)
	}
	return n > 0, nil
}

// lockTries is how often a statement is tried whose table stays locked, 5 seconds each.
const lockTries = 24

// ddl runs a statement, again while its table is locked by others.
func (r *run) ddl(ctx context.Context, stmt string) error {
	for try := 1; ; try++ {
		_, err := r.conn.ExecContext(ctx, stmt)
		if !isMySQL(err, 1205, 1213) || try == lockTries {
			return err
		}
		r.say("waiting for a lock (%d of %d)", try, lockTries)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond): // let those who queued behind us go first
		}
	}
}

// writable refuses a replica, where changes would be lost or break replication.
func (r *run) writable(ctx context.Context) error {
	var readOnly bool
	if err := r.conn.QueryRowContext(ctx, "SELECT @@global.read_only").Scan(&readOnly); err != nil {
		return fmt.Errorf("ask whether the server is read-only: %w", err)
	}
	if readOnly {
		return im.Errorf(im.Denied, "this server is read-only (a replica?): use the master's DSN")
	}
	return nil
}

// isMySQL reports whether err is one of the server's errors with these numbers.
func isMySQL(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains(numbers, e.Number)
}
