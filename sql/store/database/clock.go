package database

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

// clockEvery is the interval at which the master's clock is read, clockIdle the one while
// nothing uses the databases. Both are well below mono.Settled.
const (
	clockEvery = time.Second
	clockIdle  = 5 * time.Second
)

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

// Time returns the store's time, with which rows are stamped.
func (s *DB) Time() time.Time {
	if s.Hooks.Clock != nil {
		return s.Hooks.Clock()
	}
	return s.clock.Now(s.ProcessTime())
}

// Earliest returns the store's time; see im.Store.
func (s *DB) Earliest() time.Time {
	if s.Hooks.Clock != nil {
		return s.Hooks.Clock()
	}
	return s.clock.Earliest(s.ProcessTime())
}

// microseconds is the time of a server's clock. The time zone of the session has no effect
// on it: when summer time ends, a local time occurs twice.
const microseconds = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

// ReadClock reads the master's clock. The first reading is used however long it took.
func (s *DB) ReadClock(ctx context.Context, first bool) error {
	if s.Hooks.Clock != nil {
		return nil
	}
	began := s.ProcessTime()
	var at int64
	if err := s.Master.QueryRowContext(ctx, microseconds).Scan(&at); err != nil {
		return s.SQLError("read the database's clock", err)
	}
	if took := s.ProcessTime().Sub(began); first || took <= clockNoise {
		s.clock.Set(began.Add(took/2), time.UnixMicro(at))
	}
	return nil
}

// NoteTime writes the store's time down.
func (s *DB) NoteTime(ctx context.Context, conn *sql.Conn) error {
	now := s.Time().Unix()
	_, err := conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO IMLease (name, holder, epoch, until) "+
		"VALUES ('%s', '', 0, %d) ON DUPLICATE KEY UPDATE "+
		"until=IF(until>%d, VALUES(until), GREATEST(until, VALUES(until)))", clockRow, now,
		now+int64(maxAhead/time.Second)))
	return err
}

// startClock lets the clock begin after the time that was written down last, when the
// master's clock is before it.
func (s *DB) startClock(ctx context.Context) error {
	now := s.ProcessTime()
	var noted sql.NullInt64
	if err := s.Master.QueryRowContext(ctx, "SELECT MAX(until) FROM IMLease WHERE name=?",
		clockRow).Scan(&noted); err != nil {
		return s.SQLError("read the time of the last process", err)
	}
	at := time.Unix(noted.Int64, 0)
	ahead := at.Sub(s.clock.Now(now))
	if ahead <= clockNoise || ahead > maxAhead {
		return nil
	}
	s.clock = mono.Steady{} // nothing has used it, so that this is no step forward
	s.clock.Set(now, at.Add(clockMargin))
	s.Log.Warn("the database's clock has gone back, and is not followed", "by",
		ahead.Round(time.Second))
	return nil
}

// KeepTime reads the master's clock at intervals, until ctx ends. Without readings the
// clock continues.
func (s *DB) KeepTime(ctx context.Context) {
	s.Uses.Clock.Run(ctx.Done(), clockEvery, clockIdle, func() {
		reading, cancel := context.WithTimeout(ctx, clockTimeout)
		defer cancel()
		if err := s.ReadClock(reading, false); err != nil && ctx.Err() == nil {
			s.Log.Debug("the database's clock was not read", "err", err)
		}
	})
}

// Since returns the time that has passed on this process's monotonic clock since a number
// of mono.Of.
func (s *DB) Since(at int64) time.Duration {
	return time.Duration(mono.Of(s.ProcessTime()) - at)
}
