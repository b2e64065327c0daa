package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/database"
)

// cluster lets one test at a time use the Galera cluster: a test may make a node read-only.
var cluster sync.Mutex

// galeraEnv makes a migrated database on a Galera cluster and an empty Redis. It returns
// an env for each node. The envs share the database and Redis. No other test uses the
// cluster until the end of this one.
func galeraEnv(t testing.TB) []*env {
	t.Helper()
	cluster.Lock()
	t.Cleanup(cluster.Unlock)
	c := dbtest.Galera(t)
	redis := dbtest.Redis(t)
	var list []*env
	for i, dsn := range c.NewDatabase(t) {
		e := &env{dsn: dsn, db: c.Nodes[i].Open(t, dsn), redis: redis, clock: &clock{}}
		e.o = Options{Master: dsn, Workers: 4, Now: e.clock.now,
			Redis: Redis{Unread: Instance{Addrs: []string{redis.Addr()}}}}
		list = append(list, e)
	}
	if err := schema.Migrate(t.Context(), list[0].db, schema.Options{}); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	for _, e := range list {
		e.sync(t)
	}
	return list
}

// sync waits until the node of an env has applied what any node has committed.
func (e *env) sync(t testing.TB) {
	t.Helper()
	conn, err := e.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// DO does not wait.
	for _, q := range []string{"SET wsrep_sync_wait=1", "SELECT 1",
		"DO (SELECT COUNT(*) FROM IMUser)", "SET wsrep_sync_wait=0"} {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGaleraSettings opens a store on a session whose writes the other nodes would miss.
func TestGaleraSettings(t *testing.T) {
	t.Parallel()
	e := galeraEnv(t)[0]
	e.o.Master = addParams(e.dsn, "`wsrep_on`=0")
	s, err := Open(t.Context(), e.o)
	if err == nil {
		s.Close()
		t.Fatal("the store is open")
	}
	want := `session variable wsrep_on is "OFF" and must be "ON": remove the parameter "` +
		"`wsrep_on`"
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestGaleraConflicts stores batches through two nodes at once, whose transactions write
// the same session rows. Galera aborts the transactions that lose, at any point. Every
// acked message must be in its table, and no message with an error, unless its outcome
// was in doubt. Unread counts must be those of the messages in the tables.
//
// Without FormBlock about one abort of a hundred is lost, so a run may miss the fault.
// TestCommitProvesItsTransaction finds it always. make nightly runs more batches.
func TestGaleraConflicts(t *testing.T) {
	t.Parallel()
	const writers, size, most = 8, 32, 120
	batches := 15
	if os.Getenv("TEAMTALK_TEST_LONG") != "" {
		batches = most
	}
	list := galeraEnv(t)
	// Each batch has a second of its own, so that it writes the session rows.
	var second atomic.Int64
	second.Store(time.Now().Unix())
	for _, e := range list[:2] {
		e.o.hooks.Clock = func() time.Time { return time.Unix(second.Add(1), 0) }
	}
	stores := []*Store{list[0].store(t), list[1].store(t)}
	u := users(t, stores[0], 12)
	list[1].sync(t)
	var mu sync.Mutex
	var sent []*im.Message
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := 0; n < batches || n < most && aborts(t, list[:2]) == 0; n++ {
				batch := make([]*im.Message, size)
				for i := range batch {
					from := (w + n + i) % len(u)
					to := (from + 1 + (n+i)%3) % len(u)
					batch[i] = text(u[from], u[to], fmt.Sprintf("%d %d %d", w, n, i))
					batch[i].ClientID = fmt.Append(nil, w, n, i)
				}
				stores[w%2].AppendMessages(context.Background(), batch)
				mu.Lock()
				sent = append(sent, batch...)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	checkGalera(t, list, stores, u, sent)
}

// storedRow is a message in a table.
type storedRow struct{ from, to, id uint32 }

// storedRows reads all messages between users, by content. A content that is stored twice
// fails the test.
func (e *env) storedRows(t testing.TB) map[string]storedRow {
	t.Helper()
	there := map[string]storedRow{}
	for n := range schema.Tables {
		rows, err := e.db.Query(fmt.Sprintf("SELECT content, fromId, toId, msgId "+
			"FROM IMMessage_%d", n))
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var content string
			var r storedRow
			if err := rows.Scan(&content, &r.from, &r.to, &r.id); err != nil {
				t.Fatal(err)
			}
			if _, ok := there[content]; ok {
				t.Errorf("%q is stored twice", content)
			}
			there[content] = r
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
	return there
}

// checkGalera compares what was acked with the tables and with the unread counts.
func checkGalera(t *testing.T, list []*env, stores []*Store, u []uint32, sent []*im.Message) {
	t.Helper()
	for i, e := range list {
		e.sync(t)
		if i < len(stores) {
			if _, err := stores[i].outbox.Recover(context.Background(), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	there := list[0].storedRows(t)
	var acked, lost, failed, remained int
	for _, m := range sent {
		r, ok := there[string(m.Data)]
		switch {
		case m.Err == nil:
			if acked++; !ok || r.id != m.ID {
				lost++
			}
		default:
			if failed++; ok && !errors.Is(m.Err, database.ErrOutcome) {
				remained++
			}
		}
	}
	var orphans int
	for n := range schema.Tables {
		var rows int
		query := fmt.Sprintf("SELECT COUNT(*) FROM IMClientMsgId AS c "+
			"LEFT JOIN IMMessage_%[1]d AS m ON m.relateId=c.relateId AND m.msgId=c.msgId "+
			"WHERE c.relateId%%%[2]d=%[1]d AND m.id IS NULL", n, schema.Tables)
		if err := list[0].db.QueryRow(query).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		orphans += rows
	}
	if orphans > 0 {
		t.Errorf("%d client_msg_ids of batches that were aborted are in their table", orphans)
	}
	aborted := aborts(t, list[:len(stores)])
	t.Logf("%d acked, %d of them lost; %d with an error, %d of them stored; %d aborts", acked,
		lost, failed, remained, aborted)
	if lost > 0 || remained > 0 {
		t.Errorf("%d acked messages are in no table, %d messages with an error are in one", lost,
			remained)
	}
	if aborted == 0 || acked == 0 {
		t.Error("no transaction was aborted, so the test shows nothing")
	}
	checkUnread(t, stores[0], u, there)
}

// aborts returns how many transactions of the nodes were aborted because another node had
// written the same rows before.
func aborts(t *testing.T, list []*env) int {
	all := 0
	for _, e := range list {
		var name string
		var n int
		if err := e.db.QueryRow("SHOW STATUS LIKE 'wsrep_local_bf_aborts'").Scan(&name,
			&n); err != nil {
			t.Error(err)
			return 1 // ends the loop that waits for one
		}
		all += n
	}
	return all
}

// checkUnread compares unread counts with the messages in the tables.
func checkUnread(t *testing.T, s *Store, u []uint32, there map[string]storedRow) {
	t.Helper()
	want := map[[2]uint32]uint32{}
	for _, r := range there {
		want[[2]uint32{r.to, r.from}]++
	}
	for _, user := range u {
		counts, _, err := s.UnreadCounts(context.Background(), user, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counts {
			k := [2]uint32{user, c.Peer}
			if c.Count != want[k] {
				t.Errorf("user %d has %d unread of %d, and %d messages", user, c.Count, c.Peer,
					want[k])
			}
			delete(want, k)
		}
	}
	for k, n := range want {
		t.Errorf("user %d has no unread of %d, and %d messages", k[0], k[1], n)
	}
}

// behindBalancer returns an env that connects to all nodes, through a lateCommit.
func behindBalancer(t *testing.T, list []*env) (env, *lateCommit) {
	t.Helper()
	var servers []string
	for _, e := range list {
		cfg, err := mysql.ParseDSN(e.dsn)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, cfg.Addr)
	}
	p := newLateCommit(t, servers...)
	cfg, err := mysql.ParseDSN(list[0].dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr = p.listener.Addr().String()
	e := *list[0]
	e.o.Master, e.o.Workers = cfg.FormatDSN(), 1
	return e, p
}

// TestGaleraLostCommit loses the connection of each other batch during COMMIT, behind a
// balancer over all nodes. The node receives the COMMIT when the store asks another node
// for the outcome. No message may be stored twice.
func TestGaleraLostCommit(t *testing.T) {
	t.Parallel()
	const lost = 30
	list := galeraEnv(t)
	e, p := behindBalancer(t, list)
	s := e.store(t)
	u := users(t, s, 2)
	for _, e := range list {
		e.sync(t)
	}
	var sent []*im.Message
	for n := range lost {
		p.mu.Lock()
		p.armed = true
		p.mu.Unlock()
		for i := range 2 {
			m := text(u[0], u[1], fmt.Sprintf("%d %d", n, i))
			s.AppendMessages(t.Context(), []*im.Message{m})
			sent = append(sent, m)
		}
	}
	p.mu.Lock()
	times := p.times
	p.mu.Unlock()
	if times != lost {
		t.Errorf("the COMMIT was late %d times of %d", times, lost)
	}
	list[0].sync(t)
	there := list[0].storedRows(t)
	for _, m := range sent {
		if r, ok := there[string(m.Data)]; m.Err != nil || !ok || r.id != m.ID {
			t.Errorf("%q: acked with id %d (%v), stored with %d (%v)", m.Data, m.ID, m.Err,
				r.id, ok)
		}
	}
	if _, err := s.outbox.Recover(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	checkUnread(t, s, u, there)
}

// TestGaleraSyncsOnce requires that one process at a time writes the sessions of groups'
// members, whatever node it uses.
func TestGaleraSyncsOnce(t *testing.T) {
	t.Parallel()
	list := galeraEnv(t)
	s, other := list[0].store(t), list[1]
	u := users(t, s, 3)
	m := text(u[0], newGroup(t, s, u...), "to all")
	m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	send(t, s, m)
	other.sync(t)
	lease, err := schema.TakeLease(t.Context(), other.db, "sync", time.Minute)
	if err != nil || lease == nil {
		t.Fatalf("%v, %v", lease, err)
	}
	if n, err := s.SyncSessions(t.Context()); n != 0 || err != nil {
		t.Errorf("%d rows (%v) while another process holds the lease", n, err)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	list[0].sync(t)
	if n, err := s.SyncSessions(t.Context()); n != 2 || err != nil {
		t.Errorf("%d rows (%v), want 2", n, err)
	}
}

// TestGaleraReplicaNode reads from one node what another process has written to another
// node. The node first applies the writes, and then a lock keeps it from that.
func TestGaleraReplicaNode(t *testing.T) {
	list := galeraEnv(t)
	list[0].o.Slave, list[0].o.ReplicaWait = list[1].dsn, 100*time.Millisecond
	a, b := list[0].store(t), list[0].store(t)
	readsAgain(t, b, writeAll(t, a, "applied"))
	conn, err := list[1].db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "FLUSH TABLES WITH READ LOCK"); err != nil {
		t.Fatal(err)
	}
	defer conn.ExecContext(context.Background(), "UNLOCK TABLES")
	readWritten(t, b, writeAll(t, a, "not applied"))
	if b.db.ReplicaState() == nil {
		t.Error("a node that does not apply is in use")
	}
}

// TestGaleraWithoutQuorum checks that a node outside its cluster is not ready, although it
// answers a ping, and that it is ready when it is back. The node leaves by itself: a loss
// of the other nodes would be noticed after 6 s.
func TestGaleraWithoutQuorum(t *testing.T) {
	list := galeraEnv(t)
	last := list[len(list)-1]
	s := last.store(t)
	if err := s.db.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	var name, cluster string
	if err := last.db.QueryRow("SHOW GLOBAL VARIABLES LIKE 'wsrep_cluster_address'").Scan(&name,
		&cluster); err != nil {
		t.Fatal(err)
	}
	connect := func(address string) {
		t.Helper()
		set := "SET GLOBAL wsrep_cluster_address='" + address + "'"
		if _, err := last.db.Exec(set); err != nil {
			t.Fatal(err)
		}
	}
	connect("")
	back := sync.OnceFunc(func() {
		connect(cluster)
		for s.db.Ping(context.Background()) != nil {
			time.Sleep(10 * time.Millisecond)
		}
	})
	defer back() // the other tests use the node
	began := time.Now()
	if err := s.db.Ping(t.Context()); im.KindOf(err) != im.Unavailable {
		t.Errorf("readiness without a cluster: %v", err)
	} else {
		t.Log(err)
	}
	if err := last.db.PingContext(t.Context()); err != nil {
		t.Errorf("the node does not answer: %v", err)
	}
	back()
	t.Log("back after", time.Since(began))
}
