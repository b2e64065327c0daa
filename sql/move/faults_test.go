package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/backup"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
)

// stopAt returns options that end the context of a move at the n-th report about a subject.
func stopAt(what string, cancel context.CancelFunc) Options {
	return Options{Progress: func(at string, _ int64) {
		if at == what {
			cancel()
		}
	}}
}

// TestInterrupted ends moves at each subject. A half-filled database is refused by servers, and
// the next move fills it from the start, also when the source has changed.
func TestInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openLite(t, dir)
	w := fill(t, s, 7)
	closing(t, s)
	m := databases(t)
	for _, what := range []string{departs, messages, unread, shields, readMarks,
		"compare " + users, "compare lists of conversations"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := ToMySQL(ctx, dir, m, stopAt(what, cancel))
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v, want a move that was ended", what, err)
		}
		if _, err := openStoreErr(m); err == nil || !strings.Contains(err.Error(),
			"has not finished") {
			t.Errorf("%s: a server opens the half-filled database: %v", what, err)
		}
	}
	s = openLite(t, dir)
	w.s = s
	for range 50 {
		w.step()
	}
	want := w.dump(s)
	closing(t, s)
	if _, err := ToMySQL(t.Context(), dir, m, Options{}); err != nil {
		t.Fatal(err)
	}
	big := openBig(t, m)
	equal(t, "after interruptions", w.dump(big), want)
	closing(t, big)

	back := filepath.Join(t.TempDir(), "back")
	for _, what := range []string{users, unread, "compare " + groups} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := ToEmbedded(ctx, m, back, stopAt(what, cancel))
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v, want a move that was ended", what, err)
		}
		if _, err := os.Stat(back); err == nil {
			t.Errorf("%s: the folder exists", what)
		}
	}
	if _, err := ToEmbedded(t.Context(), m, back, Options{}); err != nil {
		t.Fatal(err)
	}
	s = openLite(t, back)
	equal(t, "back after interruptions", w.dump(s), want)
	closing(t, s)
}

func openStoreErr(m MySQL) (im.Store, error) {
	b, err := connect(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := b.openStore(ctx, m, Options{}, false); err != nil {
		return nil, errors.Join(err, b.redis.Close(), b.db.Close())
	}
	return b.store, b.close()
}

// TestRefused requires that nothing is changed when the source is in use, when the target has
// data, and when two users would have one name.
func TestRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openLite(t, dir)
	ids, err := s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "ann"}},
		{User: im.User{Name: "bob"}}})
	if err != nil {
		t.Fatal(err)
	}
	m := databases(t)
	if _, err := ToMySQL(ctx, dir, m, Options{}); im.KindOf(err) != im.Unavailable {
		t.Errorf("a source in use: %v", err)
	}
	closing(t, s)
	if _, err := ToMySQL(ctx, dir+"x", m, Options{}); im.KindOf(err) != im.NotFound {
		t.Errorf("no source: %v", err)
	}
	if _, err := ToMySQL(ctx, dir, m, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := ToMySQL(ctx, dir, m, Options{}); im.KindOf(err) != im.Exists {
		t.Errorf("a database with users: %v", err)
	}
	empty := m
	empty.DSN = dbtest.MariaDB(t).NewDatabase(t)
	big := openBig(t, m)
	m1 := &im.Message{From: ids[0], To: ids[1], Type: 1, Data: []byte("x")}
	if big.AppendMessages(ctx, []*im.Message{m1}); m1.Err != nil {
		t.Fatal(m1.Err)
	}
	back := filepath.Join(t.TempDir(), "back")
	if _, err := ToEmbedded(ctx, m, back, Options{}); im.KindOf(err) != im.Denied {
		t.Errorf("a MySQL that a server uses: %v", err)
	}
	closing(t, big)
	if _, err := ToMySQL(ctx, dir, empty, Options{}); im.KindOf(err) != im.Exists ||
		!strings.Contains(err.Error(), "Redis has data") {
		t.Errorf("a Redis with data: %v", err)
	}
	if _, err := ToEmbedded(ctx, m, dir, Options{}); im.KindOf(err) != im.Exists {
		t.Errorf("a folder with a store: %v", err)
	}
	db := dbtest.MariaDB(t).Open(t, m.DSN)
	if _, err := db.Exec("INSERT INTO IMUser (name, departId, created, updated) " +
		"VALUES ('ANN', 0, 1, 1)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	_, err = ToEmbedded(ctx, m, back, Options{})
	if im.KindOf(err) != im.Invalid || !strings.Contains(err.Error(), `"ann"`) ||
		!strings.Contains(err.Error(), `"ANN"`) {
		t.Errorf("two users with one name: %v", err)
	}
	if _, err := os.Stat(back); err == nil {
		t.Error("a refused move made a folder")
	}
}

// TestNoticed changes the target before it is compared. The move fails, and names the subject.
func TestNoticed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openLite(t, dir)
	fill(t, s, 3)
	closing(t, s)
	m := databases(t)
	if err := schemaOf(t, m); err != nil {
		t.Fatal(err)
	}
	db := dbtest.MariaDB(t).Open(t, m.DSN)
	for what, change := range map[string]string{
		users:         "UPDATE IMUser SET salt='x' WHERE id=2",
		conversations: "UPDATE IMRecentSession SET status=1-status WHERE type=1 LIMIT 1",
		members:       "UPDATE IMGroupMember SET addedBy=addedBy+1 WHERE status=0 LIMIT 1",
		departures:    "UPDATE IMGroupMember SET leftAt=0 WHERE status=1 LIMIT 1",
		nextIDs:       "ALTER TABLE IMUser AUTO_INCREMENT=1000",
		clientIDs:     "DELETE FROM IMClientMsgId LIMIT 1",
	} {
		changed := false
		_, err := ToMySQL(ctx, dir, m, Options{Progress: func(at string, _ int64) {
			if at != "compare "+departs || changed {
				return
			}
			changed = true
			if _, err := db.Exec(change); err != nil {
				t.Error(err)
			}
			// The next move finds itself alone.
			db.Close()
			db = nil
		}})
		if err == nil || !strings.Contains(err.Error(), what+" differ") {
			t.Errorf("%s: %v, want an error about them", what, err)
		}
		db = dbtest.MariaDB(t).Open(t, m.DSN)
	}
}

// TestRedisLost moves a store back after Redis has lost everything. The unread counts are made
// again from the read marks first.
func TestRedisLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openLite(t, dir)
	fill(t, s, 11)
	counts := func(s im.Store) (total sum) {
		t.Helper()
		if err := readUnread(ctx, s, func(r row) error {
			total.add(r)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return total
	}
	want := counts(s)
	closing(t, s)
	redis := dbtest.Redis(t)
	m := MySQL{DSN: dbtest.MariaDB(t).NewDatabase(t),
		Redis: store.Redis{Unread: store.Instance{Addrs: []string{redis.Addr()}}}}
	if _, err := ToMySQL(ctx, dir, m, Options{}); err != nil {
		t.Fatal(err)
	}
	redis.FlushAll()
	back := filepath.Join(t.TempDir(), "back")
	if _, err := ToEmbedded(ctx, m, back, Options{}); err != nil {
		t.Fatal(err)
	}
	s = openLite(t, back)
	if got := counts(s); got != want || want.Rows == 0 {
		t.Errorf("unread counts %+v, want %+v", got, want)
	}
	closing(t, s)
}

// schemaOf makes the tables.
func schemaOf(t *testing.T, m MySQL) error {
	db := dbtest.MariaDB(t).Open(t, m.DSN)
	defer db.Close()
	return schema.Migrate(ctx, db, schema.Options{})
}

// seen writes what users see of their conversations.
func (w *world) seen(s im.Store) string {
	w.Helper()
	var out strings.Builder
	for _, u := range w.users {
		w.dumpUser(s, u, func(what string, err error, list ...any) {
			w.Helper()
			w.check(err)
			if what != "groups" { // their versions are raised
				fmt.Fprintln(&out, append([]any{what}, list...)...)
			}
		}, &out)
	}
	return out.String()
}

// TestRestored moves a store that was restored from a backup, with gaps in its ids.
func TestRestored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openLite(t, dir)
	w := fill(t, s, 5)
	seen := w.seen(s)
	target, restored := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "restored")
	if _, err := backup.Make(ctx, backup.Source{DataDir: dir},
		backup.Options{Target: target}); err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	if _, err := backup.Restore(ctx, backup.RestoreOptions{Backup: target, DataDir: restored,
		Now: func() time.Time { return time.Now().Add(time.Second) }}); err != nil {
		t.Fatal(err)
	}
	s = openLite(t, restored)
	equal(t, "a restored store", w.seen(s), seen)
	w.s = s
	for range 40 {
		w.step()
	}
	want := w.dump(s)
	closing(t, s)
	m := databases(t)
	if _, err := ToMySQL(ctx, restored, m, Options{}); err != nil {
		t.Fatal(err)
	}
	big := openBig(t, m)
	equal(t, "a restored store in MySQL", w.dump(big), want)
	if rebuilt, err := big.RebuildUnread(ctx); err != nil || rebuilt.Counts > 0 {
		t.Errorf("a rebuild raised %+v, %v, want none", rebuilt, err)
	}
	closing(t, big)
}

// TestApart: a source that keeps messages apart is refused before the target is looked at. A move
// that leaves them says so, and moves all else.
func TestApart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openLite(t, dir)
	w := fill(t, s, 5)
	raw := func(text string) {
		t.Helper()
		if err := s.Raw(ctx, func(conn *sql.Conn) error {
			_, err := conn.ExecContext(ctx, text)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"IMMessage", "IMGroupMessage"} {
		raw("create trigger reject" + table + " before insert on " + table +
			" begin select raise(abort, 'rejected by the test'); end")
	}
	for range 30 {
		w.step()
	}
	raw("insert into Arrived (id, list) select min(id) - 1, x'78' from Arrived")
	raw("drop trigger rejectIMMessage")
	raw("insert into IMMessage (id, fromId, type, created, content) " +
		"values (99 << 32 | 1, 1, 1, 1, x'')")
	n, bad, err := s.CountApart(ctx)
	if err != nil || n < 2 || bad != 1 {
		t.Fatalf("%d messages and %d rows are apart, %v", n, bad, err)
	}
	want := w.dump(s)
	closing(t, s)
	what := fmt.Sprintf("%d messages that its tables have rejected and 1 row of messages", n)
	_, err = ToMySQL(ctx, dir, MySQL{DSN: "nothing"}, Options{})
	if im.KindOf(err) != im.Invalid || !strings.Contains(err.Error(), what) {
		t.Errorf("a source with messages apart: %v", err)
	}
	m := databases(t)
	report, err := ToMySQL(ctx, dir, m, Options{LeaveApart: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Notes) != 2 || !strings.Contains(report.Notes[0], what) ||
		report.Notes[1] != "left out: 1 rows of IMMessage, of conversations without a row" ||
		!strings.HasSuffix(report.Notes[0], "stay in "+filepath.Join(dir, "teamtalk.db")) {
		t.Errorf("the notes are %q", report.Notes)
	}
	big := openBig(t, m)
	// The source has counted the messages apart. MySQL leaves counts out of a user's total when
	// the user sees no message of the conversation.
	total := regexp.MustCompile(`(?m)^unread \d+$`)
	equal(t, "without the messages apart", total.ReplaceAllString(w.dump(big), ""),
		total.ReplaceAllString(want, ""))
	closing(t, big)
}
