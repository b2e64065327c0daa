package store

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/replica"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/database"
)

// pairEnv makes a migrated database on a master with a replica, and an empty Redis.
func pairEnv(t testing.TB) (*env, *dbtest.Pair) {
	t.Helper()
	pair := dbtest.Replicated(t)
	master, replica := pair.NewDatabase(t)
	e := &env{dsn: master, db: pair.Master.Open(t, master), redis: dbtest.Redis(t),
		clock: &clock{}}
	e.o = Options{Master: master, Slave: replica, Workers: 4, Now: e.clock.now,
		ReplicaWait: config.Default().MySQL.ReplicaWait,
		Redis:       Redis{Unread: Instance{Addrs: []string{e.redis.Addr()}}}}
	if err := schema.Migrate(t.Context(), e.db, schema.Options{}); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	pair.Sync(t)
	return e, pair
}

// written are the things that readWritten must find.
type written struct {
	user, peer, group, depart uint32
	name, password, task      string
	sent                      []*im.Message
	toGroup                   *im.Message
}

// writeAll changes something of each kind that is read from a replica.
func writeAll(t *testing.T, s *Store, name string) (w written) {
	t.Helper()
	ctx := t.Context()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ids, err := s.CreateUsers(ctx, []im.Account{{User: im.User{Name: name}},
		{User: im.User{Name: name + " peer"}}})
	fail(err)
	w = written{user: ids[0], peer: ids[1], name: name, password: "0123456789abcdef",
		task: uuid.NewString()}
	w.group = newGroup(t, s, ids...)
	w.sent = texts(w.user, w.peer, 2)
	w.toGroup = text(w.user, w.group, "to all")
	w.toGroup.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	send(t, s, append(w.sent[:2:2], w.toGroup)...)
	w.depart, err = s.CreateDepart(ctx, im.Depart{Name: name})
	fail(err)
	fail(s.SetPassword(ctx, w.user, w.password, "salt"))
	fail(s.AddOfflineFile(ctx, im.OfflineFile{From: w.user, To: w.peer, Task: w.task, Name: "f",
		Size: 1}))
	return w
}

// readWritten reads what writeAll has written, through another process.
func readWritten(t *testing.T, s *Store, w written) {
	t.Helper()
	ctx := t.Context()
	want := func(what string, ok bool, got any, err error) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	a, err := s.AccountByName(ctx, w.name)
	want("account", a.ID == w.user && a.Password == w.password, a, err)
	h, err := s.History(ctx, w.user, w.peer, 0, 10)
	want("history", len(h) == 2, h, err)
	h, err = s.MessagesByID(ctx, w.peer, w.user, []uint32{w.sent[1].ID})
	want("message by id", len(h) == 1, h, err)
	id, err := s.LatestID(ctx, w.peer, w.user)
	want("latest id", id == w.sent[1].ID, id, err)
	h, err = s.GroupHistory(ctx, w.peer, w.group, 0, 10)
	want("group history", len(h) == 1, h, err)
	h, err = s.GroupMessagesByID(ctx, w.peer, w.group, []uint32{w.toGroup.ID})
	want("group message by id", len(h) == 1, h, err)
	// the time of a client's last answer, as an incremental synchronisation asks
	r, err := s.RecentSessions(ctx, w.user, w.sent[0].Created, 10)
	want("conversations", len(r) == 2, r, err)
	n, _, err := s.UnreadCounts(ctx, w.peer, 1<<20)
	want("unread", len(n) == 2 && n[0].Latest.ID == w.sent[1].ID, n, err)
	users, err := s.Users(ctx, []uint32{w.user, w.peer})
	want("users", len(users) == 2, users, err)
	users, newest, err := s.UsersChangedSince(ctx, 1)
	want("changed users", len(users) >= 2 && newest >= a.Updated, users, err)
	departs, _, err := s.DepartsChangedSince(ctx, 1)
	want("changed departments", slices.ContainsFunc(departs, func(d im.Depart) bool {
		return d.ID == w.depart
	}), departs, err)
	files, err := s.OfflineFiles(ctx, w.peer)
	want("files", len(files) == 1, files, err)
	files, _, err = s.OfflineFilePage(ctx, 0)
	want("all files", slices.ContainsFunc(files, func(f im.OfflineFile) bool {
		return f.Task == w.task
	}), files, err)
}

// reads returns the number of reads for the replica that had an outcome.
func reads(t testing.TB, s *Store, what string) float64 {
	t.Helper()
	return metric(t, s, "replica_reads_total", what)
}

// readsAgain waits until the replica answers reads.
func readsAgain(t *testing.T, s *Store, w written) {
	t.Helper()
	for before := reads(t, s, "replica"); reads(t, s, "replica") == before; {
		time.Sleep(5 * time.Millisecond) // polls another process, which sends no event
		readWritten(t, s, w)
	}
}

// TestReadYourWritesElsewhere writes through one process and reads through another, which
// shares nothing with it but the databases. At first the replica gets the writes after
// they are acked, and then not at all.
func TestReadYourWritesElsewhere(t *testing.T) {
	e, pair := pairEnv(t)
	a, b := e.store(t), e.store(t)
	readsAgain(t, b, writeAll(t, a, "replicated"))
	pair.Replicate(t, false)
	t.Cleanup(func() { pair.Replicate(t, true) })
	w := writeAll(t, a, "behind")
	readWritten(t, b, w)
	if err := b.db.ReplicaState(); err == nil {
		t.Error("the replica is in use although it is behind")
	}
	readWritten(t, b, writeAll(t, a, "still behind"))
	if n := reads(t, b, "behind"); n == 0 || n > 4 {
		t.Errorf("%v reads waited for the replica", n)
	}
	pair.Replicate(t, true)
	readsAgain(t, b, w)
}

// TestReplicaKilled kills the replica under a process that uses it.
func TestReplicaKilled(t *testing.T) {
	e, pair := pairEnv(t)
	s := e.store(t)
	w := writeAll(t, s, "before")
	readsAgain(t, s, w)
	pair.Replica.Stop()
	t.Cleanup(func() { pair.Replica.Start(t) })
	readWritten(t, s, w)
	readWritten(t, s, writeAll(t, s, "while dead"))
	if s.db.ReplicaState() == nil || reads(t, s, "away") == 0 ||
		metric(t, s, "replica_up") != 0 {
		t.Errorf("a dead replica is in use: %v, %v", s.db.ReplicaState(), reads(t, s, "away"))
	}
	if err := s.db.Ping(t.Context()); err != nil {
		t.Errorf("the process is not ready for want of a replica: %v", err)
	}
	late := e.store(t) // a process that starts now
	readWritten(t, late, w)
	pair.Replica.Start(t)
	readsAgain(t, s, w)
	readsAgain(t, late, w)
}

// TestReplicaFrozen uses a replica whose connections stay open and are not answered.
func TestReplicaFrozen(t *testing.T) {
	e, pair := pairEnv(t)
	s := e.store(t)
	w := writeAll(t, s, "before")
	readsAgain(t, s, w)
	pair.Replica.Freeze(t)
	t.Cleanup(func() { pair.Replica.Thaw(t) })
	var wg sync.WaitGroup
	for range 5 * e.o.Workers {
		wg.Go(func() {
			if h, err := s.History(t.Context(), w.user, w.peer, 0, 10); err != nil || len(h) != 2 {
				t.Errorf("%d messages, %v", len(h), err)
			}
		})
	}
	wg.Wait()
	if s.db.ReplicaState() == nil {
		t.Error("a frozen replica is in use")
	}
	// The reads that waited for one of its connections must not wait for it again.
	if n := reads(t, s, "failed"); n == 0 || n > float64(e.o.Workers) {
		t.Errorf("%v reads waited for it, with %d connections", n, e.o.Workers)
	}
	readWritten(t, s, w)
	pair.Replica.Thaw(t)
	readsAgain(t, s, w)
}

// TestDemotedMasterProvesNothing makes the master read-only while the connections to it
// survive, as in a managed failover. From then on the replica answers no read, until the new
// master has said which changes the replica must have.
func TestDemotedMasterProvesNothing(t *testing.T) {
	e, pair := pairEnv(t)
	p := newSwitch(t, pair.Master.Addr())
	cfg, err := mysql.ParseDSN(e.o.Master)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr = p.listener.Addr().String()
	e.o.Master = cfg.FormatDSN()
	s := e.store(t)
	w := writeAll(t, s, "before")
	pair.Sync(t)
	readsAgain(t, s, w)
	set := func(value int) {
		if _, err := e.db.Exec("SET GLOBAL read_only=?", value); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	t.Cleanup(func() { set(0) })
	before := reads(t, s, "replica")
	readWritten(t, s, w)
	if n := reads(t, s, "replica") - before; n > 0 {
		t.Errorf("the replica answered %v reads by what a demoted master knows", n)
	}
	p.mu.Lock()
	p.to = pair.Replica.Addr() // the new master
	p.mu.Unlock()
	readsAgain(t, s, w)
}

// TestReplicaThatProvesNothing gives a store replicas that do not show what they have:
// another database of a server without a binary log, and a server that never answers.
func TestReplicaThatProvesNothing(t *testing.T) {
	e := newEnv(t)
	silent := accept(t, func(net.Conn) {})
	for name, c := range map[string]struct {
		dsn  string
		want error
	}{
		"no binary log": {dbtest.MariaDB(t).NewDatabase(t), replica.ErrUnproven},
		"no answer":     {"root@tcp(" + silent.Addr().String() + ")/x", context.DeadlineExceeded},
	} {
		e.o.Slave = c.dsn
		s := e.store(t)
		if err := s.db.ReplicaState(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		readWritten(t, s, writeAll(t, s, name))
		if n := reads(t, s, "replica"); n > 0 {
			t.Errorf("%s: the replica answered %v reads", name, n)
		}
	}
}

// TestReadsInPlaceOfTheReplica requires that reads in place of a replica leave connections
// to the writes.
func TestReadsInPlaceOfTheReplica(t *testing.T) {
	e := newEnv(t)
	e.o.Slave = "root@tcp(127.0.0.1:1)/x"
	s := e.store(t)
	u := users(t, s, 2)
	release, entered := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	for range e.o.Workers / 2 {
		wg.Go(func() {
			if err := s.db.Read(t.Context(), func(db database.Querier) error {
				entered <- true
				<-release
				_, err := database.CountRows(t.Context(), db, "SELECT 1")
				return err
			}); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	send(t, s, texts(u[0], u[1], 2)...)
	if n, bound := s.db.Replica.Diverted(); n != bound || bound != e.o.Workers/2 {
		t.Error("one more read would use another connection")
	}
	close(release)
	wg.Wait()
	if h, err := s.History(t.Context(), u[0], u[1], 0, 10); err != nil || len(h) != 2 {
		t.Errorf("%d messages, %v", len(h), err)
	}
}
