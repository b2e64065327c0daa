package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/sessions"
)

// syncAll runs the synchronisation and returns the number of rows that it wrote.
func syncAll(t testing.TB, s *Store) int {
	t.Helper()
	n, err := s.SyncSessions(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// listed returns the users that have the group in their lists.
func listed(t testing.TB, s *Store, group uint32, users []uint32) (in []int) {
	t.Helper()
	for i, u := range users {
		list, err := s.RecentSessions(context.Background(), u, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(list, func(r im.RecentSession) bool {
			return r.Peer == group && r.Type == pb.SessionType_SESSION_TYPE_GROUP
		}) {
			in = append(in, i)
		}
	}
	return in
}

// wantListed checks the users that have the group in their lists.
func wantListed(t testing.TB, what string, s *Store, group uint32, users []uint32, want ...int) {
	t.Helper()
	if got := listed(t, s, group, users); !slices.Equal(got, want) {
		t.Errorf("%s: users %v have the group in their lists, want %v", what, got, want)
	}
}

// syncedUpTo returns the mark of the synchronisation.
func (e *env) syncedUpTo() string { return e.redis.Do("GET last_update_group") }

// TestSyncMark requires that the mark follows behind the clock, that a group is not
// synchronised twice, and that no message within the margin is missed, in whatever order
// messages are committed.
func TestSyncMark(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *env{"finalized": newEnvT,
		"unfinalized": unfinalized} {
		t.Run(name, func(t *testing.T) {
			e := open(t)
			s, other := e.store(t), e.store(t)
			u := users(t, s, 4)
			g, h := newGroup(t, s, u...), newGroup(t, s, u[:2]...)
			send(t, s, groupText(u[0], g, "1"))
			if n := syncAll(t, s); n != 3 {
				t.Errorf("%d rows written, want 3: the sender has one", n)
			}
			if n := syncAll(t, s); n != 0 {
				t.Errorf("%d rows written again", n)
			}
			if n := syncAll(t, other); n != 0 {
				t.Errorf("another process wrote %d rows again", n)
			}
			mark, _ := strconv.ParseInt(e.syncedUpTo(), 10, 64)
			if behind := s.db.Earliest().Unix() - mark; behind < 60 || behind > 120 {
				t.Errorf("the mark is %d s behind", behind)
			}
			// A C++ server commits this message after others with later times.
			send(t, s, groupText(u[1], h, "late"))
			e.exec(t, fmt.Sprintf("UPDATE IMGroup SET lastChated=%d WHERE id=%d",
				s.db.Earliest().Unix()-30, h))
			if n := syncAll(t, s); n != 1 {
				t.Errorf("%d rows written, want 1: of the late message", n)
			}
			wantListed(t, "late", s, h, u, 0, 1)
			// The clock of another process was ahead.
			e.redis.Do("SET last_update_group " + fmt.Sprint(s.db.Earliest().Unix()+100_000))
			send(t, s, groupText(u[0], g, "2"))
			if syncAll(t, s); e.syncedUpTo() > fmt.Sprint(s.db.Earliest().Unix()) {
				t.Errorf("the mark stays at %s", e.syncedUpTo())
			}
			e.redis.Do("DEL last_update_group")
			if n := syncAll(t, other); n != 0 {
				t.Errorf("without a mark %d rows are written although none is missing", n)
			}
			if n := e.number(t, "SELECT COUNT(*)-COUNT(DISTINCT userId, peerId, type) "+
				"FROM IMRecentSession"); n != 0 {
				t.Errorf("%d sides have two rows", n)
			}
		})
	}
}

// TestSyncPages synchronises more groups than one page, most of them in the same second.
func TestSyncPages(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	second := e.freeze()
	s := e.store(t)
	u := users(t, s, 2)
	const groups = 2*sessions.SyncPage + 50
	var batch []*im.Message
	for range groups {
		batch = append(batch, groupText(u[0], newGroup(t, s, u...), "x"))
	}
	send(t, s, batch[:groups-20]...)
	second.Add(1)
	send(t, s, batch[groups-20:]...)
	if n := syncAll(t, s); n != groups {
		t.Errorf("%d rows written, want %d", n, groups)
	}
}

// TestSyncCrash ends a run in the middle. The next run must synchronise the remaining
// groups.
func TestSyncCrash(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 3)
	var groups []uint32
	for range 5 {
		g := newGroup(t, s, u...)
		groups = append(groups, g)
		send(t, s, groupText(u[0], g, "x"))
	}
	// The database rejects the rows of the third group.
	e.exec(t, fmt.Sprintf("CREATE TRIGGER refuse BEFORE INSERT ON IMRecentSession FOR EACH ROW "+
		"IF NEW.peerId=%d AND NEW.type=2 THEN SIGNAL SQLSTATE '45000' "+
		"SET MESSAGE_TEXT='refused'; END IF", groups[2]))
	if _, err := s.SyncSessions(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if e.syncedUpTo() != "" {
		t.Errorf("the mark went on to %s", e.syncedUpTo())
	}
	wantListed(t, "before it", s, groups[1], u, 0, 1, 2)
	wantListed(t, "after it", s, groups[3], u, 0)
	e.exec(t, "DROP TRIGGER refuse")
	next := e.store(t)
	if n := syncAll(t, next); n != 6 {
		t.Errorf("%d rows written, want the 6 that are left", n)
	}
	for _, g := range groups {
		wantListed(t, "after the next", next, g, u, 0, 1, 2)
	}
}

// TestSyncOneAtATime requires that other processes return at once while one runs, and
// that the lock is free after a failure.
func TestSyncOneAtATime(t *testing.T) {
	e := newEnv(t)
	s, other := e.store(t), e.store(t)
	u := users(t, s, 2)
	g := newGroup(t, s, u...)
	send(t, s, groupText(u[0], g, "x"))
	conn, err := s.db.Master.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.db.Lock(t.Context(), conn, "sync"); err != nil {
		t.Fatal(err)
	}
	if n := syncAll(t, other); n != 0 {
		t.Errorf("%d rows written while another is at it", n)
	}
	s.db.Unlock(conn, "sync")
	conn.Close()
	e.redis.Stop()
	if _, err := other.SyncSessions(t.Context()); im.KindOf(err) != im.Unavailable || err == nil {
		t.Errorf("without Redis: %v", err)
	}
	e.redis.Start()
	awaitRedis(t, s)
	if n := syncAll(t, s); n != 1 {
		t.Errorf("%d rows written, want 1", n)
	}
}

// TestRemovedSession tries which messages list a removed session again.
func TestRemovedSession(t *testing.T) {
	e := newEnv(t)
	second := e.freeze() // everything happens in one second
	s, other := e.store(t), e.store(t)
	u := users(t, s, 3)
	g := newGroup(t, s, u...)
	post := func(by *Store, from uint32) {
		t.Helper()
		send(t, by, groupText(from, g, "x"))
	}
	remove := func(user uint32) {
		t.Helper()
		if err := s.RemoveSession(t.Context(), user, g,
			pb.SessionType_SESSION_TYPE_GROUP); err != nil {
			t.Fatal(err)
		}
	}
	post(s, u[0])
	syncAll(t, s)
	wantListed(t, "at first", s, g, u, 0, 1, 2)
	remove(u[0])
	remove(u[1])
	syncAll(t, s)
	syncAll(t, other)
	wantListed(t, "removed", s, g, u, 2)
	post(s, u[0])
	wantListed(t, "a message of one's own, in the same second", s, g, u, 0, 2)
	syncAll(t, s)
	wantListed(t, "a message after the removal, in the same second", s, g, u, 0, 1, 2)
	remove(u[1])
	// The session is removed before the earlier message is synchronised.
	remove(u[0])
	post(other, u[2])
	remove(u[2])
	syncAll(t, other)
	wantListed(t, "messages before and after the removals", s, g, u, 0, 1)
	// A C++ server does not record a message id.
	e.exec(t, fmt.Sprintf("UPDATE IMRecentSession SET status=1 WHERE userId=%d AND peerId=%d "+
		"AND type=2", u[0], g))
	for _, by := range []*Store{e.store(t), s} {
		syncAll(t, by)
		wantListed(t, "removed by a C++ server", s, g, u, 1)
	}
	second.Add(1)
	post(s, u[1])
	syncAll(t, s)
	wantListed(t, "and a message of the next second", s, g, u, 0, 1, 2)
	change(t, s, g, del, u[2])
	post(s, u[1])
	syncAll(t, s)
	if n := e.number(t, fmt.Sprintf("SELECT status FROM IMRecentSession "+
		"WHERE userId=%d AND peerId=%d AND type=2", u[2], g)); n != 1 {
		t.Error("a former member has a row that C++ servers list")
	}
}

// TestRemovedWhileStored removes a session while a message is being stored. The next
// message must list it again, also in the same second.
func TestRemovedWhileStored(t *testing.T) {
	e := newEnv(t)
	second := e.freeze()
	s := e.store(t)
	u := users(t, s, 2)
	m := texts(u[0], u[1], 3)
	send(t, s, m[0])
	second.Add(1)
	s.db.Hooks.Commit = func(ctx context.Context, conn *sql.Conn) error {
		if err := database.CommitOn(ctx, conn); err != nil {
			return err
		}
		return s.RemoveSession(context.Background(), u[1], u[0], pb.SessionType_SESSION_TYPE_SINGLE)
	}
	send(t, s, m[1])
	s.db.Hooks.Commit = nil
	list, err := s.RecentSessions(t.Context(), u[1], 0, 10)
	if err != nil || len(list) != 0 {
		t.Fatalf("not removed: %+v, %v", list, err)
	}
	send(t, s, m[2])
	if list, err = s.RecentSessions(t.Context(), u[1], 0, 10); err != nil || len(list) != 1 {
		t.Errorf("not back: %+v, %v", list, err)
	}
}

// TestSyncTogether synchronises from several processes while messages are stored. At the
// end no row may be missing.
func TestSyncTogether(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *env{"finalized": newEnvT,
		"unfinalized": unfinalized} {
		t.Run(name, func(t *testing.T) {
			e := open(t)
			stores := []*Store{e.store(t), e.store(t)}
			u := users(t, stores[0], 6)
			var groups []uint32
			for range 6 {
				groups = append(groups, newGroup(t, stores[0], u...))
			}
			done := make(chan struct{})
			var syncing, sending sync.WaitGroup
			for _, s := range stores {
				syncing.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						if _, err := s.SyncSessions(context.Background()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			for i, s := range stores {
				sending.Go(func() {
					for n := range 40 {
						m := groupText(u[(n+i)%6], groups[n%6], "x")
						if s.AppendMessages(context.Background(),
							[]*im.Message{m}); m.Err != nil {
							t.Error(m.Err)
						}
					}
				})
			}
			sending.Wait()
			close(done)
			syncing.Wait()
			syncAll(t, stores[0])
			for _, g := range groups {
				wantListed(t, "at the end", stores[1], g, u, 0, 1, 2, 3, 4, 5)
			}
			if n := e.number(t, "SELECT COUNT(*) FROM IMRecentSession"); n != 36 {
				t.Errorf("%d rows, want 36", n)
			}
		})
	}
}
