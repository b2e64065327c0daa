package client

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestReconnect sends messages during an outage. They are stored after it, and messages
// stored by others meanwhile are fetched.
func TestReconnect(t *testing.T) {
	s := newServer(t)
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	a.send(bob, "one")
	waitFor[Acked](a, 1)
	waitFor[Received](b, 1)
	s.Crash()
	waitFor[Disconnected](a, 1)
	waitFor[Disconnected](b, 1)
	a.send(bob, "two")
	a.send(bob, "three")
	waitFor[Retrying](a, 1)
	s.Listen()
	waitFor[Acked](a, 3)
	equal(t, "texts", b.texts(waitFor[Received](b, 3)), []string{"one", "two", "three"})
	equal(t, "stored", len(s.Stored(alice, bob)), 3)
	if !waitFor[Connected](a, 2)[1].Again {
		t.Error("the second Connected does not say Again")
	}
}

// TestReconnectFetchesSeveralPages misses more messages than fit a page, some of them
// sent by the user's other device.
func TestReconnectFetchesSeveralPages(t *testing.T) {
	s := newServer(t)
	s.Store(alice, bob, body(t, "old"))
	b := open(t, s, "bob", nil)
	s.Push(bob, s.Store(alice, bob, body(t, "live")))
	waitFor[Received](b, 1)
	s.Crash()
	const missed = 250
	for i := range missed {
		from, to := alice, bob
		if i%3 == 2 {
			from, to = bob, alice
		}
		s.Store(from, to, body(t, fmt.Sprint(i)))
	}
	s.Listen()
	got := waitFor[Received](b, missed+1)
	for i, r := range got {
		if r.Message.ID != uint32(i+2) || r.Missed != (i > 0) {
			t.Fatalf("message %d: %+v", i, r)
		}
	}
	s.Push(bob, s.Store(alice, bob, body(t, "live again")))
	equal(t, "after it", waitFor[Received](b, missed+2)[missed+1].Message.ID, missed+3)
	equal(t, "fetched", b.Stats().Fetched, missed)
}

// TestReconnectFetchesNewConversation fetches a conversation that began during the outage
// from its first message.
func TestReconnectFetchesNewConversation(t *testing.T) {
	s := newServer(t)
	s.AddUser(3, "carol")
	b := open(t, s, "bob", nil)
	s.Crash()
	for i := range 3 {
		s.Store(3, bob, body(t, fmt.Sprint(i)))
	}
	s.Listen()
	equal(t, "new conversation", ids(waitFor[Received](b, 3)), []uint32{1, 2, 3})
}

// TestReconnectBeforeFirstSync loses the first connection before the server has told the
// conversations. Messages stored since the first login are fetched, and none older.
func TestReconnectBeforeFirstSync(t *testing.T) {
	s := newServer(t)
	s.AddUser(3, "carol")
	s.AddUser(4, "dave")
	s.Store(alice, bob, body(t, "old"))
	s.Store(3, bob, body(t, "old"))
	s.Store(3, bob, body(t, "old too"))
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdRecentContactSessionReq })
	b := dial(t, s, "bob", nil)
	waitFor[Connected](b, 1)
	s.Push(bob, s.Store(alice, bob, body(t, "pushed")))
	waitFor[Received](b, 1)
	s.Crash()
	s.Store(alice, bob, body(t, "missed"))
	s.Store(4, bob, body(t, "a new conversation"))
	s.Filter(nil)
	s.Listen()
	waitFor[Ready](b, 1)
	s.Push(bob, s.Store(3, bob, body(t, "after it")))
	got := b.texts(waitFor[Received](b, 4))
	slices.Sort(got[1:])
	equal(t, "received", got, []string{"pushed", "a new conversation", "after it", "missed"})
}

// TestPushBeforeFirstSync pushes messages before the server has told the conversations, on the
// first connection and on the next one. Those missed before them are fetched.
func TestPushBeforeFirstSync(t *testing.T) {
	s := newServer(t)
	s.AddUser(3, "carol")
	s.Store(alice, bob, body(t, "old"))
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdRecentContactSessionReq })
	b := dial(t, s, "bob", nil)
	waitFor[Connected](b, 1)
	s.Push(bob, s.Store(alice, bob, body(t, "1")))
	s.Store(alice, bob, body(t, "2"))
	s.Push(bob, s.Store(alice, bob, body(t, "3")))
	equal(t, "first", b.texts(waitFor[Received](b, 3)), []string{"1", "2", "3"})
	s.Crash()
	waitFor[Disconnected](b, 1)
	s.Store(alice, bob, body(t, "4"))
	s.Store(3, bob, body(t, "a"))
	s.Listen()
	waitFor[Connected](b, 2)
	s.Push(bob, s.Store(alice, bob, body(t, "5")))
	equal(t, "next", b.texts(waitFor[Received](b, 5))[3:], []string{"4", "5"})
	s.Push(bob, s.Store(3, bob, body(t, "b")))
	equal(t, "new", b.texts(waitFor[Received](b, 7))[5:], []string{"a", "b"})
}

func TestReconnectSkipsAboveCatchUp(t *testing.T) {
	s := newServer(t)
	s.Store(alice, bob, body(t, "old"))
	b := open(t, s, "bob", func(o *Options) { o.CatchUp = 10 })
	s.Crash()
	for i := range 30 {
		s.Store(alice, bob, body(t, fmt.Sprint(i)))
	}
	s.Listen()
	got := waitFor[Received](b, 10)
	equal(t, "newest", ids(got), []uint32{22, 23, 24, 25, 26, 27, 28, 29, 30, 31})
	equal(t, "told of the rest", all[Skipped](b), []Skipped{{Peer: Peer{ID: alice}, Below: 22}})
}

// TestMessagesAreReportedInOrder pushes messages out of order and twice. A message waits
// for its predecessor, and a duplicate is acked and not reported.
func TestMessagesAreReportedInOrder(t *testing.T) {
	s := newServer(t)
	b := open(t, s, "bob", nil)
	m1 := s.Store(alice, bob, body(t, "1"))
	s.Push(bob, m1)
	m2, m3 := s.Store(alice, bob, body(t, "2")), s.Store(alice, bob, body(t, "3"))
	s.Push(bob, m3)
	s.Push(bob, m2)
	s.Push(bob, m1)
	s.Push(bob, s.Store(alice, bob, body(t, "4")))
	equal(t, "order", ids(waitFor[Received](b, 4)), []uint32{1, 2, 3, 4})
	s.WaitFrames(pb.CmdMsgDataAck, 5)
	equal(t, "received", len(all[Received](b)), 4)
	equal(t, "duplicates", b.Stats().Duplicates >= 1, true)
}

// TestMissingIDHoldsNothingUp checks an id that the server does not have because storing
// failed. When its message appears later, it is reported.
func TestMissingIDHoldsNothingUp(t *testing.T) {
	s := newServer(t)
	b := open(t, s, "bob", nil)
	s.Push(bob, s.Store(alice, bob, body(t, "1")))
	m := im.Message{ID: 3, From: alice, To: bob, Created: 1_700_000_100,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: body(t, "3")}
	s.Push(bob, m)
	equal(t, "with a hole", ids(waitFor[Received](b, 2)), []uint32{1, 3})
	m.ID = 2
	s.Push(bob, m)
	equal(t, "late", ids(waitFor[Received](b, 3)), []uint32{1, 3, 2})
}

// TestGapBelowManyOwnMessagesIsFetched misses a message that was stored and not pushed,
// while the user sends many messages.
func TestGapBelowManyOwnMessagesIsFetched(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	a.send(bob, "first")
	waitFor[Acked](a, 1)
	s.Store(bob, alice, body(t, "not pushed"))
	for n := range maxOwn + 50 {
		a.send(bob, fmt.Sprint("own ", n))
		waitFor[Acked](a, n+2)
	}
	equal(t, "received", a.texts(waitFor[Received](a, 1)), []string{"not pushed"})
	s.Push(alice, s.Store(bob, alice, body(t, "pushed")))
	equal(t, "received", a.texts(waitFor[Received](a, 2)), []string{"not pushed", "pushed"})
}

// TestGapBelowOneOwnMessageIsFetched misses the message before a single own one. No push
// follows.
func TestGapBelowOneOwnMessageIsFetched(t *testing.T) {
	s := newServer(t)
	s.Store(bob, alice, body(t, "before"))
	a := open(t, s, "alice", func(o *Options) { o.SyncTimeout = 20 * time.Millisecond })
	s.Store(bob, alice, body(t, "not pushed"))
	a.send(bob, "mine")
	got := waitFor[Received](a, 1)
	equal(t, "received", a.texts(got), []string{"not pushed"})
	equal(t, "missed", got[0].Missed, true)
}

// TestFetchWaitsForSilentServer gets no history for a time, as when a database restarts.
// No message is given up.
func TestFetchWaitsForSilentServer(t *testing.T) {
	s := newServer(t)
	s.Store(alice, bob, body(t, "1"))
	b := open(t, s, "bob", func(o *Options) { o.SyncTimeout = 5 * time.Millisecond })
	asked := 0
	s.Filter(func(f clienttest.Frame) bool {
		if f.Command == pb.CmdGetMsgListReq {
			asked++
		}
		return f.Command != pb.CmdGetMsgListReq || asked > syncTries-2
	})
	s.Store(alice, bob, body(t, "2"))
	s.Push(bob, s.Store(alice, bob, body(t, "3")))
	equal(t, "order", ids(waitFor[Received](b, 2)), []uint32{2, 3})
	equal(t, "skipped", len(all[Skipped](b)), 0)
}

// TestFetchRepeatsWhileSlaveLags requests messages again that must exist.
func TestFetchRepeatsWhileSlaveLags(t *testing.T) {
	s := newServer(t)
	s.Store(alice, bob, body(t, "1"))
	b := open(t, s, "bob", nil)
	s.Store(alice, bob, body(t, "2"))
	s.Lag(2)
	s.Push(bob, s.Store(alice, bob, body(t, "3")))
	s.WaitFrames(pb.CmdGetMsgListReq, 1)
	s.Lag(0)
	equal(t, "order", ids(waitFor[Received](b, 2)), []uint32{2, 3})
}

// TestOldMessagesOfUnlistedConversation checks a conversation that the server did not
// list at login: its messages from before the login are not reported.
func TestOldMessagesOfUnlistedConversation(t *testing.T) {
	s := newServer(t)
	for i := range 5 {
		s.Store(alice, bob, body(t, fmt.Sprint(i)))
	}
	s.Filter(func(f clienttest.Frame) bool {
		return f.Command != pb.CmdRecentContactSessionReq && f.Command != pb.CmdUnreadMsgCntReq
	})
	b := open(t, s, "bob", func(o *Options) { o.SyncTimeout = 10 * time.Millisecond })
	s.Push(bob, s.Store(alice, bob, body(t, "new")))
	equal(t, "received", ids(waitFor[Received](b, 1)), []uint32{6})
}
