package store

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/database"
	"teamtalk/sql/storetest"
)

// TestMain lets more tests run at a time than there are processors: they wait for servers
// most of the time. Tests that change or read global variables of MariaDB are not parallel,
// so they run before.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// env holds the databases of a test and the options of the stores opened on them.
type env struct {
	dsn   string
	db    *sql.DB // for queries of the test
	redis *dbtest.RedisServer
	clock *clock
	o     Options // options of the stores

	tables  []string     // of empty
	refused bool         // whether refuse has made triggers
	pair    *dbtest.Pair // of a store with a replica
}

// clock is a clock that a test sets ahead.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// freeze stops the master's clock for stores that are opened later. The test sets its unix
// second.
func (e *env) freeze() *atomic.Int64 {
	var second atomic.Int64
	second.Store(time.Now().Unix())
	e.o.hooks.Clock = func() time.Time { return time.Unix(second.Load(), 0) }
	return &second
}

// newEnv makes a migrated, finalized database and an empty Redis.
func newEnv(t testing.TB) *env {
	t.Helper()
	return envOn(t, migrated.NewDatabase(t))
}

// migrated is a migrated, finalized database.
var migrated = dbtest.NewTemplate(func(t testing.TB, dsn string) {
	t.Helper()
	db := dbtest.MariaDB(t).Open(t, dsn)
	if err := schema.Migrate(t.Context(), db, schema.Options{}); err != nil {
		t.Fatalf("migrate: %v", err)
	}
})

// bareEnv makes an empty database and an empty Redis.
func bareEnv(t testing.TB) *env {
	t.Helper()
	return envOn(t, dbtest.MariaDB(t).NewDatabase(t))
}

// envOn makes an empty Redis beside a database.
func envOn(t testing.TB, dsn string) *env {
	t.Helper()
	e := &env{dsn: dsn, redis: dbtest.Redis(t), clock: &clock{}}
	e.db = dbtest.MariaDB(t).Open(t, e.dsn)
	e.o = Options{Master: e.dsn, Redis: Redis{Unread: Instance{Addrs: []string{e.redis.Addr()}}},
		Workers: 4, Now: e.clock.now, ReplicaWait: config.Default().MySQL.ReplicaWait,
		hooks:     database.Hooks{Clock: e.clock.now},
		NoRebuild: true} // the tests that lose counts expect the loss
	return e
}

// open opens a store that the caller closes.
func (e *env) open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(context.Background(), e.o)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	return s
}

// store opens a store that is closed with the test.
func (e *env) store(t testing.TB) *Store {
	t.Helper()
	s := e.open(t)
	t.Cleanup(func() { s.Close() })
	return s
}

// suite returns the factory for the contract's tests. make makes the databases, and
// change may alter the options of the stores. Creating tables takes most of the time of a
// test, so the next test reuses the databases after they are emptied. They live as long
// as parent.
func suite(parent *testing.T, make func(*testing.T) *env,
	change func(*testing.T, *env)) storetest.Factory {
	ticking := &clock{}
	base := 0 // higher than the ids of any test so far
	envs := map[im.Store]*env{}
	var free []*env
	take := func(t *testing.T) *env {
		var e *env
		if n := len(free); n > 0 {
			e, free = free[n-1], free[:n-1]
		} else {
			e = tickingEnv(parent, make, change, ticking)
		}
		t.Cleanup(func() {
			if !t.Failed() {
				e.empty(t)
				free = append(free, e)
			}
		})
		return e
	}
	reopen := func(t *testing.T, s im.Store) im.Store {
		e := envs[s]
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
		n := e.open(t)
		envs[n] = e
		return n
	}
	return storetest.Factory{
		Open: func(t *testing.T) im.Store {
			e := take(t)
			s := e.open(t)
			envs[s] = e
			return s
		},
		Reopen:  reopen,
		Now:     ticking.now,
		Advance: func(_ *testing.T, _ im.Store, d time.Duration) { ticking.ahead.Add(int64(d)) },
		Second: func(t *testing.T, s im.Store) im.Store {
			n := envs[s].open(t)
			envs[n] = envs[s]
			return n
		},
		AddFiles: func(t *testing.T, s im.Store, l []im.OfflineFile) { envs[s].addFiles(t, l) },
		SameIDs: func(t *testing.T, s im.Store) {
			base++
			continueIDs(t, envs[s], base*100_000)
		},
		FailOn:       func(t *testing.T, s im.Store, content string) { envs[s].refuse(t, content) },
		LoseCounters: func(t *testing.T, s im.Store) { loseCounters(t, envs[s], s.(*Store)) },
		CrashBeforeCount: func(t *testing.T, s im.Store, batch []*im.Message) im.Store {
			s.(*Store).db.Hooks.AfterCommit = func() error { return errCrash }
			s.AppendMessages(t.Context(), batch)
			return reopen(t, s)
		},
	}
}

// loseCounters empties Redis, and lets the store notice that. By itself it would within a second,
// and messages of a group that a user reads until then may be counted as unread again.
func loseCounters(t *testing.T, e *env, s *Store) {
	e.redis.FlushAll()
	if err := s.outbox.Watch(t.Context()); err != nil {
		t.Error(err)
	}
}

// tickingEnv returns a new environment of a suite, with the clock of the suite.
func tickingEnv(parent *testing.T, make func(*testing.T) *env, change func(*testing.T, *env),
	ticking *clock) *env {
	e := make(parent)
	e.clock, e.o.Now, e.o.hooks.Clock = ticking, ticking.now, ticking.now
	if change != nil {
		change(parent, e)
	}
	return e
}

// continueIDs makes the ids of users and groups continue at the same number, which is at
// least from.
func continueIDs(t *testing.T, e *env, from int) {
	t.Helper()
	var next int
	if err := e.db.QueryRow("SELECT 1+GREATEST(" +
		"(SELECT COALESCE(MAX(id), 0) FROM IMUser), " +
		"(SELECT COALESCE(MAX(id), 0) FROM IMGroup))").Scan(&next); err != nil {
		t.Fatal(err)
	}
	next = max(next, from)
	e.exec(t, fmt.Sprintf("ALTER TABLE IMUser AUTO_INCREMENT=%d", next))
	e.exec(t, fmt.Sprintf("ALTER TABLE IMGroup AUTO_INCREMENT=%d", next))
}

// empty deletes all rows, and the triggers of refuse. Most tables have none: one query finds
// those that have rows. A query for triggers reads the definitions of all tables.
func (e *env) empty(t *testing.T) {
	t.Helper()
	if e.refused {
		for _, trigger := range e.names(t, "SELECT TRIGGER_NAME FROM "+
			"information_schema.TRIGGERS WHERE TRIGGER_SCHEMA=DATABASE()") {
			e.exec(t, "DROP TRIGGER "+trigger)
		}
		e.refused = false
	}
	if e.tables == nil {
		e.tables = e.names(t, "SELECT TABLE_NAME FROM information_schema.TABLES "+
			"WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME LIKE 'IM%'")
	}
	filled := make([]string, len(e.tables))
	for i, table := range e.tables {
		filled[i] = fmt.Sprintf("SELECT '%s' FROM DUAL WHERE EXISTS (SELECT 1 FROM %[1]s)", table)
	}
	for _, table := range e.names(t, strings.Join(filled, " UNION ALL ")) {
		e.exec(t, "DELETE FROM "+table)
	}
	e.redis.FlushAll()
}

// addFiles inserts the rows that AddOfflineFile inserts.
func (e *env) addFiles(t *testing.T, files []im.OfflineFile) {
	t.Helper()
	now := e.clock.now().Unix()
	rows := make([]string, len(files))
	for i, f := range files {
		rows[i] = fmt.Sprintf("(%d,%d,'%s',%d,'%s',0,%d,%d)", f.From, f.To, f.Name, f.Size, f.Task,
			now, now)
	}
	e.exec(t, "INSERT INTO IMTransmitFile "+
		"(fromId,toId,fileName,size,taskId,status,created,updated) VALUES "+
		strings.Join(rows, ","))
	if e.pair != nil { // a read waits for the writes of the store alone
		e.pair.Sync(t)
	}
}

// exec runs a statement of the test.
func (e *env) exec(t testing.TB, stmt string) {
	t.Helper()
	if _, err := e.db.Exec(stmt); err != nil {
		t.Fatalf("%s: %v", stmt, err)
	}
}

// names returns the only column of a query.
func (e *env) names(t testing.TB, query string) []string {
	t.Helper()
	rows, err := e.db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

var errCrash = fmt.Errorf("the process died here")

// refuse makes every table of messages reject a content.
func (e *env) refuse(t *testing.T, content string) {
	t.Helper()
	e.refused = true
	for n := range schema.Tables {
		for _, table := range []string{"IMMessage", "IMGroupMessage"} {
			e.exec(t, fmt.Sprintf("CREATE TRIGGER refuse_%s_%d_%d BEFORE INSERT ON %[1]s_%[2]d "+
				"FOR EACH ROW "+
				"IF NEW.content='%[4]s' THEN SIGNAL SQLSTATE '45000' "+
				"SET MESSAGE_TEXT='refused'; END IF", table, n, time.Now().UnixNano(), content))
		}
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	f := suite(t, newEnvT, nil)
	if os.Getenv("TEAMTALK_TEST_LONG") != "" {
		f.AddFiles = nil // by AddOfflineFile
	}
	storetest.Run(t, f)
}

// unfinalized makes a database as C++ servers leave it, migrated but not finalized.
func unfinalized(t *testing.T) *env {
	t.Helper()
	e := bareEnv(t)
	e.cppTables(t)
	if err := schema.Migrate(t.Context(), e.db, schema.Options{}); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return e
}

// cppTables creates the tables of a C++ deployment.
func (e *env) cppTables(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../schema/testdata/cpp.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, stmt := range strings.Split(string(text), ";") {
		if strings.TrimSpace(stmt) == "" {
			continue
		}
		if _, err := e.db.Exec(stmt); err != nil {
			t.Fatal(err)
		}
	}
}

// parts are those parts of the contract that look at what is different in a shape. make
// nightly runs all of them on each shape: a part takes as much time as on the first.
func parts(names ...string) []string {
	if os.Getenv("TEAMTALK_TEST_LONG") != "" {
		return nil
	}
	return names
}

// TestContractUnfinalized runs the contract without unique keys, as beside C++ servers.
func TestContractUnfinalized(t *testing.T) {
	t.Parallel()
	f := suite(t, unfinalized, nil)
	f.Parts = parts("users", "messages", "sessions", "concurrent", "groups", "members",
		"group messages", "group sessions", "files")
	f.Brief = f.Parts != nil
	storetest.Run(t, f)
}

// TestContractCluster runs the contract with a Redis Cluster, and with one connection to MySQL:
// no method may take a second one while it holds one, since it would wait for itself.
// TestContract has several connections.
func TestContractCluster(t *testing.T) {
	t.Parallel()
	f := suite(t, newEnvT, func(t *testing.T, e *env) {
		e.o.Workers = 1
		e.onCluster(t)
	})
	f.Brief = true
	f.Parts = parts("messages", "unread", "concurrent", "faults", "members", "group messages",
		"group unread", "push", "logins", "budgets")
	storetest.Run(t, f)
}

// TestContractSlave runs the contract with a replica for reads, which gets the writes after
// they are acked.
func TestContractSlave(t *testing.T) {
	t.Parallel()
	f := suite(t, func(t *testing.T) *env {
		e, pair := pairEnv(t)
		e.pair = pair
		return e
	}, nil)
	f.Brief = true
	f.Parts = parts("users", "departments", "history", "unread", "sessions", "groups", "members",
		"group history", "group sessions", "files")
	storetest.Run(t, f)
}

func newEnvT(t *testing.T) *env { return newEnv(t) }
