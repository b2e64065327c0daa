package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"teamtalk/core/mono"
)

// Clients keep the newest time of change that they were told, and ask for later changes.
// So the times of all processes must come from one clock, which is the master's. Each
// process reads it every second and continues on its own monotonic clock in between. The
// clocks of this host and of message servers decide no time of change.

// clockEvery is the interval at which the master's clock is read.
const clockEvery = time.Second

// The clock does not go back when that of the master does, see mono.Steady. A process that
// starts after the step knows nothing of it, so the process that synchronises sessions writes
// the time down. Otherwise a client would miss the changes of as much time as the clock went
// back.

// clockRow is the name of the row of IMLease whose until is the store's time. It is no lease,
// and has no holder.
const clockRow = "clock"

// clockMargin is more than the interval at which the time is written down.
const clockMargin = 10 * time.Second

// maxAhead is the largest difference by which the time written down may be ahead of the
// master's clock, and count. Beyond, that clock was wrong and has been corrected.
const maxAhead = 2 * time.Hour

// clockTimeout bounds a reading. A reading that took longer than clockNoise is not used,
// because its time lies somewhere within it.
const (
	clockTimeout = 10 * time.Second
	clockNoise   = time.Second
)

// time returns the store's time, with which rows are stamped.
func (s *databases) time() time.Time {
	if s.hooks.clock != nil {
		return s.hooks.clock()
	}
	return s.clock.Now(s.now())
}

// Now returns the store's time; see im.Store.
func (s *databases) Now() time.Time {
	if s.hooks.clock != nil {
		return s.hooks.clock()
	}
	return s.clock.Earliest(s.now())
}

// microseconds is the time of a server's clock. The time zone of the session has no effect
// on it: when summer time ends, a local time occurs twice.
const microseconds = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

// readClock reads the master's clock. The first reading is used however long it took.
func (s *databases) readClock(ctx context.Context, first bool) error {
	if s.hooks.clock != nil {
		return nil
	}
	began := s.now()
	var at int64
	if err := s.master.QueryRowContext(ctx, microseconds).Scan(&at); err != nil {
		return s.dbError("read the database's clock", err)
	}
	if took := s.now().Sub(began); first || took <= clockNoise {
		s.clock.Set(began.Add(took/2), time.UnixMicro(at))
	}
	return nil
}

// noteTime writes the store's time down.
func (s *databases) noteTime(ctx context.Context, conn *sql.Conn) error {
	now := s.time().Unix()
	_, err := conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO IMLease (name, holder, epoch, until) "+
		"VALUES ('%s', '', 0, %d) ON DUPLICATE KEY UPDATE "+
		"until=IF(until>%d, VALUES(until), GREATEST(until, VALUES(until)))", clockRow, now,
		now+int64(maxAhead/time.Second)))
	return err
}

// startClock lets the clock begin after the time that was written down last, when the
// master's clock is before it.
func (s *databases) startClock(ctx context.Context) error {
	now := s.now()
	var noted sql.NullInt64
	if err := s.master.QueryRowContext(ctx, "SELECT MAX(until) FROM IMLease WHERE name=?",
		clockRow).Scan(&noted); err != nil {
		return s.dbError("read the time of the last process", err)
	}
	at := time.Unix(noted.Int64, 0)
	ahead := at.Sub(s.clock.Now(now))
	if ahead <= clockNoise || ahead > maxAhead {
		return nil
	}
	s.clock = mono.Steady{} // nothing has used it, so that this is no step forward
	s.clock.Set(now, at.Add(clockMargin))
	s.log.Warn("the database's clock has gone back, and is not followed", "by",
		ahead.Round(time.Second))
	return nil
}

// keepTime reads the master's clock at intervals, until ctx ends. Without readings the
// clock continues.
func (s *databases) keepTime(ctx context.Context) {
	every(ctx, clockEvery, func() {
		reading, cancel := context.WithTimeout(ctx, clockTimeout)
		defer cancel()
		if err := s.readClock(reading, false); err != nil && ctx.Err() == nil {
			s.log.Debug("the database's clock was not read", "err", err)
		}
	})
}

// since returns the time that has passed on this process's monotonic clock since a number
// of mono.Of.
func (s *databases) since(at int64) time.Duration {
	return time.Duration(mono.Of(s.now()) - at)
}
