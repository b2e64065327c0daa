package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/schema"
)

// galeraUnfinalized is galeraEnv with the tables of a C++ deployment, which have no unique
// keys.
func galeraUnfinalized(t *testing.T) []*env {
	t.Helper()
	c := dbtest.Galera(t)
	redis := dbtest.Redis(t)
	var list []*env
	for i, dsn := range c.NewDatabase(t) {
		e := &env{dsn: dsn, db: c.Nodes[i].Open(t, dsn), redis: redis, clock: &clock{}}
		e.o = Options{Master: dsn, Workers: 4, Now: e.clock.now,
			Redis: Redis{Unread: Instance{Addrs: []string{redis.Addr()}}}}
		list = append(list, e)
	}
	list[0].cppTables(t)
	if err := schema.Migrate(t.Context(), list[0].db, schema.Options{}); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	for _, e := range list {
		e.sync(t)
	}
	return list
}

// together runs do once for each store, at the same time.
func together(stores []*Store, do func(i int, s *Store)) {
	var wg sync.WaitGroup
	start := make(chan bool)
	for i, s := range stores {
		wg.Go(func() {
			<-start
			do(i, s)
		})
	}
	close(start)
	wg.Wait()
}

// count returns the number that a query returns.
func (e *env) count(t *testing.T, query string) (n int) {
	t.Helper()
	if err := e.db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestGaleraNames creates users of the same names through two nodes at once. A named lock
// holds on one node only.
func TestGaleraNames(t *testing.T) {
	const rounds = 10
	list := galeraEnv(t)
	stores := []*Store{list[0].store(t), list[1].store(t)}
	for n := range rounds {
		name := fmt.Sprint("user ", n)
		var errs [2]error
		together(stores, func(i int, s *Store) {
			_, errs[i] = s.CreateUsers(context.Background(),
				[]im.Account{{User: im.User{Name: name}}})
		})
		if (errs[0] == nil) == (errs[1] == nil) ||
			im.KindOf(errors.Join(errs[:]...)) != im.Exists {
			t.Errorf("%s: %v, want one to be told that the name is taken", name, errs)
		}
	}
	list[0].sync(t)
	if n := list[0].count(t, "SELECT COUNT(*) FROM IMUser"); n != rounds {
		t.Errorf("%d users with %d names", n, rounds)
	}
}

// TestGaleraRows stores the first messages of conversations through two nodes at once,
// before finalize, when no unique key prevents a second row.
func TestGaleraRows(t *testing.T) {
	const rounds = 8
	list := galeraUnfinalized(t)
	stores := []*Store{list[0].store(t), list[1].store(t)}
	u := users(t, stores[0], rounds+1)
	group := newGroup(t, stores[0], u...)
	for _, e := range list {
		e.sync(t)
	}
	for n := range rounds {
		together(stores, func(i int, s *Store) {
			m := text(u[n], u[n+1], fmt.Sprint("to one ", n, i))
			g := text(u[n], group, fmt.Sprint("to all ", n, i))
			g.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
			s.AppendMessages(context.Background(), []*im.Message{m, g})
			if m.Err != nil || g.Err != nil {
				t.Errorf("round %d: %v, %v", n, m.Err, g.Err)
			}
			if _, err := s.SyncSessions(context.Background()); err != nil {
				t.Errorf("round %d: %v", n, err)
			}
		})
	}
	list[0].sync(t)
	for what, query := range map[string]string{
		"relations": "SELECT COUNT(*)-COUNT(DISTINCT smallId, bigId) FROM IMRelationShip",
		"sessions":  "SELECT COUNT(*)-COUNT(DISTINCT userId, peerId, type) FROM IMRecentSession",
	} {
		if n := list[0].count(t, query); n != 0 {
			t.Errorf("%d %s too many", n, what)
		}
	}
}

// TestGaleraFiles adds files through two nodes at once. The table has no unique key.
func TestGaleraFiles(t *testing.T) {
	const rounds = 10
	list := galeraEnv(t)
	stores := []*Store{list[0].store(t), list[1].store(t)}
	u := users(t, stores[0], 2)
	list[1].sync(t)
	for range rounds {
		f := im.OfflineFile{From: u[0], To: u[1], Task: uuid.NewString(), Name: "f", Size: 1}
		together(stores, func(_ int, s *Store) {
			if err := s.AddOfflineFile(context.Background(), f); err != nil {
				t.Error(err)
			}
		})
	}
	list[0].sync(t)
	if n := list[0].count(t, "SELECT COUNT(*) FROM IMTransmitFile"); n != rounds {
		t.Errorf("%d rows of %d files", n, rounds)
	}
}

// TestGaleraLostFile loses the connection during the COMMIT of a file, behind a balancer over
// all nodes. The node receives the COMMIT when the next try has written the file on another
// node.
func TestGaleraLostFile(t *testing.T) {
	const rounds = 5
	list := galeraEnv(t)
	e, p := behindBalancer(t, list)
	p.lookUp = "INSERT INTO IMTransmitFile"
	e.o.Housekeeping = time.Hour // sends no COMMIT meanwhile
	s := e.store(t)
	u := users(t, s, 2)
	for _, e := range list {
		e.sync(t)
	}
	for range rounds {
		p.mu.Lock()
		p.armed = true
		p.mu.Unlock()
		if err := s.AddOfflineFile(t.Context(), im.OfflineFile{From: u[0], To: u[1],
			Task: uuid.NewString(), Name: "f", Size: 1}); err != nil {
			t.Error(err)
		}
	}
	p.mu.Lock()
	times := p.times
	p.mu.Unlock()
	list[0].sync(t)
	if n := list[0].count(t, "SELECT COUNT(*) FROM IMTransmitFile"); n != rounds ||
		times != rounds {
		t.Errorf("%d rows of %d files, whose COMMIT was late %d times", n, rounds, times)
	}
}
