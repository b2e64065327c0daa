package client

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// storedTexts returns the server's texts of a conversation, in order of id.
func storedTexts(t *testing.T, a *person, s *clienttest.Server, other uint32) string {
	t.Helper()
	var list []string
	for _, m := range s.Stored(alice, other) {
		text, err := a.Text(m)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

// dropping makes a server drop the first n frames of a text without an answer, as a
// server does whose db_proxy is down and that does not know refusals.
func dropping(t *testing.T, a *person, s *clienttest.Server, text string, n int) {
	t.Helper()
	s.Filter(func(f clienttest.Frame) bool {
		var m pb.MsgData
		if f.Command != pb.CmdMsgData || m.ParseBody(f.Body) != nil {
			return true
		}
		if got, err := a.Text(im.Message{Data: m.Data}); err != nil || got != text || n == 0 {
			return true
		}
		n--
		return false
	})
}

// TestNewMessageWaitsForLateAck: the server drops A without an answer and stores all
// others. The later messages of the conversation wait for A, another conversation does
// not.
func TestNewMessageWaitsForLateAck(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) {
		o.AckTimeout, o.holdAfter = 20*time.Millisecond,
			1
	})
	dropping(t, a, s, "A", 3)
	a.send(bob, "A")
	s.WaitFrames(pb.CmdMsgData, 1)
	a.send(bob, "B")
	a.send(carol, "other")
	a.send(bob, "C")
	waitFor[Acked](a, 4)
	if got := storedTexts(t, a, s, bob); got != "A B C" {
		t.Errorf("stored %q, want A B C", got)
	}
	if got := waitFor[Acked](a, 4)[0].Peer.ID; got != carol {
		t.Errorf("the first ack is for %d: the other conversation waited", got)
	}
}

// TestRefusedMessagesAreStoredInOrder: the server refuses all messages of a conversation
// for a time. After that the pipelined messages are stored in order, without a timeout.
func TestRefusedMessagesAreStoredInOrder(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout = time.Hour })
	refused := 0
	s.Refuse(func(m *pb.MsgData) pb.MsgRefusal {
		if refused++; m.ToSessionID == bob && refused <= 6 {
			return pb.MsgRefusal_MSG_REFUSAL_AGAIN
		}
		return 0
	})
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprint(i))
		a.send(bob, want[i])
	}
	waitFor[Acked](a, 5)
	if got := storedTexts(t, a, s, bob); got != strings.Join(want, " ") {
		t.Errorf("stored %q, want %q", got, want)
	}
	seqs := map[string]uint16{}
	for _, f := range s.Frames(pb.CmdMsgData) {
		var m pb.MsgData
		if err := m.ParseBody(f.Body); err != nil || !m.WantRefusal {
			t.Fatalf("%v, wants refusals: %v", err, m.WantRefusal)
		}
		if seq, again := seqs[string(m.ClientMsgID)]; again && seq != f.Seq {
			t.Errorf("a message came with seq %d and %d", seq, f.Seq)
		}
		seqs[string(m.ClientMsgID)] = f.Seq
	}
}

// TestRejectedMessageFailsAtOnce checks that the messages behind it are sent.
func TestRejectedMessageFailsAtOnce(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout = time.Hour })
	first := true
	s.Refuse(func(*pb.MsgData) (why pb.MsgRefusal) {
		if first {
			why = pb.MsgRefusal_MSG_REFUSAL_REJECTED
		}
		first = false
		return why
	})
	id := a.send(bob, "never")
	a.send(bob, "B")
	if got := waitFor[SendFailed](a, 1)[0]; got.ID != id || im.KindOf(got.Err) != im.Denied {
		t.Errorf("failure %+v", got)
	}
	waitFor[Acked](a, 1)
}

// TestOrderAcrossConnections loses the connection with messages in flight. The next
// server drops the first of them without an answer.
func TestOrderAcrossConnections(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout = 20 * time.Millisecond })
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdMsgData })
	a.send(bob, "A")
	a.send(bob, "B")
	s.WaitFrames(pb.CmdMsgData, 2)
	s.Crash()
	a.send(bob, "C")
	dropping(t, a, s, "A", 2)
	s.Listen()
	waitFor[Acked](a, 3)
	if got := storedTexts(t, a, s, bob); got != "A B C" {
		t.Errorf("stored %q, want A B C", got)
	}
}

// TestMessagesArePipelined sends several messages without an ack.
func TestMessagesArePipelined(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.holdAfter = time.Hour })
	s.MuteAcks(true)
	for i := range sendBurst {
		a.send(bob, fmt.Sprint(i))
	}
	s.WaitFrames(pb.CmdMsgData, sendBurst)
}
