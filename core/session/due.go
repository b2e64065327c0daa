package session

import (
	"math"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// A loop that has nothing to do is not woken: waking the thread of a loop costs some
// milliseconds of a second when it happens ten times. So the loop keeps the time at which
// its next Tick has something to do, and schedules one Tick for it.
//
// Limits of sessions (a login, silence, heartbeats) are looked at in whole seconds of the
// loop's clock, so that the loops of a process wake together. They are exceeded by one
// second at most. The times of the handler, and sessions that are about to be closed, are
// looked at in multiples of TickInterval.

// TickInterval is the shortest interval at which a loop checks its deadlines.
const TickInterval = 100 * time.Millisecond

// Never is the time of something that does not happen, in milliseconds of a loop's clock.
const Never = math.MaxInt64

// sweepEvery is the time, in milliseconds, that the limits of sessions are rounded up to.
const sweepEvery = 1000

// roundUp returns the first multiple of unit that is not before ms.
func roundUp(ms, unit int64) int64 {
	if ms > Never-unit {
		return Never
	}
	return (ms + unit - 1) / unit * unit
}

// times is the clock of a loop, and its next deadlines. Loop only.
type times struct {
	now     int64 // milliseconds: the wall clock's at begun, monotonic from then on
	begun   time.Time
	begunMs int64 // unix milliseconds of begun
	nowTime time.Time
	sweepAt int64 // when a session may exceed a limit; Never: none can
	tickAt  int64 // when the next Tick is scheduled; Never: none is, 0: not known
}

// Now returns the time at which the turn began. Loop only.
func (t *times) Now() time.Time { return t.nowTime }

// Millis returns Now in milliseconds of the loop's clock. They are larger than zero, and a
// step of the wall clock does not change them. Loop only.
func (t *times) Millis() int64 { return t.now }

// WholeSecond returns the first whole second that is not before ms, a time in Millis.
func WholeSecond(ms int64) int64 { return roundUp(ms, sweepEvery) }

// NextSecond returns the begin of the next second, in Millis. Work that a handler does once
// a second is due then. Loop only.
func (t *times) NextSecond() int64 { return roundUp(t.now+1, sweepEvery) }

// At returns a time in Millis, rounded up. Loop only.
func (t *times) At(at time.Time) int64 {
	return t.begunMs + int64((at.Sub(t.begun)+time.Millisecond-1)/time.Millisecond)
}

// Reconsider makes the loop ask its handler again when the next Tick is due. A handler calls
// it after another goroutine has made something due that belongs to no session. Any
// goroutine.
func (l *Loop) Reconsider() {
	if l.opt.Schedule != nil {
		l.Post(func() {})
	}
}

// sweepBy makes the next sweep happen at a time, if not earlier. Loop only.
func (t *times) sweepBy(at int64) { t.sweepAt = min(t.sweepAt, roundUp(at, sweepEvery)) }

// due returns when the next Tick has something to do, not later than at.
func (l *Loop) due(at int64) int64 {
	at = min(at, l.sweepAt)
	next := roundUp(l.now+1, TickInterval.Milliseconds())
	if l.lingers {
		return min(at, next)
	}
	if at > next && l.ticker != nil {
		at = min(at, max(next, roundUp(l.ticker.Due(l), TickInterval.Milliseconds())))
	}
	return at
}

// lostAfter is how late a Tick may be, in milliseconds, before it is scheduled again.
const lostAfter = 1000

// schedule schedules the next Tick at the end of a turn. As long as the next Tick is near,
// it costs three comparisons.
func (l *Loop) schedule() {
	if l.opt.Schedule == nil || l.tickAt > l.now-lostAfter &&
		l.tickAt <= l.now+TickInterval.Milliseconds() {
		return
	}
	at := l.due(Never)
	if at == Never && l.tickAt == Never || at != Never && at >= l.tickAt && l.tickAt > l.now {
		return // an early Tick costs less than a new timer for each turn
	}
	l.tickAt = at
	if at == Never {
		l.opt.Schedule(-1)
		return
	}
	// Rounded up, so that the Tick does not come a fraction of a millisecond too early.
	l.opt.Schedule(max(0, time.Duration(at-l.begunMs)*time.Millisecond-l.nowTime.Sub(l.begun)))
}

// overTime looks whether a session is over time, and returns when it may be next.
func (c *Conn) overTime(l *Loop) (next int64) {
	if c.idle(l) && c.flags&closing == 0 {
		if g, ok := c.carrier.(Gatherer); ok {
			g.Gather() // a heartbeat may have arrived in time
		}
	}
	next = Never
	if c.deadline != 0 {
		next = c.deadline
	}
	if c.idleLimit != 0 {
		next = min(next, c.lastIn+int64(c.idleLimit))
	}
	switch {
	case c.flags&closing != 0:
		if l.now >= c.deadline {
			c.carrier.Close()
		} else if !c.ended() {
			l.lingers = true
			c.tellPeer()
		}
		return Never // every tick looks at it
	case l.stalled(c):
		l.closeSlow(c)
		return Never
	case c.deadline != 0 && l.now >= c.deadline:
		c.Close(ErrLoginDeadline)
		return Never
	case c.idle(l):
		c.Close(ErrIdle)
		return Never
	}
	if c.held != nil {
		next = l.now + 1 // see stalled
	}
	if c.keepAlive != 0 {
		if l.now >= c.beatAt() {
			c.SendFrame(heartbeat)
			c.flags |= beaten
			c.lastOut = l.now
		}
		next = min(next, c.beatAt())
	}
	return next
}

// idle reports whether no whole frame has arrived for the limit.
func (c *Conn) idle(l *Loop) bool {
	return c.idleLimit != 0 && l.now-c.lastIn >= int64(c.idleLimit)
}

// beatAt returns when a heartbeat is due.
func (c *Conn) beatAt() int64 {
	return mono.Beat(c.lastOut, int64(c.keepAlive), c.flags&beaten != 0)
}

// heartbeat is the frame of a heartbeat.
var heartbeat = pdu.AppendHeader(nil, pb.CmdHeartBeat, 0)
