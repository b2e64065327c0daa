package benchcmd

import (
	"path/filepath"
	"testing"

	"teamtalk/bench/faults"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
)

// TestTablesHaveAcceptedMessages checks that a message is read as soon as it is accepted, although
// the store writes it into the tables later.
func TestTablesHaveAcceptedMessages(t *testing.T) {
	dir := t.TempDir()
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	users, err := s.CreateUsers(t.Context(), []im.Account{
		{User: im.User{Name: "a"}}, {User: im.User{Name: "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	tables, err := openEmbedded(t.Context(), filepath.Join(dir, embeddedFile))
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	conversation := faults.Conv{A: users[0], B: users[1]}
	for n := 1; n <= 3; n++ {
		m := &im.Message{From: users[0], To: users[1], Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
			Created: 1_700_000_000, Data: []byte("text")}
		if s.AppendMessages(t.Context(), []*im.Message{m}); m.Err != nil {
			t.Fatal(m.Err)
		}
		all, err := tables.Messages(t.Context())
		if err != nil || len(all[conversation]) != n {
			t.Fatalf("after %d messages: %v, %v", n, all, err)
		}
	}
}
