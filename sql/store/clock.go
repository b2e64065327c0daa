package store

import (
	"context"
	"time"

	"teamtalk/core/mono"
)

// Clients keep the newest time of change that they were told, and ask for later changes.
// So the times of all processes must come from one clock, which is the master's. Each
// process reads it every second and continues on its own monotonic clock in between. The
// clocks of this host and of message servers decide no time of change.

// clockEvery is the interval at which the master's clock is read.
const clockEvery = time.Second

// clockTimeout bounds a reading. A reading that took longer than clockNoise is not used,
// because its time lies somewhere within it.
const (
	clockTimeout = 10 * time.Second
	clockNoise   = time.Second
)

// time returns the store's time, with which rows are stamped.
func (s *databases) time() time.Time {
	if s.o.hooks.clock != nil {
		return s.o.hooks.clock()
	}
	return s.clock.Now(s.now())
}

// Now returns the store's time; see im.Store.
func (s *databases) Now() time.Time {
	if s.o.hooks.clock != nil {
		return s.o.hooks.clock()
	}
	return s.clock.Earliest(s.now())
}

// microseconds is the time of a server's clock. The time zone of the session has no effect
// on it: when summer time ends, a local time occurs twice.
const microseconds = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

// readClock reads the master's clock. The first reading is used however long it took.
func (s *databases) readClock(ctx context.Context, first bool) error {
	if s.o.hooks.clock != nil {
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

// keepTime reads the master's clock at intervals, until ctx ends. Without readings the
// clock continues.
func (s *databases) keepTime(ctx context.Context) {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		reading, cancel := context.WithTimeout(ctx, clockTimeout)
		if err := s.readClock(reading, false); err != nil && ctx.Err() == nil {
			s.log.Debug("the database's clock was not read", "err", err)
		}
		cancel()
	}
}

// since returns the time that has passed on this process's monotonic clock since a number
// of mono.Of.
func (s *databases) since(at int64) time.Duration {
	return time.Duration(mono.Of(s.now()) - at)
}
