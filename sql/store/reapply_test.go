package store

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/outbox"
)

// lossCase is a conversation and a group whose last counts Redis loses.
type lossCase struct {
	u     []uint32
	group uint32
	sent  uint32 // messages to u[1], and to the group, each
}

// newLossCase makes a case whose counts are in Redis. In a cluster the keys of all counts
// are on the master with the number of shard.
func newLossCase(t *testing.T, s *Store, name string, c *dbtest.RedisShards, shard int) *lossCase {
	t.Helper()
	on := func(key string) bool {
		if c == nil {
			return true
		}
		_, at := slotOf(c, key)
		return at == shard
	}
	l := &lossCase{}
	for n := 0; len(l.u) < 3; n++ {
		if u := named(t, s, fmt.Sprint(name, n, "_"), 1)[0]; on(outbox.UnreadKey(u)) {
			l.u = append(l.u, u)
		}
	}
	for l.group == 0 || !on(outbox.GroupKey(l.group)) {
		l.group = newGroup(t, s, l.u...)
	}
	return l
}

// send stores n batches with a text to u[1] and one to the group each.
func (l *lossCase) send(t *testing.T, s *Store, n int) {
	t.Helper()
	for range n {
		send(t, s, text(l.u[0], l.u[1], "one"), groupText(l.u[0], l.group, "all"))
		l.sent++
	}
}

// want checks the counts.
func (l *lossCase) want(t *testing.T, what string, s *Store) {
	t.Helper()
	if n := unreadOf(t, s, l.u[1], l.u[0]); n != l.sent {
		t.Errorf("%s: %d unread, want %d", what, n, l.sent)
	}
	wantGroupUnread(t, what, s, l.group, l.u, 0, l.sent, l.sent)
}

// read lets u[1] read the messages of u[0], and u[2] those of the group. Then one more
// batch is stored.
func (l *lossCase) read(t *testing.T, s *Store) {
	t.Helper()
	if err := s.ClearUnread(t.Context(), l.u[1], l.u[0]); err != nil {
		t.Error(err)
	}
	if err := s.ClearGroupUnread(t.Context(), l.u[2], l.group); err != nil {
		t.Error(err)
	}
	l.send(t, s, 1)
}

// wantRead checks the counts after read.
func (l *lossCase) wantRead(t *testing.T, what string, s *Store) {
	t.Helper()
	if n := unreadOf(t, s, l.u[1], l.u[0]); n != 1 {
		t.Errorf("%s: %d unread after a read and one message", what, n)
	}
	wantGroupUnread(t, what, s, l.group, l.u, 0, l.sent, 1)
}

// TestRestartWithOldData restarts a Redis with an older snapshot, as after a kill before it
// wrote. The counts that it has lost must be applied again: with the next batch of the
// worker, without any batch, and by a process that starts later.
func TestRestartWithOldData(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.o.Workers = 1
	e.redis.Do("SET unread_kept 1") // as the first server does
	s := e.store(t)
	l := newLossCase(t, s, "user", nil, 0)
	l.send(t, s, 2)
	lose := func(from *Store) {
		t.Helper()
		e.redis.Save()
		l.send(t, from, 3)
		e.redis.Stop()
		e.redis.Start()
		awaitRedis(t, s)
	}
	lose(s)
	l.send(t, s, 1)
	l.want(t, "after the next batch", s)
	lose(s)
	if err := s.outbox.Watch(t.Context()); err != nil {
		t.Error(err)
	}
	l.want(t, "without a batch", s)
	other := e.open(t)
	lose(other)
	other.Close()
	e.o.NoRebuild = false
	e.open(t).Close()
	e.o.NoRebuild = true
	l.want(t, "in a new process", s)
	e.redis.Save()
	l.read(t, s)
	e.redis.Stop()
	e.redis.Start()
	awaitRedis(t, s)
	if err := s.outbox.Watch(t.Context()); err != nil {
		t.Error(err)
	}
	l.wantRead(t, "reads were lost", s)
	other = e.open(t)
	e.redis.Save()
	l.read(t, other)
	e.redis.Stop()
	other.Close() // stores its read marks, and forgets what it remembers
	e.redis.Start()
	awaitRedis(t, s)
	if err := s.outbox.Watch(t.Context()); err != nil {
		t.Error(err)
	}
	if n := unreadOf(t, s, l.u[1], l.u[0]); n != 1 {
		t.Errorf("%d unread after another process has read, want 1", n)
	}
}

// TestKeptCounts makes the kept counts old. They must stay while Redis does not answer, and be
// removed after they are restored, or after some minutes. Their number is bounded, too.
func TestKeptCounts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.o.Housekeeping = time.Hour // the test calls it
	s := e.store(t)
	l := newLossCase(t, s, "user", nil, 0)
	l.send(t, s, 2)
	e.redis.Save()
	l.send(t, s, 3)
	e.redis.Stop()
	e.exec(t, "UPDATE IMUnreadKept SET created=created-300")
	rows := func(what string, want int) {
		t.Helper()
		if err := s.outbox.ForgetKept(t.Context()); err != nil {
			t.Error(err)
		}
		if n := e.number(t, "SELECT COUNT(*) FROM IMUnreadKept"); n != want {
			t.Errorf("%s: %d kept rows, want %d", what, n, want)
		}
	}
	all := e.number(t, "SELECT COUNT(*) FROM IMUnreadKept")
	rows("without Redis", all)
	e.redis.Start()
	awaitRedis(t, s)
	rows("with Redis", 0)
	l.want(t, "with Redis", s)
	l.send(t, s, 4)
	// Marks do not last for ever, so counts of long ago are not applied.
	e.exec(t, "UPDATE IMUnreadKept SET created=created-600")
	e.redis.FlushAll()
	if err := s.outbox.Restore(t.Context()); err != nil {
		t.Error(err)
	}
	if n := unreadOf(t, s, l.u[1], l.u[0]); n != 0 {
		t.Errorf("%d unread from counts of long ago", n)
	}
	e.exec(t, "UPDATE IMUnreadKept SET created=created+1 ORDER BY seq DESC LIMIT 3")
	e.exec(t, "UPDATE IMUnreadKept SET created=created-9 ORDER BY seq LIMIT 1")
	for _, most := range []int{9, 3, 1} {
		if err := s.outbox.TrimKept(t.Context(), "0", most); err != nil {
			t.Error(err)
		}
		if n := e.number(t, "SELECT COUNT(*) FROM IMUnreadKept"); n > most {
			t.Errorf("%d kept rows, want at most %d", n, most)
		}
	}
}

// TestLostChangesOfMembers lets users join, leave and join again before a Redis restarts with
// an older snapshot. The hash of the members and the counts of the new members must be right.
func TestLostChangesOfMembers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 4)
	g := newGroup(t, s, u[:3]...)
	send(t, s, groupTexts(u[0], g, 3)...)
	change(t, s, g, del, u[2])
	e.redis.Save()
	send(t, s, groupTexts(u[0], g, 2)...)
	change(t, s, g, add, u[2:]...)
	change(t, s, g, del, u[1])
	send(t, s, groupTexts(u[0], g, 4)...)
	e.redis.Stop()
	e.redis.Start()
	awaitRedis(t, s)
	for range 2 {
		s.db.Epoch.Next()
		if err := s.outbox.Watch(t.Context()); err != nil {
			t.Error(err)
		}
		e.wantMirror(t, "after the loss", g)
		wantGroupUnread(t, "after the loss", s, g, u, 0, 0, 4, 4)
	}
}

// TestFailoverWithLoss promotes a replica that lacks the last counts. They must be applied
// again, in the slots of the former master, and nothing may be counted twice.
func TestFailoverWithLoss(t *testing.T) {
	t.Parallel()
	e, c := clusterEnv(t)
	e.o.Workers = 1
	s, other := e.store(t), e.store(t)
	lost, kept := newLossCase(t, s, "lost", c, 2), newLossCase(t, s, "kept", c, 0)
	send := func(n int) {
		t.Helper()
		lost.send(t, s, n)
		kept.send(t, s, n)
		lost.send(t, other, n)
	}
	send(2)
	c.Await("the replica to have everything", func() bool {
		return c.Masters[2].Do("WAIT 1 1000") == "1"
	})
	c.Replica.Detach(c.Masters[2])
	send(3)
	read := newLossCase(t, s, "read", c, 2) // its group and users are lost as a whole
	read.send(t, s, 2)
	read.read(t, s)
	c.Masters[2].Stop()
	c.Promote()
	c.Await("the stores to follow", func() bool {
		return s.db.Redis.Unread.Exists(t.Context(), outbox.UnreadKey(lost.u[1])).Err() == nil &&
			other.db.Redis.Unread.Exists(t.Context(), outbox.UnreadKey(lost.u[1])).Err() == nil
	})
	lost.send(t, s, 1)
	lost.want(t, "after a batch", s)
	kept.want(t, "beside the failover", s)
	for _, each := range []*Store{s, other} {
		if err := each.outbox.Watch(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := each.outbox.Recover(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}
	send(1)
	lost.want(t, "at the end", other)
	kept.want(t, "at the end", other)
	read.wantRead(t, "at the end", other)
}
