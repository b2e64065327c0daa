package store

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/sql/store/directory"
)

// wallStep is the clock of a process that a test steps by a time.Duration. Its monotonic
// clock continues. Any goroutine: the store also reads it by itself.
type wallStep struct{ by atomic.Int64 }

func (w *wallStep) now() time.Time { return mono.Step(time.Now(), time.Duration(w.by.Load())) }

// TestTimesFollowTheMaster steps the clock of a process by an hour, and gives messages times
// of such a clock. All times of change remain those of the master, so that a client which
// keeps the time of its last answer misses no change.
func TestTimesFollowTheMaster(t *testing.T) {
	e := newEnv(t)
	e.o.hooks.Clock = nil
	own := &wallStep{}
	e.o.Now = own.now
	s := e.store(t)
	steps := []time.Duration{0, -time.Hour, time.Hour, -2 * time.Hour, 200 * time.Second}
	u := users(t, s, 2*len(steps))
	for i, step := range steps {
		from, to := u[2*i], u[2*i+1]
		own.by.Store(int64(step))
		g := newGroup(t, s, from, to)
		for _, m := range []*im.Message{text(from, to, "x"), groupText(from, g, "y")} {
			m.Created = uint32(own.now().Unix())
			send(t, s, m)
		}
		syncAll(t, s)
		if err := s.SetSignInfo(t.Context(), from, step.String()); err != nil {
			t.Fatal(err)
		}
		list, err := s.RecentSessions(t.Context(), to, 0, 100)
		if err != nil || len(list) != 2 {
			t.Fatalf("step of %v: %d sessions, %v", step, len(list), err)
		}
		groups, err := s.Groups(t.Context(), []uint32{g})
		if err != nil || len(groups) != 1 {
			t.Fatalf("step of %v: %d groups, %v", step, len(groups), err)
		}
		changed, err := s.Users(t.Context(), []uint32{from})
		if err != nil || len(changed) != 1 {
			t.Fatalf("step of %v: %d users, %v", step, len(changed), err)
		}
		now := time.Now()
		for what, at := range map[string]uint32{"session": list[0].Updated,
			"other session": list[1].Updated, "group": groups[0].Updated,
			"last chat": groups[0].LastChat, "user": changed[0].Updated,
			"store": uint32(s.db.Earliest().Unix())} {
			if off := now.Sub(time.Unix(int64(at), 0)); off.Abs() > time.Minute {
				t.Errorf("step of %v: the time of the %s is off by %v", step, what, off)
			}
		}
	}
}

// TestKnownUsersExpire steps the clock of a process back by an hour. A user that departed
// then must not count as known for that hour.
func TestKnownUsersExpire(t *testing.T) {
	e := newEnv(t)
	own := &wallStep{}
	var passed atomic.Int64 // a time.Duration
	e.o.Now = func() time.Time { return own.now().Add(time.Duration(passed.Load())) }
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, text(u[0], u[1], "x"))
	e.exec(t, fmt.Sprintf("UPDATE IMUser SET status=%d WHERE id=%d", im.StatusDeparted, u[1]))
	own.by.Store(int64(-time.Hour))
	passed.Store(int64(directory.KnownTTL))
	m := text(u[0], u[1], "y")
	if s.AppendMessages(t.Context(), []*im.Message{m}); im.KindOf(m.Err) != im.Invalid {
		t.Errorf("a text to a departed user: %v", m.Err)
	}
}

// TestClockIgnoresTheTimeZone reads the master's clock in a session with a time zone.
func TestClockIgnoresTheTimeZone(t *testing.T) {
	e := newEnv(t)
	e.o.hooks.Clock = nil
	e.o.Master += "?time_zone=%27%2B05%3A30%27"
	s := e.store(t)
	if now := s.db.Earliest(); time.Until(now).Abs() > time.Minute {
		t.Errorf("the store's time is %v", now)
	}
}

// TestMasterStepsBackWhileStopped steps the master's clock back by an hour while no process
// runs. A client that keeps the time of its last answer misses no change afterwards.
func TestMasterStepsBackWhileStopped(t *testing.T) {
	e := newEnv(t)
	e.o.hooks.Clock = func() time.Time { return time.Now().Add(time.Hour) }
	s := e.open(t)
	u := users(t, s, 3)
	send(t, s, text(u[0], u[1], "x"))
	syncAll(t, s)
	list, err := s.RecentSessions(t.Context(), u[1], 0, 100)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	told := list[0].Updated
	s.Close()
	e.o.hooks.Clock = nil // the master's clock, an hour before the one of that process
	s = e.store(t)
	send(t, s, text(u[2], u[1], "y"))
	list, err = s.RecentSessions(t.Context(), u[1], told, 100)
	if err != nil || len(list) != 2 {
		t.Errorf("since %d: %+v, %v", told, list, err)
	}
	if now := s.db.Earliest().Unix(); now < int64(told) {
		t.Errorf("the store's time is %d, after %d", now, told)
	}
}
