package engine

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// fdReserve is how many descriptors are kept for everything that is not a client connection: databases, links, logs, listeners.
const fdReserve = 256

// Budget is the number of connections a process may have open, so that accept never fails for want of file descriptors: gnet would end
// its engine.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget raises the soft limit of open files to the hard one and takes what that allows, less a reserve of 256 (a quarter, where the limit is
// tiny).
func NewBudget() (*Budget, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return nil, fmt.Errorf("read limit of open files: %w", err)
	}
	if lim.Cur < lim.Max {
		raised := unix.Rlimit{Cur: lim.Max, Max: lim.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			lim = raised
		}
	}
	limit := int64(min(lim.Cur, 1<<30))
	return &Budget{limit: limit - min(fdReserve, limit/4)}, nil
}

// FixedBudget allows n connections.
func FixedBudget(n int) *Budget { return &Budget{limit: int64(n)} }

// Limit is how many connections fit.
func (b *Budget) Limit() int { return int(b.limit) }

// Take counts one connection more; false when there is no room for it.
func (b *Budget) Take() bool {
	if b.used.Add(1) > b.limit {
		b.used.Add(-1)
		return false
	}
	return true
}

// Put counts one connection less.
func (b *Budget) Put() { b.used.Add(-1) }
