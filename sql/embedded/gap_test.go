package embedded

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestIDGap requires that a conversation whose last id no message has, as after a restore, keeps
// its place in the lists, its last message and its counts, and continues after that id.
func TestIDGap(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	a, b, group := pairAndGroup(t, s)
	say := func() (single, inGroup uint32) {
		batch := []*im.Message{
			{From: a, To: b, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("x")},
			{From: a, To: group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte("x")},
		}
		s.AppendMessages(ctx, batch)
		for _, m := range batch {
			if m.Err != nil {
				t.Fatal(m.Err)
			}
		}
		return batch[0].ID, batch[1].ID
	}
	say()
	const gap = 1000
	if err := s.Raw(ctx, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, `update IMRelationShip set lastMsgId = lastMsgId + 1000;
			update IMGroupMember set readMsgId = readMsgId + 1000;
			update IMGroup set lastMsgId = lastMsgId + 1000`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	look := func(when string, last, unread uint32) {
		t.Helper()
		list, err := s.RecentSessions(ctx, b, 0, 10)
		if err != nil || len(list) != 2 || list[0].Latest.ID != last ||
			list[1].Latest.ID != last {
			t.Errorf("%s: sessions %+v, %v, want two with message %d", when, list, err, last)
		}
		counts, total, err := s.UnreadCounts(ctx, b, 10)
		if err != nil || len(counts) != 2 || total != 2*unread {
			t.Errorf("%s: unread %+v, %d, %v, want %d in each", when, counts, total, err, unread)
		}
		single, err := s.LatestID(ctx, a, b)
		if err != nil || single != last {
			t.Errorf("%s: latest id %d, %v, want %d", when, single, err, last)
		}
		inGroup, err := s.GroupLatestID(ctx, b, group)
		if err != nil || inGroup != last {
			t.Errorf("%s: latest id of the group %d, %v, want %d", when, inGroup, err, last)
		}
	}
	look("after the gap", 1, 1)
	if single, inGroup := say(); single != gap+2 || inGroup != gap+2 {
		t.Errorf("the next messages have the ids %d and %d, want %d", single, inGroup, gap+2)
	}
	look("after the next messages", gap+2, 2)
}

// pairAndGroup makes two users, and a group with both.
func pairAndGroup(t *testing.T, s *Store) (a, b, group uint32) {
	t.Helper()
	ctx := context.Background()
	ids, err := s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "a", Nick: "a"}},
		{User: im.User{Name: "b", Nick: "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.CreateGroup(ctx, im.Group{Name: "g", Creator: ids[0], Members: ids,
		Type: pb.GroupType_GROUP_TYPE_NORMAL}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ids[0], ids[1], g.ID
}
