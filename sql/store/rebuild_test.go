package store

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/store/outbox"
)

// unreadCase is a set of users and groups with messages. Users have read some of them.
type unreadCase struct {
	users, groups []uint32
}

// unreadOfAll returns all unread counts, by user, kind and peer.
func (c *unreadCase) unreadOfAll(t *testing.T, s *Store) map[string]uint32 {
	t.Helper()
	all := map[string]uint32{}
	for _, u := range c.users {
		list, _, err := s.UnreadCounts(t.Context(), u, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range list {
			all[fmt.Sprintf("user %d: %v %d", u, one.Type, one.Peer)] = one.Count
		}
	}
	return all
}

// newUnreadCase sends messages of every kind, and reads some.
func newUnreadCase(t *testing.T, s *Store) *unreadCase {
	t.Helper()
	u := users(t, s, 6)
	g := []uint32{newGroup(t, s, u[:5]...), newGroup(t, s, u[0], u[5])}
	c := &unreadCase{users: u, groups: g}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Joining is counted in seconds: what a later member does not see is from before.
	later := func(round int, batch ...*im.Message) {
		t.Helper()
		for _, m := range batch {
			m.Created += uint32(round * 100)
			if round == 0 && m.Type.IsGroup() && m.To == g[1] {
				m.Created -= 100
			}
		}
		send(t, s, batch...)
	}
	for round := range 3 {
		for i, from := range u {
			later(round, texts(from, u[(i+1)%6], i+1)...)
			later(round, texts(from, u[(i+2)%6], 2)...)
		}
		later(round, append(groupTexts(u[0], g[0], 3), groupTexts(u[1], g[0], 2)...)...)
		later(round, groupTexts(u[5], g[1], 2)...)
		switch round {
		case 0: // some read all, and nothing since
			for _, user := range u {
				check(s.ClearUnread(t.Context(), user, u[0]))
			}
			check(s.ClearGroupUnread(t.Context(), u[2], g[0]))
			change(t, s, g[1], add, u[4]) // sees the messages from now on
		case 1:
			check(s.ClearUnread(t.Context(), u[3], u[2]))
			check(s.ClearGroupUnread(t.Context(), u[3], g[0]))
			check(s.ClearGroupUnread(t.Context(), u[0], g[1]))
		}
	}
	check(s.ClearUnread(t.Context(), u[5], u[4])) // and nothing after it
	return c
}

// TestUnreadIsRebuilt loses everything in Redis: while the process runs, with a restart of
// the process, and in a cluster. All counts must be as before.
func TestUnreadIsRebuilt(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]bool{"server": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			if cluster {
				e.onCluster(t)
			}
			e.o.NoRebuild, e.o.Housekeeping = false, 10*time.Millisecond
			s := e.open(t)
			defer func() { s.Close() }()
			// marks began before the messages of the test, and some messages are dated back
			e.exec(t, "UPDATE IMReadMark SET msgId=msgId-1000 WHERE userId=0")
			c := newUnreadCase(t, s)
			before := c.unreadOfAll(t, s)
			if len(before) < 12 {
				t.Fatalf("only %d counts", len(before))
			}
			for _, restart := range []bool{false, true, true} {
				done := metric(t, s, "unread_rebuilds_total", "done")
				if restart {
					// without an orderly end, so that the outbox has rows
					copyTable(t, e, "IMUnreadOutbox")
					s.Close()
					e.exec(t, "INSERT IGNORE INTO IMUnreadOutbox SELECT * FROM copied")
					e.redis.FlushAll()
					s, done = e.open(t), 0
				} else {
					e.redis.FlushAll()
				}
				// the test's timeout bounds the loop
				for metric(t, s, "unread_rebuilds_total", "done") == done {
					time.Sleep(time.Millisecond)
				}
				if after := c.unreadOfAll(t, s); !maps.Equal(after, before) {
					t.Errorf("restart %v: counts are\n%v, before\n%v", restart, after, before)
				}
			}
			rebuildAgain(t, e, s, c)
		})
	}
}

// copyTable copies a table to the table copied.
func copyTable(t *testing.T, e *env, table string) {
	t.Helper()
	e.exec(t, "DROP TABLE IF EXISTS copied")
	e.exec(t, "CREATE TABLE copied AS SELECT * FROM "+table)
}

// rebuildAgain rebuilds without a loss. Counts that are right or too high stay, and one
// that is lost returns.
func rebuildAgain(t *testing.T, e *env, s *Store, c *unreadCase) {
	before := c.unreadOfAll(t, s)
	done, err := s.RebuildUnread(t.Context())
	if err != nil || done.Counts != 0 || done.Groups != 2 || done.Conversations == 0 {
		t.Errorf("a rebuild without a loss: %+v, %v", done, err)
	}
	e.redis.Do(fmt.Sprintf("HSET %s %d 77", outbox.UnreadKey(c.users[1]), c.users[0]))
	e.redis.Do(fmt.Sprintf("HDEL %s %d", outbox.UnreadKey(c.users[2]), c.users[1]))
	done, err = s.RebuildUnread(t.Context())
	if err != nil || done.Counts != 1 {
		t.Errorf("a rebuild after one count was lost: %+v, %v", done, err)
	}
	before[fmt.Sprintf("user %d: SESSION_TYPE_SINGLE %d", c.users[1], c.users[0])] = 77
	if after := c.unreadOfAll(t, s); !maps.Equal(after, before) {
		t.Errorf("counts are\n%v, want\n%v", after, before)
	}
}

// TestRebuildBeginsWithMarks opens a store on a database without read marks, as after an
// upgrade. Messages from before must not become unread, and later ones must.
func TestRebuildBeginsWithMarks(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 3)
	old := texts(u[0], u[1], 5)
	for _, m := range old {
		m.Created -= 1000
	}
	send(t, s, old...)
	send(t, s, texts(u[0], u[2], 1)...)
	e.redis.FlushAll()
	for range 2 { // the first rebuild finds no time, the second one finds it
		done, err := s.RebuildUnread(t.Context())
		if err != nil || time.Since(done.Since) > time.Minute {
			t.Errorf("%+v, %v", done, err)
		}
	}
	if n := unreadOf(t, s, u[1], u[0]); n != 0 {
		t.Errorf("%d messages from before the marks are unread", n)
	}
	m := text(u[0], u[1], "after")
	m.Created += 5
	send(t, s, m)
	e.redis.FlushAll()
	if _, err := s.RebuildUnread(t.Context()); err != nil {
		t.Error(err)
	}
	if n := unreadOf(t, s, u[1], u[0]); n != 1 {
		t.Errorf("%d unread, want the one after the marks began", n)
	}
	// Another process holds the lease.
	e.exec(t, "UPDATE IMLease SET until=UNIX_TIMESTAMP()+50 WHERE name='unread'")
	if _, err := s.RebuildUnread(t.Context()); im.KindOf(err) != im.Busy || err == nil {
		t.Errorf("beside another rebuild: %v", err)
	}
}

// TestRebuildAfterJoining: the messages of the second in which a member joined, but from before the
// joining, do not become unread.
func TestRebuildAfterJoining(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.freeze()
	s := e.store(t)
	if _, err := s.RebuildUnread(t.Context()); err != nil { // marks begin
		t.Fatal(err)
	}
	u := users(t, s, 2)
	g := newGroup(t, s, u[0])
	second := uint32(s.Now().Unix())
	say := func() {
		t.Helper()
		m := groupText(u[0], g, "x")
		m.Created = second + 1 // the clock of a message server is ahead
		send(t, s, m)
	}
	say()
	change(t, s, g, add, u[1])
	say()
	e.redis.FlushAll()
	if _, err := s.RebuildUnread(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := unreadOf(t, s, u[1], g); n != 1 {
		t.Errorf("%d messages are unread, want the one from after the joining", n)
	}
}
