package store

import (
	"context"
	"database/sql"
	"time"
)

// hooks are points at which a test lets a process crash: a hook that returns an error
// ends the batch at that point.
type hooks struct {
	// after the commit, before the unread counts are applied
	afterCommit func() error
	// after the counts are applied, before the outbox row is removed
	afterCount func() error
	commit     func(ctx context.Context, conn *sql.Conn) error // replaces the commit
	// after the statements of a transaction, before its commit
	beforeCommit func(ctx context.Context, conn *sql.Conn)
	// before and after a batch draws its ids, and before it closes some
	undrawn, drawn, closing func()
	// a rebuild has found a count that a batch owes, and will look again
	owing func()
	// after the members are read for Redis, before they are written
	mirror func() error
	clock  func() time.Time // replaces the master's clock
}

// run calls a hook if the test has set it.
func (hooks) run(h func() error) error {
	if h == nil {
		return nil
	}
	return h()
}

// call calls a hook if the test has set it.
func (hooks) call(h func()) {
	if h != nil {
		h()
	}
}
