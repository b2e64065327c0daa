package embedded

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"

	"teamtalk/core/im"
)

// change runs statements in a transaction that another process could make, and empties no cache
// of s.
func change(t *testing.T, s *Store, texts ...string) {
	t.Helper()
	other := open(t, Options{Dir: s.dir, Admin: true})
	defer other.Close()
	if err := other.run(context.Background(), transaction{}, func(w *writer) error {
		for _, text := range texts {
			if err := w.exec(text); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestOtherProcessSeenTwice: a transaction that learns of another process's messages, and is rolled
// back, does not hide them from the next one.
func TestOtherProcessSeenTwice(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	other := open(t, Options{Dir: s.dir, Admin: true})
	defer other.Close()
	u := people(t, s, 3)
	g := newGroup(t, s, u...)
	for range 2 * stepOf { // the oldest ones, which are written first
		add(t, s, message(u[0], u[2], "x"))
	}
	add(t, s, message(u[0], u[1], "1"), groupMessage(u[0], g, "1"))
	add(t, other, message(u[0], u[1], "2"), groupMessage(u[0], g, "2"))
	stop := errors.New("stop")
	err := s.run(context.Background(), transaction{}, func(*writer) error { return stop })
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	add(t, s, message(u[0], u[1], "3"), groupMessage(u[0], g, "3"))
	history, err := s.History(context.Background(), u[0], u[1], 0, 10)
	if got := ids(t, history, err); got != "3 2 1" {
		t.Errorf("messages %s, want 3 2 1", got)
	}
	history, err = s.GroupHistory(context.Background(), u[0], g, 0, 10)
	if got := ids(t, history, err); got != "3 2 1" {
		t.Errorf("messages %s of the group, want 3 2 1", got)
	}
}

// TestOpenAfterReject opens a store whose tables reject messages that a killed server has left, as
// they would in the server.
func TestOpenAfterReject(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	lost, kept := newGroup(t, s, u...), newGroup(t, s, u...)
	change(t, s, fmt.Sprintf(`create trigger reject before insert on IMGroupMessage
		when new.id >> 32 = %d begin select raise(abort, 'rejected by the test'); end`, lost))
	named := groupMessage(u[0], lost, "rejected")
	named.ClientID = []byte("name")
	add(t, s, named, groupMessage(u[0], kept, "x"))
	after := open(t, Options{Dir: copyOf(t, s)})
	defer after.Close()
	checkApart(t, after, u[0], kept)
}

// TestThreadGone: messages whose group somebody has deleted with another program stay apart, and
// keep no other message back.
func TestThreadGone(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	lost, kept := newGroup(t, s, u...), newGroup(t, s, u...)
	add(t, s, groupMessage(u[0], lost, "x"), groupMessage(u[0], kept, "x"))
	if _, err := s.writer.conn.ExecContext(context.Background(), "delete from IMGroup where id = ?",
		lost); err != nil {
		t.Fatal(err)
	}
	after := open(t, Options{Dir: copyOf(t, s)})
	defer after.Close()
	checkApart(t, after, u[0], kept)
	settle(t, s)
	checkApart(t, s, u[0], kept)
}

// checkApart requires that a message is apart, that the group kept has one, and that it takes
// another.
func checkApart(t *testing.T, s *Store, user, kept uint32) {
	t.Helper()
	var apart, left int
	if err := s.readers.QueryRow("select coalesce(sum(id < 0), 0), coalesce(sum(id > 0), 0) "+
		"from Arrived").Scan(&apart, &left); err != nil || apart != 1 || left != 0 {
		t.Errorf("%d messages are apart and %d batches wait, %v; want 1 and 0", apart, left, err)
	}
	if id := add(t, s, groupMessage(user, kept, "later")); id != 2 {
		t.Errorf("the next message has id %d, want 2", id)
	}
	history, err := s.GroupHistory(context.Background(), user, kept, 0, 10)
	if got := ids(t, history, err); got != "2 1" {
		t.Errorf("messages %s, want 2 1", got)
	}
}

// TestDamagedBatch: the error says which row is damaged, and what to do. Then the other messages
// are read.
func TestDamagedBatch(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	add(t, s, message(u[0], u[1], "1"))
	add(t, s, message(u[0], u[1], "2"))
	add(t, s, message(u[0], u[1], "3"))
	const damage = "update Arrived set list = substr(list, 1, 5) where id = 2"
	if err := s.writer.exec(damage); err != nil {
		t.Fatal(err)
	}
	dir := copyOf(t, s)
	_, err := Open(context.Background(), Options{Dir: dir})
	wantError(t, err, "row 2 of the table Arrived is damaged", "backup", setApart(2))
	if im.KindOf(err) != im.Internal {
		t.Errorf("kind %v", im.KindOf(err))
	}
	if err := s.writer.exec(setApart(2)); err != nil {
		t.Fatal(err)
	}
	after := open(t, Options{Dir: copyOf(t, s)})
	defer after.Close()
	history, err := after.History(context.Background(), u[0], u[1], 0, 10)
	if got := ids(t, history, err); got != "3 1" {
		t.Errorf("messages %s, want 3 1", got)
	}
}

// TestOpenOnFullDisk: a server that was killed while the disk was full starts again. It refuses
// messages until there is room, and then all are there.
func TestOpenOnFullDisk(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	for range 4 {
		add(t, s, message(u[0], u[1], strings.Repeat("x", 4000)))
	}
	dir := copyOf(t, s)
	sqlite.RegisterConnectionHook(func(c sqlite.ExecQuerierContext, dsn string) error {
		if !strings.Contains(dsn, dir) {
			return nil
		}
		_, err := c.ExecContext(context.Background(), "pragma max_page_count = 1", nil)
		return err // the database does not grow
	})
	_, err := Open(context.Background(), Options{Dir: dir, Admin: true})
	wantError(t, err, "disk is full")
	after := open(t, Options{Dir: dir})
	defer after.Close()
	if _, err := after.History(context.Background(), u[0], u[1], 0, 10); err != nil {
		t.Error(err)
	}
	m := message(u[0], u[1], "y")
	after.AppendMessages(context.Background(), []*im.Message{m})
	wantError(t, m.Err, "disk is full")
	if err := after.writer.exec("pragma max_page_count = 10000"); err != nil {
		t.Fatal(err)
	}
	if id := add(t, after, message(u[0], u[1], "y")); id != 5 {
		t.Errorf("id %d, want 5", id)
	}
	checkWhole(t, after)
}

// TestReadBesideLongChange: a read does not fail because another process writes for long. It lacks
// the messages that wait, and has them afterwards.
func TestReadBesideLongChange(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data"), BusyTimeout: time.Millisecond})
	defer s.Close()
	u := people(t, s, 2)
	other := open(t, Options{Dir: s.dir, Admin: true})
	defer other.Close()
	add(t, s, message(u[0], u[1], "x"))
	settle(t, s)
	ctx := context.Background()
	add(t, s, message(u[0], u[1], "y"))
	blocked := errors.New("the end of the change")
	err := other.transact(ctx, func(*writer) error {
		history, err := s.History(ctx, u[0], u[1], 0, 10)
		if got := ids(t, history, err); got != "1" {
			t.Errorf("messages %s while the other process writes, want 1", got)
		}
		return blocked
	})
	if !errors.Is(err, blocked) {
		t.Fatal(err)
	}
	history, err := s.History(ctx, u[0], u[1], 0, 10)
	if got := ids(t, history, err); got != "2 1" {
		t.Errorf("messages %s afterwards, want 2 1", got)
	}
}

// TestNoIDLeft: a conversation that has given all ids refuses messages, and others take them.
func TestNoIDLeft(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 3)
	g := newGroup(t, s, u...)
	add(t, s, message(u[0], u[1], "x"))
	settle(t, s)
	change(t, s, fmt.Sprintf("update IMRelationShip set lastMsgId = %d", uint32(math.MaxUint32)),
		fmt.Sprintf("update IMGroup set lastMsgId = %d", uint32(math.MaxUint32)))
	full, fullGroup := message(u[0], u[1], "x"), groupMessage(u[0], g, "x")
	other := message(u[0], u[2], "x")
	s.AppendMessages(context.Background(), []*im.Message{full, fullGroup, other})
	wantError(t, full.Err, "no message id is left")
	wantError(t, fullGroup.Err, "no message id is left")
	if other.Err != nil || other.ID != 1 {
		t.Errorf("id %d, %v", other.ID, other.Err)
	}
}
