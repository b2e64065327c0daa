package dbproxy

import "time"

// A request for what has changed since a time T is answered with the rows whose time of
// change is after T. A row may become visible after its time: its writer's clock is
// behind, or its transaction took long. So that no such row is skipped, the time that an
// answer gives is never later than a settle time before the answer was read. Rows younger
// than that are told, and told again to the next request, until they have settled; then
// the answer to the time given is empty.
//
// A T that is younger than the settle time (given by one of the first implementation's
// servers, or taken from a client's own clock) is taken as the settle time ago. A T ahead
// of the clock counts as 0.
const (
	// directorySettle covers clocks of writers that differ by 5 s, the second that times
	// are rounded to, and transactions of 2 s. Users, departments and groups.
	directorySettle = 8 * time.Second
	// sessionSettle adds the 5 s in which SyncSessions brings the lists of a group's
	// members up to date, less a second: messages are committed in less time than changes
	// of the directory.
	sessionSettle = 12 * time.Second
)

// settledAt is the latest time of change, in unix seconds, after which every row of that
// time was visible at now.
func settledAt(now time.Time, settle time.Duration) uint32 {
	return uint32(max(now.Add(-settle).Unix(), 0))
}

// isAhead reports whether a time that a client sent is ahead of the clock.
func isAhead(since uint32, now time.Time) bool { return int64(since) > now.Unix() }

// changedFrom is the earliest time of change that answers a request with since; 0:
// everything.
func changedFrom(since uint32, now time.Time, settle time.Duration) uint32 {
	if since == 0 || isAhead(since, now) {
		return 0
	}
	return min(since, settledAt(now, settle)) + 1
}
