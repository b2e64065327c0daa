package client

import (
	"context"
	"testing"
	"time"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestMissingAckResends sends the message again with the same client_msg_id and seq.
func TestMissingAckResends(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout = 5 * time.Millisecond })
	s.MuteAcks(true)
	id := a.send(bob, "hello?")
	frames := s.WaitFrames(pb.CmdMsgData, 3)
	s.MuteAcks(false)
	if got := waitFor[Acked](a, 1)[0]; got.ID != id || got.MsgID != 1 {
		t.Errorf("ack %+v", got)
	}
	var name string
	for i, f := range frames {
		var m pb.MsgData
		if err := m.ParseBody(f.Body); err != nil || len(m.ClientMsgID) != 16 {
			t.Fatalf("frame %d: %v, name %x", i, err, m.ClientMsgID)
		}
		if i == 0 {
			name = string(m.ClientMsgID)
		}
		if string(m.ClientMsgID) != name || f.Seq != frames[0].Seq {
			t.Errorf("frame %d has name %x and seq %d", i, m.ClientMsgID, f.Seq)
		}
	}
	equal(t, "stored", len(s.Stored(alice, bob)), 1)
	if r := waitFor[Resent](a, 2); r[0].ID != id || r[0].Attempt != 2 {
		t.Errorf("told %+v", r)
	}
}

func TestSendFailsAfterAttempts(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout, o.Attempts = time.Millisecond, 3 })
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdMsgData })
	id := a.send(bob, "hello?")
	if got := waitFor[SendFailed](a, 1)[0]; got.ID != id || im.KindOf(got.Err) != im.Unavailable {
		t.Errorf("failure %+v", got)
	}
	equal(t, "sent", len(s.WaitFrames(pb.CmdMsgData, 3)), 3)
	if err := a.Flush(t.Context()); err != nil {
		t.Errorf("flush: %v", err)
	}
}

// TestOwnMessageIsKnownAfterLostAck loses the ack with the connection. After the
// reconnect the message appears in the history and in a push, like one of another device,
// and is not reported.
func TestOwnMessageIsKnownAfterLostAck(t *testing.T) {
	s := newServer(t)
	s.Store(bob, alice, body(t, "before"))
	a := open(t, s, "alice", nil)
	s.MuteAcks(true)
	a.send(bob, "once")
	s.WaitFrames(pb.CmdMsgData, 1)
	s.Crash()
	s.MuteAcks(false)
	m := s.Stored(alice, bob)[1]
	s.Listen()
	waitFor[Acked](a, 1)
	s.Push(alice, m)
	s.Push(alice, s.Store(bob, alice, body(t, "answer")))
	equal(t, "received", a.texts(waitFor[Received](a, 1)), []string{"answer"})
	equal(t, "stored", len(s.Stored(alice, bob)), 3)
}

// TestEqualTextOfOtherDevice receives an equal text before the ack, and takes it for a
// copy of its own. The ack shows that another device sent it, and then it is reported.
func TestEqualTextOfOtherDevice(t *testing.T) {
	s := newServer(t)
	s.Store(bob, alice, body(t, "before"))
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout = 5 * time.Millisecond })
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdMsgData })
	a.send(bob, "twin")
	s.WaitFrames(pb.CmdMsgData, 1)
	other := s.Store(alice, bob, body(t, "twin"))
	s.Push(alice, other)
	s.WaitFrames(pb.CmdMsgDataAck, 1)
	equal(t, "before the ack", len(all[Received](a)), 0)
	s.Filter(nil)
	equal(t, "own", waitFor[Acked](a, 1)[0].MsgID, 3)
	equal(t, "the other's", ids(waitFor[Received](a, 1)), []uint32{2})
}

func TestSendRejects(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.MaxPending = 2 })
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdMsgData })
	_, err := a.Send(Peer{ID: bob}, "")
	equal(t, "empty", im.KindOf(err), im.Invalid)
	_, err = a.Send(Peer{ID: bob}, string(make([]byte, im.MaxText+1)))
	equal(t, "long", im.KindOf(err), im.Invalid)
	_, err = a.Send(Peer{ID: alice}, "me")
	equal(t, "to oneself", im.KindOf(err), im.Invalid)
	a.send(bob, "1")
	a.send(bob, "2")
	_, err = a.Send(Peer{ID: bob}, "3")
	equal(t, "full", im.KindOf(err), im.Busy)
	equal(t, "pending", a.Pending(), 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	equal(t, "flush", im.KindOf(a.Flush(ctx)), im.Unavailable)
}

// TestMarkReadIsSentAfterReconnect marks a message as read during an outage.
func TestMarkReadIsSentAfterReconnect(t *testing.T) {
	s := newServer(t)
	s.Store(bob, alice, body(t, "read me"))
	a := open(t, s, "alice", nil)
	s.Crash()
	waitFor[Disconnected](a, 1)
	a.MarkRead(Peer{ID: bob}, 1)
	s.Listen()
	s.WaitFrames(pb.CmdMsgDataReadAck, 1)
}

// TestSendQueueIsBoundedInBytes queues sounds, which are long.
func TestSendQueueIsBoundedInBytes(t *testing.T) {
	s := newGroupServer(t)
	a := open(t, s, "alice", nil)
	s.Crash()
	waitFor[Disconnected](a, 1)
	sound := make([]byte, im.MaxAudio)
	n := 0
	for ; n < 100; n++ {
		if _, err := a.SendAudio(Peer{ID: bob}, 1, sound); err != nil {
			equal(t, "kind", im.KindOf(err), im.Busy)
			break
		}
	}
	equal(t, "queued", n, 63) // four bytes are added to each
}
