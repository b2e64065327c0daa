package database

import (
	"context"
	"database/sql"
	"time"
)

// Hooks are points at which a test lets a process crash: a hook that returns an error
// ends the batch at that point.
type Hooks struct {
	// after the commit, before the unread counts are applied
	AfterCommit func() error
	// after the counts are applied, before the outbox row is removed
	AfterCount func() error
	Commit     func(ctx context.Context, conn *sql.Conn) error // replaces the commit
	// after the statements of a transaction, before its commit
	BeforeCommit func(ctx context.Context, conn *sql.Conn)
	// before and after a batch draws its ids, and before it closes some
	Undrawn, Drawn, Closing func()
	// a rebuild has found a count that a batch owes, and will look again
	Owing func()
	// after the members are read for Redis, before they are written
	Mirror func() error
	Clock  func() time.Time // replaces the master's clock
}

// Run calls a hook if the test has set it.
func (Hooks) Run(h func() error) error {
	if h == nil {
		return nil
	}
	return h()
}

// Call calls a hook if the test has set it.
func (Hooks) Call(h func()) {
	if h != nil {
		h()
	}
}
