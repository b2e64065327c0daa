package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/schema"
)

// text is a text message.
func text(from, to uint32, body string) *im.Message {
	return &im.Message{From: from, To: to, Created: uint32(time.Now().Unix()), Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(body)}
}

// texts are n messages.
func texts(from, to uint32, n int) []*im.Message {
	list := make([]*im.Message, n)
	for i := range list {
		list[i] = text(from, to, fmt.Sprintf("%d>%d %d", from, to, i))
	}
	return list
}

// users creates n users.
func users(t testing.TB, s *Store, n int) []uint32 {
	t.Helper()
	accounts := make([]im.Account, n)
	for i := range accounts {
		accounts[i].Name = fmt.Sprintf("user%d", i)
	}
	ids, err := s.CreateUsers(context.Background(), accounts)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// send stores messages that must all be stored.
func send(t testing.TB, s *Store, batch ...*im.Message) {
	t.Helper()
	s.AppendMessages(context.Background(), batch)
	for i, m := range batch {
		if m.Err != nil {
			t.Fatalf("message %d: %v", i, m.Err)
		}
	}
}

// wantIDs checks the ids of a conversation's stored messages, in order.
func wantIDs(t testing.TB, s *Store, a, b uint32, from, to uint32) {
	t.Helper()
	list, err := s.History(context.Background(), a, b, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	want := to
	for _, m := range list {
		if m.ID != want {
			t.Fatalf("message id %d where %d is expected", m.ID, want)
		}
		want--
	}
	if want != from-1 {
		t.Fatalf("ids end at %d, want %d", want+1, from)
	}
}

// unreadOf returns a count.
func unreadOf(t testing.TB, s *Store, user, peer uint32) uint32 {
	t.Helper()
	list, err := s.UnreadCounts(context.Background(), user)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range list {
		if u.Peer == peer {
			return u.Count
		}
	}
	return 0
}

// outboxRows counts what is owed.
func (e *env) outboxRows(t testing.TB) (n int) {
	t.Helper()
	if err := e.db.QueryRow("SELECT COUNT(*) FROM IMUnreadOutbox").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFreshPairsFromBothSides: two processes, and no unique key: each pair of users gets one relation and one session row a side.
func TestFreshPairsFromBothSides(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *env{"finalized": newEnvT, "unfinalized": unfinalized} {
		t.Run(name, func(t *testing.T) {
			e := make(t)
			s := []*Store{e.store(t), e.store(t)}
			u := users(t, s[0], 21)
			var pairs [][2]uint32
			for i := range u {
				for j := range i {
					pairs = append(pairs, [2]uint32{u[i], u[j]})
				}
			}
			pairs = pairs[:200]
			start := sync.WaitGroup{}
			start.Add(1)
			done := sync.WaitGroup{}
			for side := range 2 {
				for worker := range 4 {
					done.Go(func() {
						start.Wait()
						for i := worker; i < len(pairs); i += 4 {
							p := pairs[i]
							m := text(p[side], p[1-side], "hello")
							if s[side].AppendMessages(context.Background(), []*im.Message{m}); m.Err != nil {
								t.Errorf("%d to %d: %v", m.From, m.To, m.Err)
							}
						}
					})
				}
			}
			start.Done()
			done.Wait()
			for query, want := range map[string]int{
				"SELECT COUNT(*) FROM IMRelationShip":                                                  200,
				"SELECT COUNT(DISTINCT smallId, bigId) FROM IMRelationShip":                            200,
				"SELECT COUNT(*) FROM IMRecentSession":                                                 400,
				"SELECT COUNT(DISTINCT userId, peerId) FROM IMRecentSession WHERE type=1 AND status=0": 400,
			} {
				var n int
				if err := e.db.QueryRow(query).Scan(&n); err != nil || n != want {
					t.Errorf("%s: %d, %v, want %d", query, n, err, want)
				}
			}
			for _, p := range pairs {
				wantIDs(t, s[0], p[0], p[1], 1, 2)
			}
		})
	}
}

// TestCrash: a process dies between commit and count, and between the count and its note that it is done.
func TestCrash(t *testing.T) {
	for name, point := range map[string]func(*hooks){
		"not counted":        func(h *hooks) { h.afterCommit = func() error { return errCrash } },
		"counted, row there": func(h *hooks) { h.afterCount = func() error { return errCrash } },
	} {
		for _, cluster := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cluster %v", name, cluster), func(t *testing.T) {
				e := newEnv(t)
				if cluster {
					e.redis = dbtest.RedisCluster(t)
					e.o.Redis.Unread = Instance{Addrs: []string{e.redis.Addr()}, Cluster: true}
				}
				s := e.open(t)
				u := users(t, s, 3)
				send(t, s, texts(u[0], u[1], 2)...)
				point(&s.o.hooks)
				send(t, s, append(texts(u[0], u[1], 3), texts(u[2], u[1], 1)...)...)
				if n := e.outboxRows(t); n == 0 {
					t.Fatal("nothing in the outbox")
				}
				s.Close()
				for range 2 { // recovered once, however often it is tried
					s = e.open(t)
					if a, b := unreadOf(t, s, u[1], u[0]), unreadOf(t, s, u[1], u[2]); a != 5 || b != 1 {
						t.Errorf("unread %d and %d, want 5 and 1", a, b)
					}
					if n := e.outboxRows(t); n != 0 {
						t.Errorf("%d rows are left in the outbox", n)
					}
					s.Close()
				}
			})
		}
	}
}

// TestRedisGoneBetweenCommitAndCount: the message is stored and acked, the count follows when Redis is back.
func TestRedisGoneBetweenCommitAndCount(t *testing.T) {
	e := newEnv(t)
	e.o.Housekeeping = 20 * time.Millisecond
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	e.redis.Save()
	s.o.hooks.afterCommit = func() error { e.redis.Stop(); return nil }
	send(t, s, texts(u[0], u[1], 3)...)
	s.o.hooks.afterCommit = nil
	e.redis.Start()
	for unreadOf(t, s, u[1], u[0]) != 5 { // housekeeping; the test's own timeout ends a wait in vain
		time.Sleep(10 * time.Millisecond)
	}
	send(t, s, texts(u[0], u[1], 1)...)
	if n := unreadOf(t, s, u[1], u[0]); n != 6 {
		t.Errorf("unread %d, want 6", n)
	}
	wantIDs(t, s, u[0], u[1], 1, 6)
}

// TestOtherProcessTakesOver: a live process recovers what a dead one owes once it is old enough, and counts of a process that is just slow are not
// counted by both.
func TestOtherProcessTakesOver(t *testing.T) {
	e := newEnv(t)
	slow, other := e.store(t), e.store(t)
	u := users(t, slow, 2)
	slow.o.hooks.afterCommit = func() error {
		if n, err := other.recover(context.Background(), time.Hour); n != 0 || err != nil {
			t.Errorf("recovered %d rows that are not old, %v", n, err)
		}
		if n, err := other.recover(context.Background(), 0); n != 1 || err != nil {
			t.Errorf("recovered %d rows, %v, want 1", n, err)
		}
		return nil // and the slow one goes on to count
	}
	send(t, slow, texts(u[0], u[1], 3)...)
	if n := unreadOf(t, other, u[1], u[0]); n != 3 {
		t.Errorf("unread %d, want 3", n)
	}
}

func TestRedisDown(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	e.redis.Stop()
	batch := texts(u[0], u[1], 3)
	s.AppendMessages(context.Background(), batch)
	for _, m := range batch {
		if im.KindOf(m.Err) != im.Unavailable || m.Err == nil {
			t.Errorf("without Redis: %v, want kind unavailable", m.Err)
		}
	}
	if err := s.Ping(context.Background()); im.KindOf(err) != im.Unavailable || err == nil {
		t.Errorf("Ping: %v, want kind unavailable", err)
	}
	wantIDs(t, s, u[0], u[1], 1, 2)
	e.redis.Start()                           // empty
	for s.Ping(context.Background()) != nil { // the client tries a server that was away once a second
		time.Sleep(10 * time.Millisecond)
	}
	send(t, s, batch...)
	wantIDs(t, s, u[0], u[1], 1, 5)
}

// TestNoIDTwice: Redis loses counters in every way there is, with another process on the same database.
func TestNoIDTwice(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *env{"finalized": newEnvT, "unfinalized": unfinalized} {
		t.Run(name, func(t *testing.T) {
			e := make(t)
			a, b := e.store(t), e.store(t)
			u := users(t, a, 2)
			last := uint32(0)
			step := func(what string, s *Store) {
				t.Helper()
				batch := texts(u[0], u[1], 3)
				send(t, s, batch...)
				for _, m := range batch {
					gap := m.ID - last
					if m.ID <= last || gap > 1 && (e.finalized(t) || gap > lostGap+1) {
						t.Fatalf("%s: id %d after %d", what, m.ID, last)
					}
					last = m.ID
				}
			}
			step("first", a)
			step("other process", b)
			e.redis.Save()
			step("after the snapshot", b)
			e.redis.Stop()
			e.redis.Start()
			step("old snapshot", a)
			step("old snapshot, other", b)
			step("ahead", b)
			e.redis.FlushAll()
			step("flushed", a) // which knows less than b gave
			step("flushed, other", b)
			e.redis.Stop()
			e.redis.Start() // from the old snapshot again
			step("old snapshot again", b)
			c := e.store(t)
			step("new process", c)
		})
	}
}

// finalized reports whether the unique keys are there.
func (e *env) finalized(t testing.TB) bool {
	t.Helper()
	state, err := schema.Status(t.Context(), e.db)
	if err != nil {
		t.Fatal(err)
	}
	return state.Finalized
}

// TestUniqueKeyStopsDoubleID: a counter is turned back in a way that nobody can notice; the unique key does.
func TestUniqueKeyStopsDoubleID(t *testing.T) {
	e := newEnv(t)
	a, b := e.store(t), e.store(t)
	u := users(t, a, 3)
	send(t, a, texts(u[0], u[1], 2)...)
	send(t, b, texts(u[1], u[0], 8)...)
	relate := a.cached(im.ConversationKey(u[0], u[1])).thread.id
	e.redis.Do(fmt.Sprintf("SET msg_id_%d 5", relate))
	send(t, a, append(texts(u[0], u[1], 3), text(u[0], u[2], "beside"))...)
	wantIDs(t, a, u[0], u[1], 1, 13)
}

// TestClientIDTwoProcesses: a message is sent again to another process while the first stores it.
func TestClientIDTwoProcesses(t *testing.T) {
	e := newEnv(t)
	s := []*Store{e.store(t), e.store(t)}
	u := users(t, s[0], 2)
	for round := range 30 {
		m := []*im.Message{text(u[0], u[1], "once"), text(u[0], u[1], "once")}
		var wg sync.WaitGroup
		for i := range s {
			m[i].ClientID = fmt.Appendf(nil, "id %d", round)
			wg.Go(func() { s[i].AppendMessages(context.Background(), []*im.Message{m[i]}) })
		}
		wg.Wait()
		if m[0].Err != nil || m[1].Err != nil || m[0].ID != m[1].ID || m[0].Duplicate == m[1].Duplicate {
			t.Fatalf("round %d: %+v and %+v", round, *m[0], *m[1])
		}
	}
	list, err := s[0].History(context.Background(), u[0], u[1], 0, 1000)
	if err != nil || len(list) != 30 {
		t.Errorf("%d messages, %v, want 30", len(list), err)
	}
	if n := unreadOf(t, s[0], u[1], u[0]); n != 30 {
		t.Errorf("%d unread, want 30", n)
	}
}

// TestConnectionLostAtCommit: the connection breaks over the COMMIT, which the server may have seen or not.
func TestConnectionLostAtCommit(t *testing.T) {
	for name, broken := range map[string]func(ctx context.Context, conn *sql.Conn) error{
		"committed":     func(ctx context.Context, conn *sql.Conn) error { commitOn(ctx, conn); return mysql.ErrInvalidConn },
		"not committed": func(ctx context.Context, conn *sql.Conn) error { rollBack(ctx, conn); return driver.ErrBadConn },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.o.Workers = 1
			s := e.store(t)
			u := users(t, s, 2)
			send(t, s, texts(u[0], u[1], 2)...)
			first := true
			s.o.hooks.commit = func(ctx context.Context, conn *sql.Conn) error {
				if first {
					first = false
					return broken(ctx, conn)
				}
				return commitOn(ctx, conn)
			}
			send(t, s, texts(u[0], u[1], 3)...)
			wantIDs(t, s, u[0], u[1], 1, 5)
			if n := unreadOf(t, s, u[1], u[0]); n != 5 {
				t.Errorf("unread %d, want 5", n)
			}
		})
	}
}

// TestConnectionsKilled kills the store's connections again and again while it works.
func TestConnectionsKilled(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 8)
	ctx, stop := context.WithCancel(context.Background())
	var killer, senders sync.WaitGroup
	killed := 0
	// After each round of kills a batch has to come through before the next: a killer without a pause is faster than any store.
	through := make(chan struct{}, 1)
	killer.Go(func() {
		for ctx.Err() == nil {
			killed += e.killConnections(t)
			select {
			case <-through:
			case <-ctx.Done():
			}
		}
	})
	for w := range 4 {
		senders.Go(func() {
			for range 12 {
				s.AppendMessages(context.Background(), texts(u[w], u[w+4], 5))
				select {
				case through <- struct{}{}:
				default:
				}
			}
		})
	}
	senders.Wait()
	stop()
	killer.Wait()
	if killed == 0 {
		t.Fatal("no connection was killed")
	}
	if _, err := s.recover(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	for w := range 4 {
		// What was refused may be stored only if the outcome was unknown; nothing is stored twice, and all of it is counted.
		list, err := s.History(context.Background(), u[w], u[w+4], 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n := unreadOf(t, s, u[w+4], u[w]); int(n) != len(list) {
			t.Errorf("%d messages and %d unread", len(list), n)
		}
		if len(list) == 0 || len(list) > 60 {
			t.Errorf("%d messages of 60", len(list))
		}
	}
}

// killConnections kills the connections that use the database, but the test's own, and returns how many.
func (e *env) killConnections(t testing.TB) int {
	admin := dbtest.MariaDB(t).Admin()
	cfg, err := mysql.ParseDSN(e.dsn)
	if err != nil {
		t.Error(err)
		return 0
	}
	rows, err := admin.Query("SELECT ID FROM information_schema.PROCESSLIST WHERE DB=?", cfg.DBName)
	if err != nil {
		t.Error(err)
		return 0
	}
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Error(err)
		}
		ids = append(ids, id)
	}
	rows.Close()
	n := 0
	for _, id := range ids {
		if _, err := admin.Exec(fmt.Sprintf("KILL %d", id)); err == nil {
			n++
		}
	}
	return n
}

// TestReadYourWrites: the slave is a database that nothing ever reaches. What this process wrote lately is read nevertheless.
func TestReadYourWrites(t *testing.T) {
	e := newEnv(t)
	server := dbtest.MariaDB(t)
	e.o.Slave = server.NewDatabase(t)
	if err := schema.Migrate(t.Context(), server.Open(t, e.o.Slave), schema.Options{}); err != nil {
		t.Fatal(err)
	}
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	ctx := t.Context()
	read := func() (n int) {
		t.Helper()
		h, err1 := s.History(ctx, u[0], u[1], 0, 10)
		m, err2 := s.MessagesByID(ctx, u[1], u[0], []uint32{1})
		l, err3 := s.LatestID(ctx, u[0], u[1])
		r, err4 := s.RecentSessions(ctx, u[1], 0, 10)
		for _, err := range []error{err1, err2, err3, err4} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return len(h) + len(m) + int(l) + len(r)
	}
	if n := read(); n != 2+1+2+1 {
		t.Errorf("just written: %d things read, want 6", n)
	}
	if _, err := s.AccountByName(ctx, "USER1"); err != nil {
		t.Errorf("account that the slave does not have: %v", err)
	}
	e.clock.ahead.Add(int64(s.o.ReplicaLag) + int64(time.Second))
	if n := read(); n != 0 {
		t.Errorf("written long ago: %d things read, want what the slave has: none", n)
	}
	if n := unreadOf(t, s, u[1], u[0]); n != 2 {
		t.Errorf("unread %d, want 2: its messages must be found on the master", n)
	}
}

// TestExistingData: rows as C++ servers left them.
func TestExistingData(t *testing.T) {
	e := unfinalized(t)
	for _, stmt := range []string{
		"INSERT INTO IMUser (id, name, departId, created, updated) VALUES (1,'a',1,1,1), (2,'b',1,1,1)",
		"INSERT INTO IMRelationShip (id, smallId, bigId, status, created, updated) VALUES (11,1,2,0,1,1), (12,1,2,0,1,1), (13,1,2,1,9,9)",
		"INSERT INTO IMMessage_3 (relateId, fromId, toId, msgId, content, status, type, created, updated) VALUES (11,1,2,1,'before',0,1,1,1)",
		"INSERT INTO IMMessage_4 (relateId, fromId, toId, msgId, content, status, type, created, updated) VALUES (12,1,2,1,'YQ==',0,1,2,2), (12,2,1,2,'gone',1,1,3,3), (12,1,2,3,'Yg==',0,1,4,4), (12,1,2,4,'gone',1,1,5,5)",
		"INSERT INTO IMRecentSession (userId, peerId, type, status, created, updated) VALUES (1,2,1,0,1,1), (1,2,1,1,1,2), (2,1,1,1,1,2)",
	} {
		e.exec(t, stmt)
	}
	e.redis.Do("HSET unread_2 1 2")
	s := e.store(t)
	list, err := s.History(t.Context(), 2, 1, 0, 10)
	if err != nil || len(list) != 2 || string(list[0].Data) != "Yg==" || list[1].ID != 1 {
		t.Errorf("history: %+v, %v", list, err)
	}
	counts, err := s.UnreadCounts(t.Context(), 2)
	if err != nil || len(counts) != 1 || counts[0].Count != 2 || counts[0].Latest.ID != 3 {
		t.Errorf("unread: %+v, %v", counts, err)
	}
	m := text(2, 1, "new")
	send(t, s, m) // the deleted message has an id too, and Redis has no counter
	if m.ID <= 4 {
		t.Errorf("id %d is not above the last", m.ID)
	}
	for _, user := range []uint32{1, 2} {
		sessions, err := s.RecentSessions(t.Context(), user, m.Created, 10)
		if err != nil || len(sessions) != 1 || sessions[0].Latest.ID != m.ID {
			t.Errorf("sessions of %d: %+v, %v", user, sessions, err)
		}
	}
}

// TestNameTwice: of several users of one name the last that may log in counts, as in the first
// implementation; one spelled like the name asked for comes before others.
func TestNameTwice(t *testing.T) {
	e := unfinalized(t)
	e.exec(t, "INSERT INTO IMUser (id, name, departId, status, created, updated) VALUES "+
		"(1,'ann',1,0,1,1), (2,'ann',1,0,1,1), (3,'ann',1,3,1,1), (4,'ANN',1,0,1,1), (5,'Ann',1,3,1,1), "+
		"(6,'жук',1,0,1,1), (7,'жук',1,0,1,1), (8,'жук',1,3,1,1), (9,'ЖУК',1,0,1,1), (10,'Жук',1,3,1,1), "+
		"(11,'gone',1,3,1,1), (12,'gone',1,3,1,1)")
	s := e.store(t)
	for name, want := range map[string]uint32{
		"ann": 2, "ANN": 4, "Ann": 5, "aNN": 4,
		"жук": 7, "ЖУК": 9, "Жук": 10, "жУК": 9,
		"gone": 12, "GONE": 12,
	} {
		if a, err := s.AccountByName(t.Context(), name); err != nil || a.ID != want {
			t.Errorf("%s: user %d, %v, want %d", name, a.ID, err, want)
		}
	}
	list, err := s.AccountsByName(t.Context(), []string{"Ann", "ann", "aNN", "ANN", "ann"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{5, 2, 4, 4, 2} {
		if list[i].ID != want {
			t.Errorf("all at once, %d: user %d, want %d", i, list[i].ID, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	e := bareEnv(t)
	if _, err := Open(t.Context(), e.o); im.KindOf(err) != im.Invalid || err == nil || !strings.Contains(err.Error(), "migrate") {
		t.Errorf("not migrated: %v", err)
	}
	if err := schema.Migrate(t.Context(), e.db, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]struct {
		o    func(*Options)
		kind im.Kind
	}{
		"DSN":         {func(o *Options) { o.Master = "nonsense" }, im.Invalid},
		"no database": {func(o *Options) { o.Master = "root@tcp(127.0.0.1:1)/" }, im.Invalid},
		"no MySQL":    {func(o *Options) { o.Master = "root@tcp(127.0.0.1:1)/x" }, im.Unavailable},
		"no slave":    {func(o *Options) { o.Slave = "root@tcp(127.0.0.1:1)/x" }, im.Unavailable},
		"no Redis":    {func(o *Options) { o.Redis.Unread.Addrs = []string{"127.0.0.1:1"} }, im.Unavailable},
		"no address":  {func(o *Options) { o.Redis.Unread.Addrs = nil }, im.Invalid},
	} {
		o := e.o
		change.o(&o)
		s, err := Open(t.Context(), o)
		if err == nil {
			s.Close()
		}
		if err == nil || im.KindOf(err) != change.kind {
			t.Errorf("%s: %v, want kind %v", name, err, change.kind)
		}
	}
}

func TestMetrics(t *testing.T) {
	e := newEnv(t)
	reg := prometheus.NewRegistry()
	e.o.Metrics = reg
	s := e.open(t)
	u := users(t, s, 2)
	e.refuse(t, "bad")
	batch := texts(u[0], u[1], 4)
	batch[1].Data = []byte("bad")
	s.AppendMessages(t.Context(), batch)
	for name, want := range map[string]float64{"rows": testutil.ToFloat64(s.m.rows) - 3, "bisects": testutil.ToFloat64(s.m.bisects) - 2,
		"failed": testutil.ToFloat64(s.m.failed.WithLabelValues("internal")) - 1} {
		if want != 0 {
			t.Errorf("%s is off by %v", name, want)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	s.Close()
	e.store(t) // registers them again
}

func FuzzParseDues(f *testing.F) {
	f.Add(appendDues(nil, dues{counts: []count{{1, 2, 3}, {1 << 31, 1<<32 - 1, 1}}}))
	f.Add(appendDues(nil, dues{counts: []count{{1, 2, 3}}, groups: []groupCount{{7, 3, []sender{{1, 2}, {4, 0}}}, {9, 1, nil}},
		changes: []memberChange{{7, 2, true, []uint32{5, 6}}}}))
	f.Add([]byte{0x80})
	f.Add([]byte{0, 3})
	f.Add([]byte{0, 2, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDues(b)
		if err != nil {
			return
		}
		again, err := parseDues(appendDues(nil, d))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(d) {
			t.Fatalf("%v does not survive: %v, %v", d, again, err)
		}
	})
}

func TestClosed(t *testing.T) {
	e := newEnv(t)
	s := e.open(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m := text(u[0], u[1], "late")
	if s.AppendMessages(t.Context(), []*im.Message{m}); m.Err == nil || im.KindOf(m.Err) != im.Closed {
		t.Errorf("after Close: %v, want kind closed", m.Err)
	}
	if n := e.outboxRows(t); n != 0 {
		t.Errorf("%d outbox rows are left by a store that closed in order", n)
	}
}

// TestOldClientIDsRemoved: what is remembered does not grow without end.
func TestOldClientIDsRemoved(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	for i := range 3 {
		m := text(u[0], u[1], "named")
		m.ClientID = fmt.Appendf(nil, "id %d", i)
		send(t, s, m)
		e.clock.ahead.Add(int64(im.ClientIDTTL) * int64(time.Second) / 2)
	}
	if err := s.forgetClientIDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := e.names(t, "SELECT clientMsgId FROM IMClientMsgId"); len(left) != 1 || left[0] != "id 2" {
		t.Errorf("left: %q, want the one of half a day ago", left)
	}
}
