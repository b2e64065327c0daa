package embedded

import (
	"context"
	"time"
)

// Clients keep the newest time of change that they were told, and ask for later changes.
// So times of change do not go back when the clock of this host does, also not over a
// restart.

// maxAhead is the largest difference by which a time in the database may be ahead of the
// host's clock, and count. Older versions stored times of message servers, which may be
// wrong by years.
const maxAhead = 2 * time.Hour

// time returns the store's time, with which rows are stamped.
func (s *database) time() time.Time {
	now := s.now()
	s.clock.Set(now, now)
	return s.clock.Now(now)
}

// Now returns the store's time; see im.Store.
func (s *database) Now() time.Time { return s.time() }

// newestStamp is the newest time of change up to ?1.
const newestStamp = `select coalesce(max(at), 0) from (
	select max(updated) as at from IMUser where updated <= ?1
	union all select max(updated) from IMDepart where updated <= ?1
	union all select max(max(updated, lastChated)) from IMGroup
		where max(updated, lastChated) <= ?1
	union all select max(updated) from IMRelationShip where updated <= ?1)`

// startClock lets the clock begin at the newest time of change when the host's clock is
// before it.
func (s *database) startClock(ctx context.Context) error {
	now := s.now()
	var newest int64
	err := s.readers.QueryRowContext(ctx, newestStamp, now.Add(maxAhead).Unix()).Scan(&newest)
	if err != nil {
		return err
	}
	if at := time.Unix(newest, 0); at.After(now) {
		s.clock.Set(now, at)
		s.log.Warn("the clock of this host is behind the newest change in the store",
			"behind", at.Sub(now).Round(time.Second))
	}
	return nil
}
