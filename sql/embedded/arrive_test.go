package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
)

// waitingMessages is the number of messages that wait.
func waitingMessages(s *Store) int {
	rows, _ := s.writer.waiting.Len()
	return rows
}

// held opens a store in which no round writes messages.
func held(t testing.TB, o Options) *Store {
	t.Helper()
	s := open(t, o)
	s.rounds.Store(true)
	return s
}

// ids returns the ids of messages, newest first.
func ids(t *testing.T, messages []im.Message, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range messages {
		list = append(list, fmt.Sprint(m.ID))
	}
	return strings.Join(list, " ")
}

// TestRoundsWriteAll: messages do not wait for long, however many there are.
func TestRoundsWriteAll(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Metrics: reg})
	defer s.Close()
	u := people(t, s, 20)
	for range 2 * roundOf / 512 {
		batch := make([]*im.Message, 512)
		for i := range batch {
			batch[i] = message(u[i%20], u[(i+1+i/20%18)%20], "x")
		}
		s.AppendMessages(context.Background(), batch)
		if batch[0].Err != nil {
			t.Fatal(batch[0].Err)
		}
	}
	for end := time.Now().Add(time.Minute); waitingMessages(s) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d messages wait", waitingMessages(s))
		}
	}
	var written, left int
	if err := s.readers.QueryRow("select (select count(*) from IMMessage), "+
		"(select count(*) from Arrived)").Scan(&written, &left); err != nil {
		t.Fatal(err)
	}
	if written != 2*roundOf || left != 0 {
		t.Errorf("%d messages written and %d batches left, want %d and 0", written, left, 2*roundOf)
	}
	if got := gather(t, reg)["waiting_messages"]; got != 0 {
		t.Errorf("the metric says %v messages", got)
	}
	checkWhole(t, s)
}

// TestWaitingIsBounded: while no round writes, the batches do.
func TestWaitingIsBounded(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	const size = 4096
	for range maxWaiting/size + 3 {
		batch := make([]*im.Message, size)
		for i := range batch {
			batch[i] = message(u[0], u[1], "x")
		}
		s.AppendMessages(context.Background(), batch)
		if n := waitingMessages(s); batch[0].Err != nil || n > maxWaiting+size {
			t.Fatalf("%d messages wait, %v", n, batch[0].Err)
		}
	}
}

// TestCrashBeforeWriting opens a copy of the files as they were while messages waited: no message
// is lost, and the next ones are numbered on.
func TestCrashBeforeWriting(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 3)
	g := newGroup(t, s, u...)
	named := message(u[0], u[1], "x")
	named.ClientID = []byte("name")
	add(t, s, named, message(u[1], u[0], "y"), groupMessage(u[0], g, "z"))
	settle(t, s)
	add(t, s, message(u[0], u[1], "later"), groupMessage(u[2], g, "later"))
	if n := waitingMessages(s); n != 2 {
		t.Fatalf("%d messages wait", n)
	}
	dir := copyOf(t, s)
	after := open(t, Options{Dir: dir})
	defer after.Close()
	ctx := context.Background()
	history, err := after.History(ctx, u[0], u[1], 0, 10)
	if got := ids(t, history, err); got != "3 2 1" {
		t.Errorf("messages %s, want 3 2 1", got)
	}
	group, err := after.GroupHistory(ctx, u[1], g, 0, 10)
	if got := ids(t, group, err); got != "2 1" {
		t.Errorf("messages of the group %s, want 2 1", got)
	}
	again := message(u[0], u[1], "x")
	again.ClientID = []byte("name")
	after.AppendMessages(ctx, []*im.Message{again})
	if !again.Duplicate || again.ID != 1 {
		t.Errorf("a repeat is message %d, %v", again.ID, again.Err)
	}
	if id := add(t, after, message(u[1], u[0], "new")); id != 4 {
		t.Errorf("the next message has id %d, want 4", id)
	}
	checkWhole(t, after)
}

// copyOf copies the files of an open store, while it writes nothing.
func copyOf(t *testing.T, s *Store) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	err := s.run(context.Background(), transaction{}, func(*writer) error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		for _, suffix := range []string{"", "-wal"} {
			if err := copyFile(filepath.Join(s.dir, FileName+suffix),
				filepath.Join(dir, FileName+suffix)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyFile copies a file by another process: to close a descriptor of a database here would release
// the locks of this process on it.
func copyFile(from, to string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := os.StartProcess("/bin/cat", []string{"cat", from},
		&os.ProcAttr{Files: []*os.File{nil, w, os.Stderr}})
	w.Close()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if _, err := p.Wait(); err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// TestBesideWaiting: another process sees messages that wait in the server, and what it adds comes
// after them.
func TestBesideWaiting(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	other := open(t, Options{Dir: s.dir, Admin: true})
	defer other.Close()
	ctx := context.Background()
	u := people(t, s, 2)
	g := newGroup(t, s, u...)
	add(t, s, message(u[0], u[1], "1"), groupMessage(u[0], g, "1"))
	history, err := other.History(ctx, u[0], u[1], 0, 10)
	if got := ids(t, history, err); got != "1" {
		t.Errorf("the other process sees messages %q", got)
	}
	add(t, s, message(u[0], u[1], "2"), groupMessage(u[0], g, "2"))
	if id := add(t, other, message(u[1], u[0], "3")); id != 3 {
		t.Errorf("the message of the other process has id %d, want 3", id)
	}
	if id := add(t, s, message(u[0], u[1], "4")); id != 4 {
		t.Errorf("the next message has id %d, want 4", id)
	}
	for name, store := range map[string]*Store{"server": s, "other": other} {
		history, err := store.History(ctx, u[0], u[1], 0, 10)
		if got := ids(t, history, err); got != "4 3 2 1" {
			t.Errorf("the %s sees messages %s", name, got)
		}
		group, err := store.GroupHistory(ctx, u[0], g, 0, 10)
		if got := ids(t, group, err); got != "2 1" {
			t.Errorf("the %s sees messages %s of the group", name, got)
		}
	}
	checkWhole(t, s)
}

// TestTablesReject: a message that the tables reject after it was accepted stays apart, and keeps
// no other message back.
func TestTablesReject(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Metrics: reg})
	defer s.Close()
	ctx := context.Background()
	u := people(t, s, 3)
	if err := s.transact(ctx, func(w *writer) error {
		return w.exec(`create trigger reject before insert on IMMessage
			when new.content = cast('rejected' as blob)
			begin select raise(abort, 'rejected by the test'); end`)
	}); err != nil {
		t.Fatal(err)
	}
	add(t, s, message(u[0], u[1], "a"), message(u[0], u[1], "rejected"), message(u[0], u[1], "b"),
		message(u[0], u[2], "c"))
	history, err := s.History(ctx, u[0], u[1], 0, 10)
	if got := ids(t, history, err); got != "3 1" {
		t.Errorf("messages %s, want 3 1", got)
	}
	history, err = s.History(ctx, u[0], u[2], 0, 10)
	if got := ids(t, history, err); got != "1" {
		t.Errorf("messages %s of another conversation, want 1", got)
	}
	var id int64
	var list []byte
	if err := s.readers.QueryRow("select id, list from Arrived").Scan(&id, &list); err != nil {
		t.Fatal(err)
	}
	kept, err := arrivals.Decode(list)
	if err != nil || id >= 0 || len(kept) != 1 || string(kept[0].Data) != "rejected" {
		t.Errorf("row %d keeps %v, %v", id, kept, err)
	}
	if got := gather(t, reg); got["apart_total"] != 1 || got["waiting_messages"] != 0 {
		t.Errorf("%v messages apart, %v wait", got["apart_total"], got["waiting_messages"])
	}
	if err := s.Ping(ctx); err != nil {
		t.Error(err)
	}
}
