// Package settle says which rows answer a request for changes since a time.
//
// A request for changes since a time T is answered with the rows whose time of change is
// after T. A row may become visible later than its time of change: when its transaction
// took long, or when another program with a clock that is behind wrote it. So that no row
// is skipped, the time in an answer is never later than one settle time before the answer
// was read. Younger rows are sent, and sent again in the next answer, until they have
// settled. After that, the answer to a request with the returned time is empty. All times
// are those of the store (im.Store.Now).
//
// A T younger than the settle time is replaced by the time one settle time ago. It may
// come from a server of the first implementation, or from a client's own clock. A T ahead
// of the clock counts as 0.
package settle

import "time"

// The settle times: how long after its time of change a row may become visible.
const (
	// Directory covers 5 s of difference between the clocks of writers, where C++ servers
	// or other programs write, 1 s of rounding of times, and 2 s of a transaction. It
	// applies to users, departments and groups.
	Directory = 8 * time.Second
	// Sessions adds the 5 s within which SyncSessions updates the lists of a group's
	// members, and subtracts 1 s, because messages are committed faster than changes of
	// the directory.
	Sessions = 12 * time.Second
)

// At returns the latest time of change, in unix seconds, for which every row was
// visible at now.
func At(now time.Time, settle time.Duration) uint32 {
	return uint32(max(now.Add(-settle).Unix(), 0))
}

// Ahead reports whether a time that a client sent is ahead of the clock.
func Ahead(since uint32, now time.Time) bool { return int64(since) > now.Unix() }

// From returns the earliest time of change that a request with since is answered with;
// 0 means all rows.
func From(since uint32, now time.Time, settle time.Duration) uint32 {
	if since == 0 || Ahead(since, now) {
		return 0
	}
	return min(since, At(now, settle)) + 1
}
