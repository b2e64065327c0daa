// Package budget bounds the number of connections that a process may have open, over all
// its ports.
package budget

import (
	"fmt"
	"math"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// reserve is the number of file descriptors that are kept for everything except client
// connections: databases, links, logs, listeners.
const reserve = 256

// MaxEnroll bounds the connections of the process that are between accept and their loops.
// Each has two descriptors there.
const MaxEnroll = 64

// Budget counts the connections of a process and accepts them, so that connections leave
// descriptors to everything else. All ports of a process share one Budget. Any goroutine.
type Budget struct {
	// Refused is called for each connection that Accept refuses, with the address of the port.
	// It is set before the first Accept. Nil: it is not called. Any goroutine.
	Refused func(port net.Addr)

	limit   int64
	ceiling int           // no connection is accepted with this descriptor or a higher one
	enroll  chan struct{} // a place for each connection between accept and its loop
	used    atomic.Int64
	shed    atomic.Int64
}

// New raises the soft limit of open files to the hard one. The Budget allows that many
// connections less a reserve of 256 (a quarter of a limit below 1,024).
func New() (*Budget, error) {
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
	kept := min(reserve, limit/4)
	b := &Budget{
		limit: limit - kept, ceiling: int(limit - kept/2),
		enroll: make(chan struct{}, max(1, min(MaxEnroll, kept/4))),
	}
	keepSpare()
	return b, nil
}

// Fixed returns a Budget of n connections.
func Fixed(n int) *Budget {
	b := &Budget{limit: int64(n), ceiling: math.MaxInt, enroll: make(chan struct{}, MaxEnroll)}
	keepSpare()
	return b
}

// Limit returns the number of connections that the Budget allows.
func (b *Budget) Limit() int { return int(b.limit) }

// Used returns the number of connections that count now.
func (b *Budget) Used() int { return int(b.used.Load()) }

// Take counts one more connection. It returns false, and does not count, when the Budget
// is used up.
func (b *Budget) Take() bool {
	if b.used.Add(1) > b.limit {
		b.used.Add(-1)
		return false
	}
	return true
}

// Force counts one more connection, also when the Budget is used up.
func (b *Budget) Force() { b.used.Add(1) }

// Put returns a connection that Take counted.
func (b *Budget) Put() { b.used.Add(-1) }
