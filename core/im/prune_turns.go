package im

import (
	"context"
	"time"
)

// MinPruneAge is the shortest age of a message that a rule or a command may delete for its age.
// Repeats of a message are recognised for a day, and its clients may not have read it yet.
const MinPruneAge = 48 * time.Hour

// PruneTurns records the runs that keep a rule about old messages, for the processes that use a
// store together. A store of one process may be without.
type PruneTurns interface {
	// TakePruning takes the right to delete old messages by a rule. It returns nil when another
	// process has it. The right ends five minutes after its holder was killed.
	TakePruning(ctx context.Context) (PruneTurn, error)
	// LastPruned returns when the last run ended that was finished, in unix seconds; 0: none was.
	LastPruned(ctx context.Context) (int64, error)
	// SetPruned records that a run was finished at a time.
	SetPruned(ctx context.Context, at time.Time) error
}

// PruneTurn is the right of a process to delete old messages by a rule. Not for concurrent use.
type PruneTurn interface {
	// Keep prolongs the right. The holder calls it before each step. It fails when another process
	// may have got the right.
	Keep(ctx context.Context) error
	// Release gives the right up.
	Release(ctx context.Context) error
}
