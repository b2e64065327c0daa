package embedded

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded/folderlock"
)

// message returns a text message.
func message(from, to uint32, body string) *im.Message {
	return &im.Message{From: from, To: to, Created: 1_700_000_000,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(body)}
}

// wantError fails the test unless err contains all the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

func TestOneServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	_, err := Open(context.Background(), Options{Dir: dir})
	wantError(t, err, dir, fmt.Sprintf("(process %d)", os.Getpid()), "in use", "data_dir")
	if im.KindOf(err) != im.Unavailable {
		t.Errorf("kind %v", im.KindOf(err))
	}
	people(t, s, 1) // the attempt must do no harm
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAdmin adds users beside a running server, and before any server has run.
func TestAdmin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	admin := open(t, Options{Dir: dir, Admin: true})
	first := people(t, admin, 1)
	server := open(t, Options{Dir: dir})
	defer server.Close()
	m := message(7, first[0], "x")
	server.AppendMessages(context.Background(), []*im.Message{m})
	if m.Err != nil {
		t.Fatal(m.Err)
	}
	if err := admin.SetUserStatus(context.Background(), first[0], im.StatusDeparted); err != nil {
		t.Fatal(err)
	}
	server.AppendMessages(context.Background(), []*im.Message{m})
	if im.KindOf(m.Err) != im.Invalid {
		t.Errorf("message to a user that departed by another process: %v", m.Err)
	}
	if err := admin.Close(); err != nil {
		t.Fatal(err)
	}
	if id, err := server.LatestID(context.Background(), 7, first[0]); err != nil || id != 1 {
		t.Errorf("after the other process has closed: %d, %v", id, err)
	}
}

// TestAdminOfAnotherVersion requires that Admin keeps the schema while a server runs.
func TestAdminOfAnotherVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	defer s.Close()
	if err := s.writer.exec("pragma user_version = 0"); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), Options{Dir: dir, Admin: true,
		BusyTimeout: 50 * time.Millisecond})
	wantError(t, err, "has version 0", "in use", "process", "use the program of its version")
}

// TestClosed requires that after Close the database is one file, and that this file is
// closed.
func TestClosed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	u := people(t, s, 2)
	s.AppendMessages(context.Background(), []*im.Message{message(u[0], u[1], "x")})
	if _, err := s.History(context.Background(), u[0], u[1], 0, 10); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); name != FileName && name != folderlock.FileName {
			t.Errorf("%s is left", name)
		}
	}
	if err := s.Ping(context.Background()); im.KindOf(err) != im.Closed {
		t.Errorf("Ping after Close: %v", err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	defer s.Close()
	people(t, s, 1)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4 {
		t.Errorf("%d files, want database, -wal, -shm and lock", len(entries))
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: mode %v, %v", info.Mode(), err)
	}
}

// TestSettings checks the connections against DESIGN.md.
func TestSettings(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "a b%20c?#d")}) // a path is not a URI
	defer s.Close()
	if _, err := os.Stat(filepath.Join(s.dir, FileName)); err != nil {
		t.Error(err)
	}
	steps, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2",
		"busy_timeout": "5000",
		"user_version": strconv.Itoa(len(steps))} {
		var got string
		if err := s.writer.conn.QueryRowContext(context.Background(),
			"pragma "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s of the writer is %s, %v; want %s", pragma, got, err, want)
		}
	}
	if _, err := s.readers.Exec("delete from IMUser"); err == nil {
		t.Error("a reader can write")
	}
}

func TestCannotOpen(t *testing.T) {
	ctx := context.Background()
	t.Run("no directory given", func(t *testing.T) {
		_, err := Open(ctx, Options{})
		wantError(t, err, "no directory")
	})
	t.Run("no parent", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "missing", "data")
		_, err := Open(ctx, Options{Dir: dir})
		wantError(t, err, dir, "no such file")
	})
	t.Run("a file where the directory should be", func(t *testing.T) {
		dir := filepath.Join(fileDir(t, nil), FileName)
		_, err := Open(ctx, Options{Dir: dir})
		wantError(t, err, dir, "not a directory")
	})
	t.Run("not a database", func(t *testing.T) {
		dir := fileDir(t, bytes.Repeat([]byte("no database "), 1000))
		_, err := Open(ctx, Options{Dir: dir})
		wantError(t, err, dir, "not a database")
	})
	t.Run("after each of these the lock is free", func(t *testing.T) {
		dir := fileDir(t, []byte("no database, and not even the length of a header"))
		_, err := Open(ctx, Options{Dir: dir})
		wantError(t, err, "not a database")
		if err := os.Remove(filepath.Join(dir, FileName)); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{Dir: dir})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCannotOpenDatabaseOfAnotherProgram also covers a newer version of this program.
func TestCannotOpenDatabaseOfAnotherProgram(t *testing.T) {
	ctx := context.Background()
	t.Run("another program's", func(t *testing.T) {
		dir := t.TempDir()
		db, err := sql.Open("sqlite", filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("create table theirs (x)"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = Open(ctx, Options{Dir: dir})
		wantError(t, err, dir, "another program")
	})
	t.Run("of a newer version", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		s := open(t, Options{Dir: dir})
		if err := s.writer.exec("pragma user_version = 99"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := Open(ctx, Options{Dir: dir})
		wantError(t, err, dir, "version 99", "newer program")
	})
}

// fileDir returns a directory in which the database file has a content.
func fileDir(t *testing.T, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestDamaged overwrites the pages after the header and the schema. Reading must fail
// with an error that names the damage, and not return an empty history.
func TestDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	u := people(t, s, 2)
	var schema int // in pages
	if err := s.writer.conn.QueryRowContext(context.Background(),
		"pragma page_count").Scan(&schema); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		s.AppendMessages(context.Background(), []*im.Message{
			message(u[0], u[1], strings.Repeat("x", 1000))})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := schema * 4096; i < len(b); i++ {
		b[i] = 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	defer s.Close()
	m := message(u[0], u[1], "x")
	s.AppendMessages(context.Background(), []*im.Message{m}) // to Arrived, which is whole
	_, err = s.History(context.Background(), u[0], u[1], 0, 100)
	wantError(t, err, "damaged")
	s.AppendMessages(context.Background(), []*im.Message{m})
	wantError(t, m.Err, "damaged")
	wantError(t, s.Ping(context.Background()), "damaged")
}

// TestFull fills the database up to its limit. A message that does not fit fails with
// kind Unavailable and leaves no trace. Reading continues, and writing does once the
// limit is raised.
func TestFull(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	if err := s.writer.exec("pragma max_page_count = 40"); err != nil {
		t.Fatal(err)
	}
	stored := uint32(0)
	var last error
	for last == nil && stored < 1000 {
		batch := make([]*im.Message, 8)
		for i := range batch {
			batch[i] = message(u[0], u[1], strings.Repeat("x", 1000))
		}
		s.AppendMessages(context.Background(), batch)
		last = batch[0].Err
		for _, m := range batch {
			if (m.Err == nil) != (last == nil) {
				t.Fatalf("part of a batch failed: %v, %v", last, m.Err)
			}
			if m.Err == nil {
				stored++
			}
		}
	}
	wantError(t, last, "disk is full")
	if im.KindOf(last) != im.Unavailable {
		t.Errorf("kind %v", im.KindOf(last))
	}
	for range 2 {
		wantError(t, s.Ping(context.Background()), "disk is full")
	}
	checkWhole(t, s)
	if err := s.writer.exec("pragma max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Ping(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	m := message(u[1], u[0], "room again")
	s.AppendMessages(context.Background(), []*im.Message{m})
	if m.Err != nil || m.ID != stored+1 {
		t.Errorf("id %d, %v; want %d", m.ID, m.Err, stored+1)
	}
	checkWhole(t, s)
}

// TestClearTogether clears many counts at once, while messages are stored.
func TestClearTogether(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Workers: 2})
	defer s.Close()
	u := people(t, s, 33)
	ctx := context.Background()
	for round := range 5 {
		var batch []*im.Message
		for _, from := range u[1:] {
			batch = append(batch, message(from, u[0], "x"))
		}
		s.AppendMessages(ctx, batch)
		var wg sync.WaitGroup
		for _, from := range u[1:17] {
			wg.Go(func() {
				if err := s.ClearUnread(ctx, u[0], from); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() { s.AppendMessages(ctx, []*im.Message{message(u[0], u[1], "answer")}) })
		wg.Wait()
		counts, _, err := s.UnreadCounts(ctx, u[0], 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(counts) != 16 {
			t.Errorf("round %d: unread from %d, want 16", round, len(counts))
		}
		for _, c := range counts {
			if c.Count != uint32(round+1) {
				t.Errorf("round %d: peer %d: %d unread", round, c.Peer, c.Count)
			}
		}
	}
}

// gather returns the metrics of a store by name, without the prefix and with the values
// of their labels: the value of a counter, the count of a histogram.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "teamtalk_store_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return got
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	o := Options{Dir: filepath.Join(t.TempDir(), "data"), Metrics: reg}
	s := open(t, o)
	u := people(t, s, 2)
	refuse(t, s, "refused")
	named := message(u[0], u[1], "x")
	named.ClientID = []byte("k")
	again := *named
	s.AppendMessages(context.Background(), []*im.Message{named, &again,
		message(u[0], u[1], "refused"), message(u[0], 99, "x")})
	if _, err := s.AccountByName(context.Background(), "nobody"); err == nil {
		t.Fatal("found nobody")
	}
	want := map[string]float64{"rows_total": 1, "batches_total": 1, "duplicates_total": 1,
		"failed_total internal": 1,
		"failed_total invalid":  1, "bisects_total": 1, "batch_size": 1, "batch_seconds": 1}
	got := gather(t, reg)
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s is %v, want %v", name, got[name], n)
		}
	}
	if got["errors_total internal"] != 0 {
		t.Errorf("errors of the database: %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o) // the names must be unregistered
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNameKey tries which names are the same.
func TestNameKey(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		// the Kelvin sign
		{"Alice", "aLICE", true}, {"ЖЕНЯ", "женя", true}, {"σίσυφος", "ΣΊΣΥΦΟΣ", true}, {"k",
			"\u212a", true},
		{"bob ", "bob", true}, {" bob", "bob", false}, {"a", "b", false}, {"张三", "张三", true}, {"e",
			"é", false},
	} {
		if got := NameKey(c.a) == NameKey(c.b); got != c.same {
			t.Errorf("%q and %q: same %v, want %v", c.a, c.b, got, c.same)
		}
	}
}
