package embedded

import (
	"path/filepath"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestClockSetBack sets the clock of the host back by an hour, while the store is open and
// before it opens again. The store's times do not go back, so a client that asks for the
// changes since an earlier time misses none.
func TestClockSetBack(t *testing.T) {
	c := newClock()
	o := Options{Dir: filepath.Join(t.TempDir(), "data"), Now: c.now}
	s := open(t, o)
	u, err := s.CreateUsers(t.Context(), []im.Account{{User: im.User{Name: "a"}},
		{User: im.User{Name: "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.CreateGroup(t.Context(), im.Group{Name: "g", Creator: u[0],
		Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: u}, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The time of a message server that is wrong by years has no effect.
	send(t, s, u, g.ID, 1<<32-1)
	for _, when := range []string{"open", "opened again"} {
		c.advance(10 * time.Second)
		since := uint32(s.Now().Unix())
		send(t, s, u, g.ID, since)
		c.advance(-time.Hour)
		if when != "open" {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, o)
		}
		if now := uint32(s.Now().Unix()); now < since {
			t.Errorf("%s: the store's time went back by %d s", when, since-now)
		}
		c.advance(4 * time.Second)
		send(t, s, u, g.ID, uint32(c.now().Unix()))
		list, err := s.RecentSessions(t.Context(), u[1], since+1, 100)
		if err != nil || len(list) != 2 {
			t.Errorf("%s: %d sessions since %d, %v; want 2", when, len(list), since+1, err)
		}
		if err := s.SetGroupName(t.Context(), g.ID, when); err != nil {
			t.Fatal(err)
		}
		groups, err := s.GroupsOf(t.Context(), u[1], pb.GroupType_GROUP_TYPE_NORMAL, since+1)
		if err != nil || len(groups) != 1 {
			t.Errorf("%s: %d groups since %d, %v; want 1", when, len(groups), since+1, err)
		}
		c.advance(3 * time.Hour)
		if now := s.Now(); !now.Equal(c.now()) {
			t.Errorf("%s: three hours later it is %v, want %v", when, now, c.now())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// send stores a text between two users and one to their group.
func send(t *testing.T, s *Store, u []uint32, group, created uint32) {
	t.Helper()
	batch := []*im.Message{
		{From: u[0], To: u[1], Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("x")},
		{From: u[0], To: group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte("x")}}
	for _, m := range batch {
		m.Created = created
	}
	s.AppendMessages(t.Context(), batch)
	for _, m := range batch {
		if m.Err != nil {
			t.Fatal(m.Err)
		}
	}
}
