// Package schema creates and changes the MySQL tables: numbered migrations, in two
// phases.
//
// Migrate makes the changes that are safe while C++ db_proxies write to the same
// database. It adds tables, indexes and columns with defaults, and never renames or
// drops. Finalize runs when no C++ db_proxy is left. It resolves the duplicates that they
// made, and adds the unique keys that prevent new ones. A database that Migrate created
// has the unique keys from the beginning.
//
// Both may be killed at any point and run again. Two never run at once, because they hold
// a named lock of the database. The runner is written by hand because DDL in MySQL
// commits by itself: a migration can be resumed only if each statement first checks
// whether its change exists, and migration libraries do not do that. SCHEMA.md, one
// folder up, describes every table and key.
package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
)

// Options configure Migrate and Finalize. The zero value is right for Migrate.
type Options struct {
	// Progress is called with a sentence about each change. nil: no reports.
	Progress func(msg string)
	// RaiseCounter raises a conversation's message-id counter to at least max. Finalize
	// calls it before it commits ids above the counter. nil: no counter is raised, and
	// the store raises each one before its first use.
	RaiseCounter func(ctx context.Context, c Conversation, max uint32) error
	// Force makes Finalize run while other connections use the database. Storing a
	// message over such a connection may fail.
	Force bool
}

// Conversation identifies a sequence of message ids.
type Conversation struct {
	Group bool   // whether it is a group
	ID    uint32 // IMRelationShip.id, or the group's id
}

// State is the state of a database's schema.
type State struct {
	Version   int      // number of the newest migration that was applied, 0 for none
	Latest    int      // number of the newest migration
	Pending   []string // names of the migrations that were not applied, in order
	Finalized bool     // whether all unique keys exist
	Missing   []string // unique keys that do not exist, as table.key
}

// versionTable records the migrations that were applied. Row 0 means that Migrate created
// the database.
const versionTable = `CREATE TABLE schema_migrations (
  version INT UNSIGNED NOT NULL,
  name VARCHAR(64) NOT NULL,
  applied INT UNSIGNED NOT NULL,
  PRIMARY KEY (version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin`

// Status returns the state of the schema of db's database. It changes nothing.
func Status(ctx context.Context, db *sql.DB) (State, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return State{}, im.WithKind(im.Unavailable, "connect to the database", err)
	}
	defer conn.Close()
	return (&run{conn: conn}).status(ctx)
}

// Migrate applies all pending migrations, whose changes are safe beside running C++
// servers. It finalizes a database that was empty before. The error is of kind Busy when
// another process migrates, and Unavailable when the database does not answer. db must
// allow two connections: one migrates, the other renews the lease.
func Migrate(ctx context.Context, db *sql.DB, o Options) error {
	return locked(ctx, db, o, (*run).migrate)
}

// run is a migration in progress. It has one connection, which holds the named lock.
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

// lockName is an SQL expression for the lock's name. Named locks belong to the server, so
// the name contains the database's name, as a hash because a lock's name has at most 64
// characters.
const lockName = `CONCAT('teamtalk.schema.', LEFT(MD5(DATABASE()), 16))`

// locked runs do on one connection that holds the named lock, and with the lease that
// holds on all nodes of a cluster. Older versions of this program know only the lock.
func locked(ctx context.Context, db *sql.DB, o Options,
	do func(*run, context.Context) error) error {
	if db.Stats().MaxOpenConnections == 1 { // the lease would wait for the connection
		return im.Errorf(im.Invalid, "a migration needs two connections to the database, "+
			"and the pool has 1")
	}
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
	// The lock ends with the connection, so an error of the release has no consequence.
	defer conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK("+lockName+")")
	// While an ALTER waits for a locked table, all other statements on that table queue
	// behind it. So it gives up after a short wait, and is retried.
	if _, err := conn.ExecContext(ctx,
		"SET SESSION lock_wait_timeout=5, SESSION innodb_lock_wait_timeout=20, SESSION "+
			"sql_mode='STRICT_ALL_TABLES'"); err != nil {
		return fmt.Errorf("prepare the session: %w", err)
	}
	r := &run{conn: conn, o: o}
	if err := r.writable(ctx); err != nil {
		return err
	}
	if err := r.makeLease(ctx); err != nil {
		return err
	}
	l, err := takeMigration(ctx, db)
	if err != nil {
		return err
	}
	defer func() {
		if err := l.Release(context.WithoutCancel(ctx)); err != nil {
			r.say("the lease of the migration ends in %v: %v", migrationTTL, err)
		}
	}()
	return whileLeased(ctx, l, func(ctx context.Context) error { return do(r, ctx) })
}

// makeLease makes the table of leases, before the migration of that name is due: no
// migration may run without a lease.
func (r *run) makeLease(ctx context.Context) error {
	err := r.apply(ctx, load("0006_lease.sql"))
	if isMySQL(err, errTableExists) { // another process made it meanwhile
		return nil
	}
	return err
}

// errTableExists is the error of CREATE TABLE for a table that exists.
const errTableExists = 1050

// migrate applies the pending migrations.
func (r *run) migrate(ctx context.Context) error {
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

// begin creates the version table, and records in it whether the database is new. A
// migration that was killed knows from this record that the tables it finds are its own.
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

// record records a migration as applied.
func (r *run) record(ctx context.Context, version int, name string) error {
	_, err := r.conn.ExecContext(ctx,
		"INSERT INTO schema_migrations (version, name, applied) VALUES (?, ?, UNIX_TIMESTAMP())",
		version, name)
	if err != nil {
		return fmt.Errorf("record migration %d: %w", version, err)
	}
	return nil
}

// applied returns the numbers of the applied migrations.
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

// status reads the versions and the keys.
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
	keys, err := r.existing(ctx, finalSteps()...)
	if err != nil {
		return State{}, err
	}
	for _, st := range finalSteps() {
		if !keys.has(st) {
			s.Missing = append(s.Missing, st.table+"."+st.name)
		}
	}
	s.Finalized = len(s.Missing) == 0
	return s, nil
}

// lockTries bounds the tries of a statement whose table is locked. Each takes 5 seconds.
const lockTries = 24

// ddl runs a statement, and retries while its table is locked.
func (r *run) ddl(ctx context.Context, stmt string) error {
	for try := 1; ; try++ {
		_, err := r.conn.ExecContext(ctx, stmt)
		if !isMySQL(err, 1205, 1213) || try == lockTries {
			return err
		}
		r.say("waiting for a lock (%d of %d)", try, lockTries)
		// Statements that queued behind ours go first.
		if err := backoff.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// writable returns an error on a replica, where changes would be lost or break the
// replication.
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

// isMySQL reports whether err is an error of the server with one of these numbers.
func isMySQL(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains(numbers, e.Number)
}
