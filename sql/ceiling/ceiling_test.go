package ceiling

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/store"
)

// short options make a test of a measurement that takes seconds.
var short = Options{Duration: 200 * time.Millisecond, Search: 30 * time.Millisecond,
	Conversations: 40, Size: 100}

// TestSpreadIsEven checks that the rows of a batch are divided evenly among the worker's
// conversations.
func TestSpreadIsEven(t *testing.T) {
	s := shape{workers: 3, batch: 10}
	total := map[int]int{}
	for worker := range s.workers {
		sp := newSpread(Options{Conversations: 20}, s, worker)
		for range 7 {
			n, last := 0, 0
			for _, p := range sp.parts(s.batch, nil) {
				if p.conversation <= last || p.rows < 1 || p.conversation%3 != (worker+1)%3 {
					t.Fatalf("worker %d: %+v after %d", worker, p, last)
				}
				last = p.conversation
				n += p.rows
				total[p.conversation] += p.rows
			}
			if n != s.batch {
				t.Fatalf("%d rows, want %d", n, s.batch)
			}
		}
	}
	if len(total) != 20 {
		t.Errorf("%d conversations have messages, want 20", len(total))
	}
	for c, n := range total {
		if n < 10 || n > 12 { // 70 rows for six or seven conversations
			t.Errorf("conversation %d has %d messages", c, n)
		}
	}
}

func check(t *testing.T, r Result, err error, database string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if r.Rate <= 0 || r.Rows <= 0 || r.Workers < 1 || r.Batch < 64 ||
		!strings.Contains(r.Database, database) {
		t.Errorf("%+v", r)
	}
	t.Logf("%+v", r)
}

func TestMySQLLeavesNothingBehind(t *testing.T) {
	server := dbtest.MariaDB(t)
	dsn := server.NewDatabase(t)
	redis := dbtest.Redis(t)
	redis.Do("SET msg_id_1 7")
	r, err := MySQL(t.Context(), dsn, nil, store.Instance{Addrs: []string{redis.Addr()}}, short)
	check(t, r, err, "innodb_flush_log_at_trx_commit=1")
	clean(t, server, redis)
	groups := short
	groups.Groups = true
	r, err = MySQL(t.Context(), dsn, nil, store.Instance{Addrs: []string{redis.Addr()}}, groups)
	check(t, r, err, "MariaDB")
	clean(t, server, redis)
}

// clean fails unless the databases are as before.
func clean(t *testing.T, server *dbtest.Server, redis *dbtest.RedisServer) {
	t.Helper()
	var n int
	if err := server.Admin().QueryRow(
		"SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE " +
			"'teamtalk\\_ceiling%'").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d databases are left (%v)", n, err)
	}
	if got := redis.Do("DBSIZE"); got != "1" {
		t.Errorf("Redis has %s keys, want only the one from before", got)
	}
}

func TestMySQLWithRedisCluster(t *testing.T) {
	dsn := dbtest.MariaDB(t).NewDatabase(t)
	redis := dbtest.RedisCluster(t)
	o := short
	o.Conversations = 1 // raised to the minimum
	r, err := MySQL(t.Context(), dsn, nil, store.Instance{Addrs: []string{redis.Addr()},
		Cluster: true}, o)
	check(t, r, err, "Redis")
}

// TestMySQLStoresCompleteRows compares the stored rows with those of a store.
func TestMySQLStoresCompleteRows(t *testing.T) {
	server := dbtest.MariaDB(t)
	redis := dbtest.Redis(t)
	ctx := t.Context()
	b := &mysqlBed{o: short, prefix: "p:"}
	if err := b.o.defaults(); err != nil {
		t.Fatal(err)
	}
	drop, err := b.makeDatabase(ctx, server.NewDatabase(t), nil, "teamtalk_ceiling_test", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	}()
	if err := b.connectRedis(ctx, store.Instance{Addrs: []string{redis.Addr()}}, 1); err != nil {
		t.Fatal(err)
	}
	batch, done, err := b.worker(ctx, shape{workers: 1, batch: 100}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for range 2 {
		if err := batch(ctx, 100); err != nil {
			t.Fatal(err)
		}
	}
	rows, unread := 0, 0
	for c := 1; c <= b.o.Conversations; c++ {
		var n, top, length int
		table := []string{"0", "1", "2", "3", "4", "5", "6", "7"}[c%8]
		err := b.db.QueryRow("SELECT COUNT(*), MAX(msgId), MIN(LENGTH(content)) FROM IMMessage_"+
			table+" WHERE relateId=? AND fromId=? AND toId=?", c, 2*c-1, 2*c).Scan(&n, &top,
			&length)
		if err != nil || n != 5 || top != n || length != 100 {
			t.Errorf("conversation %d: %d rows up to %d, of %d bytes, %v", c, n, top, length, err)
		}
		rows += n
		got, _ := b.redis.HGet(ctx, b.unread(c), strconv.Itoa(2*c-1)).Int()
		unread += got
	}
	all := allRows(t, b)
	if all != rows {
		t.Errorf("all tables have %d rows, the right ones %d", all, rows)
	}
	if rows != 200 || unread != 200 {
		t.Errorf("%d rows, %d unread, want 200", rows, unread)
	}
	if err := b.closeRedis(); err != nil || redis.Do("DBSIZE") != "0" {
		t.Errorf("keys are left in Redis: %v", err)
	}
}

// TestOnSchedule stores rows at a rate in both databases. No row counts as stored before it
// was due, all are stored, and Begin and End are called around them.
func TestOnSchedule(t *testing.T) {
	var events []string
	o := short
	o.Rate = 500
	o.Begin = func() { events = append(events, "begin") }
	o.End = func() { events = append(events, "end") }
	embedded, err := Embedded(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	redis := dbtest.Redis(t)
	mysql, err := MySQL(t.Context(), dbtest.MariaDB(t).NewDatabase(t), nil,
		store.Instance{Addrs: []string{redis.Addr()}}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Result{embedded, mysql} {
		if r.Rows != 100 || r.Rate <= 0 || r.Rate > o.Rate*1.1 || r.P50 <= 0 || r.P99 < r.P50 {
			t.Errorf("%+v", r)
		}
	}
	if want := "[begin end begin end]"; fmt.Sprint(events) != want {
		t.Errorf("events %v, want %s", events, want)
	}
	o.Rate = -1
	if _, err := Embedded(t.Context(), t.TempDir(), o); im.KindOf(err) != im.Invalid {
		t.Errorf("a negative rate: %v", err)
	}
}

// TestRowsThatAreDue has batches that take longer than the rows are apart: the rows that
// become due meanwhile are the next batch, up to its limit, and their wait counts from when
// they were due.
func TestRowsThatAreDue(t *testing.T) {
	const every = 10 * time.Millisecond
	var batches []int
	slow := func(_ context.Context, rows int) error {
		batches = append(batches, rows)
		return nil
	}
	waits, err := storeDue(t.Context(), slow, time.Now().Add(-9*every-every/2), every, 4, 10)
	if err != nil || len(waits) != 10 || fmt.Sprint(batches) != "[4 4 2]" {
		t.Fatalf("batches %v, %d waits, %v", batches, len(waits), err)
	}
	for i, w := range waits[:9] {
		if w < every*time.Duration(9-i) {
			t.Errorf("row %d waited %v, but was due %v before", i, w, every*time.Duration(9-i))
		}
	}
	fails := func(context.Context, int) error { return im.Errorf(im.Unavailable, "gone") }
	if _, err := storeDue(t.Context(), fails, time.Now(), every, 4, 10); err == nil {
		t.Error("the error of a batch was lost")
	}
}

// allRows returns the number of messages in all tables.
func allRows(t *testing.T, b *mysqlBed) int {
	t.Helper()
	all := 0
	for n := range 8 {
		var k int
		if err := b.db.QueryRow(fmt.Sprintf("SELECT COUNT(*) FROM IMMessage_%d", n)).Scan(
			&k); err != nil {
			t.Error(err)
		}
		all += k
	}
	return all
}

// TestMySQLErrorsLeaveNothingBehind interrupts a measurement, and measures without Redis.
func TestMySQLErrorsLeaveNothingBehind(t *testing.T) {
	server := dbtest.MariaDB(t)
	dsn := server.NewDatabase(t)
	redis := dbtest.Redis(t)
	redis.Do("SET msg_id_1 7")
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	long := short
	long.Duration = time.Hour
	if r, err := MySQL(ctx, dsn, nil, store.Instance{Addrs: []string{redis.Addr()}},
		long); err == nil {
		t.Errorf("an interrupted measurement returned %+v", r)
	}
	clean(t, server, redis)
	_, err := MySQL(t.Context(), dsn, nil, store.Instance{Addrs: []string{"127.0.0.1:1"}}, short)
	if im.KindOf(err) != im.Unavailable {
		t.Errorf("without Redis: %v", err)
	}
	clean(t, server, redis)
	if _, err := MySQL(t.Context(), "what", nil, store.Instance{},
		short); im.KindOf(err) != im.Invalid {
		t.Errorf("a wrong DSN: %v", err)
	}
	if _, err := MySQL(t.Context(), dsn, nil, store.Instance{},
		Options{Size: 5000}); im.KindOf(err) != im.Invalid {
		t.Errorf("texts that are too long: %v", err)
	}
}

func TestEmbeddedLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	r, err := Embedded(t.Context(), dir, short)
	check(t, r, err, "SQLite 3")
	groups := short
	groups.Groups = true
	r, err = Embedded(t.Context(), dir, groups)
	check(t, r, err, "SQLite 3")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	long := short
	long.Duration = time.Hour
	if r, err := Embedded(ctx, dir, long); err == nil {
		t.Errorf("an interrupted measurement returned %+v", r)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	if _, err := Embedded(t.Context(), dir+"/missing", short); err == nil {
		t.Error("Embedded made a folder that does not exist")
	}
}
