package client

import (
	"fmt"
	"testing"

	"teamtalk/core/client/clienttest"
	"teamtalk/proto/pb"
)

// openWithMessages returns alice's Client of a server with five messages from bob.
func openWithMessages(t *testing.T) (*clienttest.Server, *person) {
	s := newServer(t)
	for i := range 5 {
		s.Store(bob, alice, body(t, fmt.Sprint(i+1)))
	}
	return s, open(t, s, "alice", nil)
}

func TestRequestsForUsers(t *testing.T) {
	_, a := openWithMessages(t)
	users, _, err := Contacts(t.Context(), a, 0)
	if err != nil || len(users) != 2 || users[1].Name != "bob" {
		t.Errorf("contacts %v, %v", users, err)
	}
	stats, err := Statuses(t.Context(), a, []uint32{alice, bob})
	if err != nil || stats[alice] != pb.UserStatType_USER_STATUS_ONLINE ||
		stats[bob] != pb.UserStatType_USER_STATUS_OFFLINE {
		t.Errorf("statuses %v, %v", stats, err)
	}
	if now, err := ServerTime(t.Context(), a); err != nil || now == 0 {
		t.Errorf("time %d, %v", now, err)
	}
}

func TestRequestsForMessages(t *testing.T) {
	_, a := openWithMessages(t)
	ctx, peer := t.Context(), Peer{ID: bob}
	recent, err := Recent(ctx, a, 0)
	if err != nil || len(recent) != 1 || recent[0].Peer != bob || recent[0].Latest.ID != 5 {
		t.Errorf("recent %v, %v", recent, err)
	}
	list, err := History(ctx, a, peer, 4, 2)
	if err != nil || len(list) != 2 || list[0].ID != 4 || list[1].ID != 3 ||
		list[0].From != bob || list[0].To != alice {
		t.Errorf("history %v, %v", list, err)
	}
	list, err = ByID(ctx, a, peer, []uint32{2, 9})
	if err != nil || len(list) != 1 || list[0].ID != 2 {
		t.Errorf("by id %v, %v", list, err)
	}
	if id, err := LatestID(ctx, a, peer); err != nil || id != 5 {
		t.Errorf("latest %d, %v", id, err)
	}
}

func TestReadyListsOldMessages(t *testing.T) {
	_, a := openWithMessages(t)
	ready := all[Ready](a)[0]
	if len(ready.Unread) != 1 || len(ready.Recent) != 1 || ready.Again {
		t.Errorf("ready %+v", ready)
	}
	equal(t, "messages from before", len(all[Received](a)), 0)
}

func TestMarkReadClearsUnread(t *testing.T) {
	s, a := openWithMessages(t)
	unread, err := Unread(t.Context(), a)
	if err != nil || len(unread) != 1 || unread[0].Count != 5 || unread[0].Latest.ID != 5 {
		t.Errorf("unread %v, %v", unread, err)
	}
	a.MarkRead(Peer{ID: bob}, 5)
	s.WaitFrames(pb.CmdMsgDataReadAck, 1)
	if unread, err = Unread(t.Context(), a); err != nil || len(unread) != 0 {
		t.Errorf("unread after reading: %v, %v", unread, err)
	}
}
