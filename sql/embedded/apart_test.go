package embedded

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// rejecting lets the tables of users' messages reject those with the text "bad", until allow is
// called.
func rejecting(t *testing.T, s *Store) (allow func()) {
	t.Helper()
	change(t, s, `create trigger reject before insert on IMMessage when new.content = x'626164'
		begin select raise(abort, 'rejected by the test'); end`)
	return func() { change(t, s, "drop trigger reject") }
}

// lookApart returns the rows that are kept apart as texts, the newest row first.
func lookApart(t *testing.T, s *Store) (list []string) {
	t.Helper()
	all, err := s.LookApart(context.Background(), []int64{-4, -3, -2, -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		text := fmt.Sprintf("%d: ", a.Row)
		if m := a.Message; m != nil {
			text += fmt.Sprintf("%d.%d %d to %d: ", m.Chat, m.ID, m.From, m.To)
		}
		list = append(list, text+fmt.Sprint(a.Reason))
	}
	return list
}

// wantTexts compares texts.
func wantTexts(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %q, want %q", when, got, want)
	}
}

// TestPutBack puts messages back once the tables accept them: under their ids, counted once, and
// with their sounds. A look says why the others stay, and changes nothing.
func TestPutBack(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	ctx := context.Background()
	u := people(t, s, 2)
	g := newGroup(t, s, u...)
	allow := rejecting(t, s)
	add(t, s, message(u[0], u[1], "1"))
	named := message(u[0], u[1], "bad")
	named.ClientID = []byte("name")
	add(t, s, named)
	add(t, s, groupMessage(u[0], g, "in the group"))
	settle(t, s)
	change(t, s, "create trigger silent before insert on IMAudio "+
		"begin select raise(abort, 'no sounds'); end")
	sound := message(u[0], u[1], "")
	sound.Type, sound.Audio = pb.MsgType_MSG_TYPE_SINGLE_AUDIO, &im.Audio{Path: "p", Size: 3}
	add(t, s, sound)
	add(t, s, message(u[0], u[1], "4"))
	settle(t, s)
	other := open(t, Options{Dir: s.dir, Admin: true})
	defer other.Close()
	rejected := "constraint failed: rejected by the test (1811)"
	look := []string{"-2: 1.3 1 to 2: constraint failed: no sounds (1811)",
		"-1: 1.2 1 to 2: " + rejected}
	wantTexts(t, "rejected", lookApart(t, other), look...)
	if n, bad, err := other.CountApart(ctx); n != 2 || bad != 0 || err != nil {
		t.Errorf("%d messages and %d rows, %v", n, bad, err)
	}
	if err := other.PutBack(ctx, -1); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, "still rejected", lookApart(t, other), look...)

	allow()
	change(t, s, "drop trigger silent")
	look = []string{"-2: 1.3 1 to 2: <nil>", "-1: 1.2 1 to 2: <nil>"}
	wantTexts(t, "accepted", lookApart(t, other), look...)
	wantTexts(t, "after a look", lookApart(t, other), look...)
	for _, row := range []int64{-1, -2, -2, -7} {
		if err := other.PutBack(ctx, row); err != nil {
			t.Fatal(err)
		}
	}
	wantTexts(t, "put back", lookApart(t, other))
	history, err := s.History(ctx, u[1], u[0], 0, 10)
	if got := ids(t, history, err); got != "4 3 2 1" {
		t.Fatalf("messages %s, want 4 3 2 1", got)
	}
	if a := history[1].Audio; a == nil || a.Path != "p" {
		t.Errorf("the sound is %+v", a)
	}
	if string(history[2].Data) != "bad" {
		t.Errorf("message 2 is %q", history[2].Data)
	}
	checkUnread(t, s, u[1], u[0], 4)
	if id := add(t, s, message(u[0], u[1], "5")); id != 5 {
		t.Errorf("the next message has id %d, want 5", id)
	}
}

// checkUnread requires an unread count.
func checkUnread(t *testing.T, s *Store, user, from uint32, want uint32) {
	t.Helper()
	list, _, err := s.UnreadCounts(context.Background(), user, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range list {
		if u.Peer == from && u.Count == want {
			return
		}
	}
	t.Errorf("user %d has %+v unread, want %d from %d", user, list, want, from)
}

// TestPutBackLater: a client_msg_id that a later message has stays with that message.
func TestPutBackLater(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	allow := rejecting(t, s)
	first, again := message(u[0], u[1], "bad"), message(u[0], u[1], "good")
	first.ClientID, again.ClientID = []byte("name"), []byte("name")
	add(t, s, first)
	settle(t, s)
	if id := add(t, s, again); id != 2 || again.Duplicate {
		t.Fatalf("id %d, %v", id, again.Duplicate)
	}
	allow()
	if err := s.PutBack(context.Background(), -1); err != nil {
		t.Fatal(err)
	}
	repeat := message(u[0], u[1], "good")
	repeat.ClientID = []byte("name")
	s.AppendMessages(context.Background(), []*im.Message{repeat})
	if repeat.Err != nil || repeat.ID != 2 || !repeat.Duplicate {
		t.Errorf("id %d, duplicate %v, %v; want 2, true", repeat.ID, repeat.Duplicate, repeat.Err)
	}
}

// TestStaysApart: messages stay whose group does not exist, whose id another message has, and whose
// row cannot be read. Those beside them in the row are written.
func TestStaysApart(t *testing.T) {
	s := held(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	ctx := context.Background()
	u := people(t, s, 3)
	g := newGroup(t, s, u...)
	settle(t, s)
	batch := []*im.Message{message(u[0], u[1], "1"), message(u[0], u[2], "1"),
		groupMessage(u[0], g, "1"), message(u[0], u[2], "2")}
	s.AppendMessages(ctx, batch)
	add(t, s, message(u[0], u[1], "unreadable"))
	if err := s.writer.exec(setApart(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.writer.exec(setApart(2)); err != nil {
		t.Fatal(err)
	}
	after := open(t, Options{Dir: copyOf(t, s)})
	defer after.Close()
	if id := add(t, after, message(u[0], u[1], "other")); id != 1 {
		t.Fatalf("id %d, want 1", id)
	}
	settle(t, after)
	change(t, after, "delete from IMGroup", "update Arrived set list = x'0105' where id = -2")
	if err := after.PutBack(ctx, -1); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, "what stays", lookApart(t, after),
		"-2: a batch of messages in the table Arrived is damaged",
		"-1: 1.1 1 to 2: another message has its id",
		"-1: -1.1 1 to 1: its group or conversation does not exist")
	if n, bad, err := after.CountApart(ctx); n != 2 || bad != 1 || err != nil {
		t.Errorf("%d messages and %d rows, %v", n, bad, err)
	}
	// No message of this conversation was counted before.
	history, err := after.History(ctx, u[2], u[0], 0, 10)
	if got := ids(t, history, err); got != "2 1" {
		t.Errorf("messages %s, want 2 1", got)
	}
	checkUnread(t, after, u[2], u[0], 2)
	if id := add(t, after, message(u[0], u[2], "3")); id != 3 {
		t.Errorf("id %d, want 3", id)
	}
}
