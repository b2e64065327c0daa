package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// sink is a carrier with a kernel buffer of room bytes, which the peer empties with read.
type sink struct {
	wire
	room    int
	got     []byte // all that was written
	largest int    // of the writes
}

func (k *sink) Write(p []byte) error {
	if k.broken != nil {
		return k.wire.Write(p)
	}
	k.got = append(k.got, p...)
	k.largest = max(k.largest, len(p))
	n := min(k.room, len(p))
	k.room -= n
	k.buffered += len(p) - n
	return nil
}

// read makes the peer read n bytes.
func (k *sink) read(n int) {
	k.room += n
	moved := min(k.room, k.buffered)
	k.room -= moved
	k.buffered -= moved
}

// largeBench is a bench whose pauses end when told.
type largeBench struct {
	*bench
	pauses []func()
}

func newLargeBench(t testing.TB, h *role, opt LoopOptions) *largeBench {
	b := &largeBench{}
	opt.After = func(d time.Duration, f func()) {
		if d != feedPause {
			t.Errorf("a pause of %v", d)
		}
		b.pauses = append(b.pauses, f)
	}
	b.bench = newBench(t, h, opt)
	return b
}

func (b *largeBench) sink(room int) *sink {
	k := &sink{room: room, wire: wire{l: b.Loop, h: b.h}}
	b.in(func() { k.s = b.Add(netip.MustParseAddrPort("192.0.2.7:1234"), k) })
	return k
}

// run takes turns until nothing is to be done before the peers have read.
func (b *largeBench) run() {
	for len(b.wakes) > 0 {
		b.turn()
	}
}

// pause ends the pause that is on.
func (b *largeBench) pause() {
	b.t.Helper()
	if len(b.pauses) != 1 {
		b.t.Fatalf("%d pauses, want one", len(b.pauses))
	}
	f := b.pauses[0]
	b.pauses = nil
	f()
	b.run()
}

func encoded(t testing.TB, n int, fill byte) *pb.Encoded {
	t.Helper()
	body := binary.AppendUvarint([]byte{3<<3 | 2}, uint64(n))
	e, err := pb.ParseEncoded(pb.CmdAllUserRsp, append(body, bytes.Repeat([]byte{fill}, n)...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func frame(t testing.TB, seq uint16, m pb.Message) []byte {
	t.Helper()
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLargeInOrder: large frames and small ones arrive in the order they were sent, in whatever way, piece by piece as the peer reads.
func TestLargeInOrder(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{})
	k := b.sink(1000)
	big, huge := encoded(t, 300_000, 'b'), encoded(t, 3_000_000, 'h')
	typed := &pb.MsgData{Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: bytes.Repeat([]byte("a"), 200_000)}
	posted := bytes.Repeat([]byte("p"), 100_000)
	var want []byte
	add := func(f []byte) { want = append(want, f...) }
	b.in(func() {
		k.s.SendFrame([]byte("first"))
		for i, m := range []pb.Message{big.ForUser(5), typed, huge, &pb.IMHeartBeat{}, big} {
			if err := k.s.Send(uint16(i), m); err != nil {
				t.Error(err)
			}
		}
		k.s.SendFrame(posted[:70_000])
	})
	add([]byte("first"))
	for i, m := range []pb.Message{big.ForUser(5), typed, huge, &pb.IMHeartBeat{}, big} {
		add(frame(t, uint16(i), m))
	}
	add(posted[:70_000])
	for _, err := range []error{k.s.Push(7, huge), k.s.PushFrame([]byte("between")), k.s.PushFrame(posted), b.PostFanOut([]*Session{k.s}, posted), k.s.Push(8, typed)} {
		if err != nil {
			t.Error(err)
		}
	}
	add(frame(t, 7, huge))
	add([]byte("between"))
	add(posted)
	add(posted)
	add(frame(t, 8, typed))
	b.run()
	b.wantOpen(&k.wire)
	for turns := 0; k.s.held != nil; turns++ {
		if waits := k.buffered; waits > 2*feedPiece {
			t.Fatalf("%d bytes copied for a peer that does not read", waits)
		}
		k.read(90_000)
		b.pause()
		if turns > 1000 {
			t.Fatal("does not end")
		}
	}
	if !bytes.Equal(k.got, want) {
		t.Errorf("got %d bytes, want %d, or in another order", len(k.got), len(want))
	}
	if k.largest > feedPiece {
		t.Errorf("a write of %d bytes", k.largest)
	}
	if len(b.feeding) != 0 || k.s.waiting.Load() != 0 {
		t.Errorf("left over: %d in the list, %d bytes counted", len(b.feeding), k.s.waiting.Load())
	}
	b.in(func() { k.s.SendFrame([]byte("after")) })
	if !bytes.HasSuffix(k.got, []byte("after")) {
		t.Error("a frame after all that did not leave at once")
	}
	if len(b.pauses) > 0 {
		t.Error("a pause although nothing waits")
	}
}

// TestLargeTakesTurns: fifty large frames to peers that read at once take many turns, none of which writes more than its share, and all
// sessions get theirs at the same pace.
func TestLargeTakesTurns(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{})
	e := encoded(t, 3<<20, 'x')
	ks := make([]*sink, 50)
	for i := range ks {
		ks[i] = b.sink(1 << 30)
	}
	b.in(func() {
		for _, k := range ks {
			if err := k.s.Send(1, e); err != nil {
				t.Error(err)
			}
		}
	})
	total := 0
	for turns := 1; ; turns++ {
		sum, least, most := 0, 1<<30, 0
		for _, k := range ks {
			sum += len(k.got)
			least, most = min(least, len(k.got)), max(most, len(k.got))
		}
		if sum-total > feedTurn+feedPiece {
			t.Fatalf("turn %d wrote %d bytes", turns, sum-total)
		}
		if most-least > 2*feedPiece {
			t.Fatalf("turn %d: one has %d bytes, another %d", turns, most, least)
		}
		total = sum
		if len(b.wakes) == 0 {
			break
		}
		b.turn()
	}
	if want := 50 * len(frame(t, 1, e)); total != want || len(b.pauses) > 0 {
		t.Errorf("%d bytes, want %d; %d pauses", total, want, len(b.pauses))
	}
}

// TestLargeIsNotSlowness: a client that reads a large frame may be sent other things meanwhile; the limit is for those.
func TestLargeIsNotSlowness(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{MaxBuffered: 100_000})
	k := b.sink(0)
	b.in(func() {
		if err := k.s.Send(1, encoded(t, 3<<20, 'x')); err != nil {
			t.Error(err)
		}
	})
	b.run()
	for range 5 {
		b.in(func() { k.s.SendFrame(make([]byte, 10_000)) })
	}
	b.run()
	b.wantOpen(&k.wire)
	b.in(func() { k.s.SendFrame(make([]byte, 60_000)) })
	b.wantClosed(&k.wire, ErrSlow)
	b.wantCount("slow", testutil.ToFloat64(b.metrics.slow), 1)
	b.pause()
	if len(b.feeding) != 0 {
		t.Error("a session that is gone is fed")
	}
}

// TestLargeStalls: who takes nothing of a large frame is closed, who takes a little is not.
func TestLargeStalls(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{StallLimit: 10 * time.Second})
	reads, stuck := b.sink(0), b.sink(0)
	e := encoded(t, 1<<20, 'x')
	b.in(func() {
		for _, k := range []*sink{reads, stuck} {
			if err := k.s.Send(1, e); err != nil {
				t.Error(err)
			}
		}
	})
	second := func() {
		b.clock.advance(time.Second)
		reads.read(1)
		b.Tick()
	}
	for range 9 {
		second()
	}
	b.wantOpen(&reads.wire, &stuck.wire)
	second()
	second()
	b.wantClosed(&stuck.wire, ErrSlow)
	for range 20 {
		second()
	}
	b.wantOpen(&reads.wire)
}

// TestLargeRefused: one large frame is taken whatever its length, then those that fit; the rest is refused, and nobody closed for it.
func TestLargeRefused(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{MaxLarge: 1 << 20})
	k := b.sink(0)
	if err := k.s.Push(1, encoded(t, 3<<20, 'x')); err != nil {
		t.Fatal(err)
	}
	if err := k.s.Push(2, encoded(t, 100_000, 'y')); im.KindOf(err) != im.Busy {
		t.Errorf("got %v, want busy", err)
	}
	b.run()
	b.in(func() {
		if err := k.s.Send(3, encoded(t, 100_000, 'y')); im.KindOf(err) != im.Busy {
			t.Errorf("got %v, want busy", err)
		}
	})
	b.run()
	b.wantOpen(&k.wire)
	for k.s.held != nil {
		k.read(1 << 20)
		b.pause()
	}
	k.room = 0
	for i := range 10 {
		if err := k.s.Push(uint16(i), encoded(t, 100_000, 'y')); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.s.Push(2, encoded(t, 100_000, 'y')); im.KindOf(err) != im.Busy {
		t.Errorf("got %v, want busy", err)
	}
	b.wantCount("refused", testutil.ToFloat64(b.metrics.largeRefused), 3)
	b.wantCount("sent", testutil.ToFloat64(b.metrics.large), 11)
	// What is pushed without asking anybody cannot be refused: then the peer is too slow.
	b.run()
	b.in(func() { k.s.SendFrame(make([]byte, 400_000)) })
	b.wantClosed(&k.wire, ErrSlow)
}

// TestSendParts: the parts of an answer arrive in order with what is sent around them, and are let
// through or refused as one large frame of their length.
func TestSendParts(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{MaxLarge: 1 << 20})
	k := b.sink(1000)
	var body []byte
	for range 40 {
		body, _ = encoded(t, 100_000, 'p').AppendBody(body)
	}
	e, err := pb.ParseEncoded(pb.CmdAllUserRsp, body)
	if err != nil {
		t.Fatal(err)
	}
	parts := e.Split(3, 400<<10, nil)
	if len(parts) != 10 {
		t.Fatalf("%d parts", len(parts))
	}
	want := []byte("before")
	for _, p := range parts {
		want = append(want, frame(t, 7, p)...)
	}
	want = append(want, "behind"...)
	b.in(func() {
		k.s.SendFrame([]byte("before"))
		if err := k.s.SendParts(7, parts); err != nil {
			t.Error(err)
		}
		k.s.SendFrame([]byte("behind"))
		if err := k.s.SendParts(8, parts[:1]); im.KindOf(err) != im.Busy {
			t.Errorf("with 4 MB waiting: %v, want busy", err)
		}
	})
	b.run()
	for k.s.held != nil {
		k.read(200_000)
		b.pause()
	}
	if !bytes.Equal(k.got, want) {
		t.Errorf("%d bytes, want %d", len(k.got), len(want))
	}
	if n := k.s.waiting.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
	b.in(func() {
		if err := k.s.SendParts(9, parts[:2]); err != nil {
			t.Error(err)
		}
		k.s.Close(errors.New("end"))
		if err := k.s.SendParts(10, parts); err != nil {
			t.Errorf("to a closed session: %v", err)
		}
	})
	link := &linkEnd{}
	if err := NewLink(1, "link", link).SendParts(1, parts); err != nil ||
		len(link.sent) != len(parts) {
		t.Errorf("over a link: %d parts, %v", len(link.sent), err)
	}
}

// TestLargeAndClose: what was sent leaves before the session ends, within the time for that.
func TestLargeAndClose(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{})
	reads, stuck := b.sink(0), b.sink(0)
	e := encoded(t, 1<<20, 'x')
	end := errors.New("end")
	b.in(func() {
		for _, k := range []*sink{reads, stuck} {
			if err := k.s.Send(1, e); err != nil {
				t.Error(err)
			}
			k.s.SendFrame([]byte("farewell"))
			k.s.Close(end)
			if err := k.s.Send(2, e); err != nil {
				t.Error(err)
			}
		}
	})
	b.run()
	for reads.s.held != nil {
		reads.read(500_000)
		b.pause()
	}
	reads.read(1 << 20)
	b.Tick()
	b.wantClosed(&reads.wire, end)
	if !strings.HasSuffix(string(reads.got), "xxfarewell") {
		t.Error("ended before everything had left")
	}
	b.wantOpen(&stuck.wire)
	b.clock.advance(2 * time.Second)
	b.Tick()
	b.wantClosed(&stuck.wire, end)
	if err := stuck.s.Push(1, e); err != nil {
		t.Error(err)
	}
	b.run()
}

// TestLargeToBrokenPeer: a write that fails in the middle ends the session, once, and its handler may send to others.
func TestLargeToBrokenPeer(t *testing.T) {
	var other *sink
	reset := errors.New("connection reset")
	b := newLargeBench(t, &role{closed: func(*Session, error) { other.s.SendFrame([]byte("gone")) }}, LoopOptions{})
	k := b.sink(0)
	other = b.sink(1000)
	b.in(func() {
		if err := k.s.Send(1, encoded(t, 1<<20, 'x')); err != nil {
			t.Error(err)
		}
	})
	k.broken = reset
	k.read(1 << 20)
	b.pause()
	b.wantClosed(&k.wire, reset)
	if string(other.got) != "gone" {
		t.Errorf("the other got %q", other.got)
	}
}

// TestTurnBoundByBytes: what was posted for many sessions does not all leave in one turn.
func TestTurnBoundByBytes(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	for range 300 {
		if err := b.PostFrame(w.s, make([]byte, 32<<10)); err != nil {
			t.Fatal(err)
		}
	}
	turns := 0
	for ; len(b.wakes) > 0; turns++ {
		b.turn()
	}
	total := 0
	for _, p := range w.writes {
		total += len(p)
	}
	if total != 300*32<<10 || turns != 3 {
		t.Errorf("%d bytes in %d turns", total, turns)
	}
}

// TestFullTurnsGiveWay: once a turn had more to do than it may, turns for traffic leave the rest to the turn that was asked for.
func TestFullTurnsGiveWay(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxTurn: 10})
	w := b.connect()
	ran := 0
	for range 25 {
		b.Post(func() { ran++ })
	}
	b.turn()
	for range 5 {
		b.in(func() { w.s.SendFrame([]byte("echo")) })
	}
	if ran != 10 {
		t.Errorf("%d ran before the next turn", ran)
	}
	b.wantWrites(w, "echo", "echo", "echo", "echo", "echo")
	b.wantWakes(true)
	b.turn()
	b.Tick() // in case a wake was lost
	if ran != 25 {
		t.Errorf("%d ran, want all", ran)
	}
}
