package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/im"
)

// What no unique key prevents, a lock does: a row of IMLease that each transaction writes
// first (claim). On one server the second transaction waits for the first. On two nodes of
// a Galera cluster the one that commits later is aborted, and tried again after the other.
//
// A named lock of the database holds on one node only. It is taken as well, because older
// versions know no other, and because waiting for it costs less than an abort.

// lockWait is the longest time to wait for a named lock, in seconds.
const lockWait = 10

// errCommit is in the chain of the error of a COMMIT whose outcome is in doubt.
var errCommit = errors.New("commit in doubt")

// exclusively runs do in a transaction on conn. No two processes do so at once under one
// name, on all nodes of a cluster. The caller repeats it after a transient error.
func (s *databases) exclusively(ctx context.Context, conn *sql.Conn, name string,
	do func(tx *sql.Tx) error) error {
	if err := s.lock(ctx, conn, name); err != nil {
		return err
	}
	defer s.unlock(conn, name)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err = claim(ctx, tx, name); err == nil {
		err = do(tx)
	}
	if err != nil {
		tx.Rollback() // if it fails, the connection is lost and the transaction with it
		return err
	}
	if err = tx.Commit(); err != nil && !refused(err) {
		err = fmt.Errorf("%w: %w", errCommit, err)
	}
	return err
}

// claim writes the row of IMLease with a name. It is the first statement of a transaction,
// whose later reads then see what the transaction before it has committed.
func claim(ctx context.Context, tx querier, name string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO IMLease (name, holder, epoch, until) "+
		"VALUES (?, '', 1, 0) ON DUPLICATE KEY UPDATE epoch=epoch+1", name)
	return err
}

// lock takes a named lock on a connection. It fails with kind Busy after lockWait.
func (s *databases) lock(ctx context.Context, conn *sql.Conn, name string) error {
	got, err := s.lockWithin(ctx, conn, name, lockWait)
	if err == nil && !got {
		return im.Errorf(im.Busy, "lock %q was not free within %d s", name, lockWait)
	}
	return err
}

// tryLock takes a named lock on a connection if it is free.
func (s *databases) tryLock(ctx context.Context, conn *sql.Conn, name string) (bool, error) {
	return s.lockWithin(ctx, conn, name, 0)
}

// lockWithin waits for a named lock for a number of seconds, and reports whether it got it.
func (s *databases) lockWithin(ctx context.Context, conn *sql.Conn, name string,
	seconds int) (bool, error) {
	var got sql.NullInt64
	err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", s.locks+name, seconds).Scan(&got)
	return got.Int64 == 1, err
}

// unlock releases a named lock. If the statement fails, the connection is closed, which
// releases the lock.
func (s *databases) unlock(conn *sql.Conn, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), lockWait*time.Second)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", s.locks+name); err != nil {
		// The connection may still hold the lock, so it must not be used again.
		discard(conn)
	}
}
