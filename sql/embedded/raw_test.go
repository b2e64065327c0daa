package embedded

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestRaw requires that the store sees changes by Raw at once, whatever its caches held,
// and that a failed Raw changes nothing.
func TestRaw(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{Dir: t.TempDir()})
	users := people(t, s, 2)
	send := func() *im.Message {
		m := &im.Message{From: users[0], To: users[1], Created: 1,
			Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("x")}
		s.AppendMessages(ctx, []*im.Message{m})
		if m.Err != nil {
			t.Fatal(m.Err)
		}
		return m
	}
	send()
	set := func(n int, fail error) error {
		return s.Raw(ctx, func(conn *sql.Conn) error {
			const update = "update IMRelationShip set lastMsgId = ?"
			if _, err := conn.ExecContext(ctx, update, n); err != nil {
				return err
			}
			return fail
		})
	}
	if err := set(100, nil); err != nil {
		t.Fatal(err)
	}
	if m := send(); m.ID != 101 {
		t.Errorf("the next message is %d, want 101", m.ID)
	}
	boom := errors.New("boom")
	if err := set(500, boom); !errors.Is(err, boom) {
		t.Errorf("%v", err)
	}
	if m := send(); m.ID != 102 {
		t.Errorf("after what failed the next message is %d, want 102", m.ID)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := set(1, nil); im.KindOf(err) != im.Closed {
		t.Errorf("after Close: %v", err)
	}
}
