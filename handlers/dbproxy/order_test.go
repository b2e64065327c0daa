package dbproxy_test

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/handlers/dbproxy"
	"teamtalk/pool"
	"teamtalk/proto/pb"
)

// sentBy sets the client connection and the epoch of m.
func sentBy(conn, epoch uint32, m *pb.MsgData) *pb.MsgData {
	m.SenderConn, m.Epoch = conn, epoch
	return m
}

// TestPipelinedBehindFailed: the store fails for one batch. Messages pipelined behind a
// message of that batch are not stored, although the store works again.
func TestPipelinedBehindFailed(t *testing.T) {
	h := open(t, options{batches: pool.BatchOptions[*dbproxy.Pending]{MaxItems: 1}})
	p := h.dial()
	reached, goOn := make(chan bool), make(chan bool)
	first := true
	h.store.set(func() error { // calls do not overlap: there is one shard
		if !first {
			return nil
		}
		first = false
		close(reached)
		<-goOn
		return im.Errorf(im.Unavailable, "away")
	})
	sends := []struct {
		m    *pb.MsgData
		what string
		id   uint32
	}{
		{sentBy(7, 0, text(1, 2, "A")), "that could not be stored", 0},
		{sentBy(7, 0, text(1, 2, "B")), "pipelined behind it", 0},
		{sentBy(7, 0, text(1, 3, "C")), "of another conversation", 1},
		{sentBy(8, 0, text(1, 2, "D")), "of another connection", 1},
		{sentBy(9, 0, text(2, 1, "E")), "of the peer", 2},
		{text(1, 2, "F"), "of a server that does not say whose it is", 3},
		{sentBy(7, 0, text(1, 2, "G")), "still of that epoch", 0},
		{sentBy(7, 1, text(1, 2, "A")), "sent again, in the next epoch", 4},
		{sentBy(7, 1, text(1, 2, "B")), "behind it", 5},
		{sentBy(7, 1, text(1, 99, "H")), "to nobody", 0},
		{sentBy(7, 1, text(1, 99, "I")), "to nobody, too", 0},
	}
	var frames []byte
	for i, s := range sends {
		var err error
		if frames, err = pdu.Append(frames, uint16(i+1), s.m); err != nil {
			t.Fatal(err)
		}
	}
	p.write(frames)
	<-reached
	close(goOn)
	for i, s := range sends {
		m := answer[*pb.MsgData](p, uint16(i+1))
		if rejected := s.m.ToSessionID == 99; m.MsgID != s.id || m.Rejected != rejected {
			t.Errorf("%s, %s: id %d, rejected %v; want id %d, rejected %v",
				s.m.Data, s.what, m.MsgID, m.Rejected, s.id, rejected)
		}
	}
}

// TestFailureForgotten: a failure is recorded no longer than a message of its epoch may
// be in flight.
func TestFailureForgotten(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{Timeout: patience}})
	p := h.dial()
	h.store.set(func() error { return im.Errorf(im.Unavailable, "away") })
	send := func(seq uint16) uint32 {
		p.send(seq, sentBy(7, 0, text(1, 2, fmt.Sprint(seq))))
		return answer[*pb.MsgData](p, seq).MsgID
	}
	if id := send(1); id != 0 {
		t.Fatalf("id %d from a store that is away", id)
	}
	h.store.set(nil)
	if id := send(2); id != 0 {
		t.Errorf("id %d behind a message that was not stored", id)
	}
	h.clock.Add(2*patience + time.Second)
	if id := send(3); id != 1 {
		t.Errorf("id %d after the failure expired, want 1", id)
	}
}
