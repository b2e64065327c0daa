// Package use tells the periodic work of a store whether anything else uses its databases.
// While nothing does, the work is done rarely: each statement wakes this process, the database
// and the network between them.
package use

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/mono"
)

// Uses counts as used by each statement and command whose context is not Periodic. Make one with
// New. Any goroutine.
type Uses struct {
	// Clock and Counts pace the readings of the master's clock, and the search for counts that
	// Redis has lost.
	Clock, Counts *mono.Pulse
	// Housekeeping and Sync say when the housekeeping and SyncSessions are due.
	Housekeeping, Sync Seldom
}

// New makes a Uses without use.
func New() *Uses { return &Uses{Clock: mono.NewPulse(), Counts: mono.NewPulse()} }

type periodicKey struct{}

// Periodic returns a context for periodic work, whose statements are no use.
func Periodic(ctx context.Context) context.Context {
	return context.WithValue(ctx, periodicKey{}, true)
}

// Note notes a use, unless ctx is Periodic.
func (u *Uses) Note(ctx context.Context) {
	if ctx.Value(periodicKey{}) == nil {
		u.All()
	}
}

// All makes all periodic work due.
func (u *Uses) All() {
	u.Clock.Use()
	u.Counts.Use()
	u.Housekeeping.Use()
	u.Sync.Use()
}

// rest is the number of times for which work without use is not due after each time that it was.
const rest = 5

// Seldom makes periodic work due each time after a use, and every sixth time without one. The
// zero value is due.
type Seldom struct {
	used atomic.Bool
	left atomic.Int32
}

// Use makes the work due the next time. Any goroutine.
func (s *Seldom) Use() {
	if !s.used.Load() {
		s.used.Store(true)
	}
}

// Due reports whether the work is due this time.
func (s *Seldom) Due() bool {
	if !s.used.Swap(false) && s.left.Add(-1) >= 0 {
		return false
	}
	s.left.Store(rest)
	return true
}

// Hook notes the commands of a Redis client.
func (u *Uses) Hook() redis.Hook { return hook{u} }

type hook struct{ uses *Uses }

// DialHook dials.
func (h hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

// ProcessHook notes a command.
func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.uses.Note(ctx)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook notes a pipeline.
func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.uses.Note(ctx)
		return next(ctx, cmds)
	}
}
