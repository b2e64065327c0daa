package link

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/pdu"
)

// unserved returns a connection of a link without its goroutines, and the peer's end.
func unserved(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	rig := newRig(t)
	r := &Remote{o: filled(Options{Addr: rig.addr()})}
	r.o.setDefaults()
	r.metrics = r.o.Metrics.peer("peer")
	nc, err := net.Dial("tcp", rig.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := newConn(r, nc)
	c.opening = false
	c.lastOut.Store(mono.Of(time.Now().Add(-time.Hour)))
	return c, rig.accept().nc
}

// TestQuietLinkWritesAtOnce sends frames on a link without a writer: the first leaves, the next
// waits for the writer.
func TestQuietLinkWritesAtOnce(t *testing.T) {
	c, peer := unserved(t)
	m := text(1, "a text")
	want, err := pdu.Append(nil, 7, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.enqueue(7, m, byCall); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the peer got %x, %v, want %x", got, err, want)
	}
	if c.items != 0 || len(c.out.Waiting) != 0 || len(c.wake) != 0 {
		t.Errorf("%d frames wait, and the writer is woken %d times", c.items, len(c.wake))
	}
	c.lastOut.Store(mono.Of(time.Now().Add(time.Hour))) // as if something was just written
	if err := c.enqueue(8, m, byCall); err != nil {
		t.Fatal(err)
	}
	if c.items != 1 || len(c.out.Waiting) != len(want) || len(c.wake) != 1 {
		t.Errorf("on a busy link %d frames wait, and the writer is woken %d times", c.items,
			len(c.wake))
	}
}

// TestSentMessagesStayTogether: messages that expect no answer wait for the writer, so that one
// write carries all that are sent at a time. A call that follows takes them along.
func TestSentMessagesStayTogether(t *testing.T) {
	c, peer := unserved(t)
	var want []byte
	for i, from := range []origin{bySend, byHandler, byCall} {
		m := text(uint32(i+1), "a text")
		var err error
		if want, err = pdu.Append(want, 7, m); err != nil {
			t.Fatal(err)
		}
		if err := c.enqueue(7, m, from); err != nil {
			t.Fatal(err)
		}
		if from != byCall && c.items != i+1 {
			t.Errorf("%d messages wait, want %d", c.items, i+1)
		}
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the peer got %x, %v, want %x", got, err, want)
	}
}

// TestQuietLinkDoesNotWait sends more than the peer's buffers take while the peer does not read.
// The frames that are left are written by the writer, in order.
func TestQuietLinkDoesNotWait(t *testing.T) {
	c, peer := unserved(t)
	const frames = 4000
	var want []byte
	for i := range frames {
		c.lastOut.Store(0)
		m := text(uint32(i), "")
		m.Data = bytes.Repeat([]byte{byte(i)}, 4000)
		var err error
		if want, err = pdu.Append(want, uint16(i), m); err != nil {
			t.Fatal(err)
		}
		if err := c.enqueue(uint16(i), m, byCall); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	if len(c.out.Waiting) == 0 {
		t.Fatal("the buffers of the system take everything")
	}
	done := make(chan struct{})
	go func() { defer close(done); c.writeLoop() }()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the peer got other bytes, %v", err)
	}
	c.fail(nil)
	<-done
}
