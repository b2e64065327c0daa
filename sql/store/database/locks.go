package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/store/use"
)

// What no unique key prevents, a lock does: a row of IMLease that each transaction writes
// first (claim). On one server the second transaction waits for the first. On two nodes of
// a Galera cluster the one that commits later is aborted, and tried again after the other.
//
// A named lock of the database holds on one node only. It is taken as well, because older
// versions know no other, and because waiting for it costs less than an abort.

// LockWait is the longest time to wait for a named lock, in seconds.
const LockWait = 10

// ErrCommit is in the chain of the error of a COMMIT whose outcome is in doubt.
var ErrCommit = errors.New("commit in doubt")

// Exclusively runs do in a transaction on conn. No two processes do so at once under one
// name, on all nodes of a cluster. The caller repeats it after a transient error.
func (s *DB) Exclusively(ctx context.Context, conn *sql.Conn, name string,
	do func(tx *sql.Tx) error) error {
	if err := s.Lock(ctx, conn, name); err != nil {
		return err
	}
	defer s.Unlock(conn, name)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err = Claim(ctx, tx, name); err == nil {
		err = do(tx)
	}
	if err != nil {
		tx.Rollback() // if it fails, the connection is lost and the transaction with it
		return err
	}
	if err = tx.Commit(); err != nil && !Refused(err) {
		err = fmt.Errorf("%w: %w", ErrCommit, err)
	}
	return err
}

// Claim writes the row of IMLease with a name. It is the first statement of a transaction,
// whose later reads then see what the transaction before it has committed.
func Claim(ctx context.Context, tx Querier, name string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO IMLease (name, holder, epoch, until) "+
		"VALUES (?, '', 1, 0) ON DUPLICATE KEY UPDATE epoch=epoch+1", name)
	return err
}

// Lock takes a named lock on a connection. It fails with kind Busy after LockWait.
func (s *DB) Lock(ctx context.Context, conn *sql.Conn, name string) error {
	got, err := s.lockWithin(ctx, conn, name, LockWait)
	if err == nil && !got {
		return im.Errorf(im.Busy, "lock %q was not free within %d s", name, LockWait)
	}
	return err
}

// TryLock takes a named lock on a connection if it is free.
func (s *DB) TryLock(ctx context.Context, conn *sql.Conn, name string) (bool, error) {
	return s.lockWithin(ctx, conn, name, 0)
}

// lockWithin waits for a named lock for a number of seconds, and reports whether it got it.
func (s *DB) lockWithin(ctx context.Context, conn *sql.Conn, name string,
	seconds int) (bool, error) {
	var got sql.NullInt64
	err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", s.locks+name, seconds).Scan(&got)
	return got.Int64 == 1, err
}

// Unlock releases a named lock. If the statement fails, the connection is closed, which
// releases the lock.
func (s *DB) Unlock(conn *sql.Conn, name string) {
	ctx, cancel := context.WithTimeout(use.Periodic(context.Background()),
		LockWait*time.Second)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", s.locks+name); err != nil {
		// The connection may still hold the lock, so it must not be used again.
		Discard(conn)
	}
}
