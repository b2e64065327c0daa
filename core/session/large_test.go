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

// sink is a carrier with a kernel buffer of room bytes. read empties it as a peer does.
type sink struct {
	wire
	room    int
	got     []byte // everything that was written
	largest int    // length of the longest write
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

// largeBench is a bench whose pauses end by a call of pause.
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
	b.in(func() { k.s = b.AddClient(netip.MustParseAddrPort("192.0.2.7:1234"), k) })
	return k
}

// run runs turns until the loop has nothing to do before the peers read.
func (b *largeBench) run() {
	for len(b.wakes) > 0 {
		b.turn()
	}
}

// pause ends the current pause.
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

// readAll lets the peer of k read until nothing waits, and compares what it got.
func (b *largeBench) readAll(k *sink, want []byte) {
	b.t.Helper()
	for turns := 0; k.s.held != nil; turns++ {
		if waits := k.buffered; waits > 2*feedPiece {
			b.t.Fatalf("%d bytes copied for a peer that does not read", waits)
		}
		k.read(90_000)
		b.pause()
		if turns > 1000 {
			b.t.Fatal("the backlog is not empty after 1,000 rounds")
		}
	}
	if !bytes.Equal(k.got, want) {
		b.t.Errorf("got %d bytes, want %d, or in another order", len(k.got), len(want))
	}
	if k.largest > feedPiece {
		b.t.Errorf("a write of %d bytes", k.largest)
	}
}

// TestLargeFramesKeepTheirOrder sends large and small frames by every method that sends.
// They arrive in the order in which they were sent, in pieces, as the peer reads.
func TestLargeFramesKeepTheirOrder(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{})
	k := b.sink(1000)
	big, huge := encoded(t, 300_000, 'b'), encoded(t, 3_000_000, 'h')
	typed := &pb.MsgData{
		Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: bytes.Repeat([]byte("a"), 200_000),
	}
	posted := bytes.Repeat([]byte("p"), 100_000)
	var want []byte
	add := func(f []byte) { want = append(want, f...) }
	b.step("send on the loop", func() {
		messages := []pb.Message{big.ForUser(5), typed, huge, &pb.IMHeartBeat{}, big}
		b.in(func() {
			k.s.SendFrame([]byte("first"))
			for i, m := range messages {
				if err := k.s.Send(uint16(i), m); err != nil {
					b.t.Error(err)
				}
			}
			k.s.SendFrame(posted[:70_000])
		})
		add([]byte("first"))
		for i, m := range messages {
			add(frame(b.t, uint16(i), m))
		}
		add(posted[:70_000])
	})
	b.step("post to the loop", func() {
		for _, err := range []error{
			k.s.Push(7, huge), k.s.PushShared([]byte("between")), k.s.PushShared(posted),
			b.FanOut([]*Client{k.s}, posted, Tag{}), k.s.Push(8, typed),
		} {
			if err != nil {
				b.t.Error(err)
			}
		}
		add(frame(b.t, 7, huge))
		add([]byte("between"))
		add(posted)
		add(posted)
		add(frame(b.t, 8, typed))
		b.run()
		b.wantOpen(&k.wire)
	})
	b.step("the peer reads", func() { b.readAll(k, want) })
	b.step("nothing is left over", func() {
		if n := k.s.waiting.Load(); len(b.feeding) != 0 || n != 0 {
			b.t.Errorf("left over: %d in the list, %d bytes counted", len(b.feeding), n)
		}
		b.in(func() { k.s.SendFrame([]byte("after")) })
		if !bytes.HasSuffix(k.got, []byte("after")) {
			b.t.Error("a frame behind the backlog did not leave at once")
		}
		if len(b.pauses) > 0 {
			b.t.Error("a timer runs although nothing waits")
		}
	})
}

// TestLargeFramesShareTurns sends fifty large frames to peers that read at once. That
// takes many turns, none of them writes more than its share, and all sessions progress at
// the same pace.
func TestLargeFramesShareTurns(t *testing.T) {
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

// TestLargeFrameDoesNotCountAsSlowness sends small frames to a client that reads a large
// one. Only the small frames count for MaxBuffered.
func TestLargeFrameDoesNotCountAsSlowness(t *testing.T) {
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
		t.Error("a closed session still gets pieces")
	}
}

// TestStalledPeerIsClosed has two peers of large frames: the one that takes nothing is
// closed, and the one that takes a little stays.
func TestStalledPeerIsClosed(t *testing.T) {
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

// TestLargeFramesAboveTheBoundAreRejected sends large frames to one peer. The first is
// accepted at any length, further ones while they fit. The rest is rejected, and the
// session stays open.
func TestLargeFramesAboveTheBoundAreRejected(t *testing.T) {
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
	// SendFrame on the loop cannot reject a frame, so the session is closed as too slow.
	b.run()
	b.in(func() { k.s.SendFrame(make([]byte, 400_000)) })
	b.wantClosed(&k.wire, ErrSlow)
}

// TestPartsKeepTheirOrderAndCountAsOneFrame checks that the parts of an answer arrive in
// order with the frames around them, and that they are accepted or rejected as one large
// frame of their length.
func TestPartsKeepTheirOrderAndCountAsOneFrame(t *testing.T) {
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
}

// TestCloseFlushesLargeFrames checks that everything that was sent leaves before the
// session ends, within the time limit for closing.
func TestCloseFlushesLargeFrames(t *testing.T) {
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
		t.Error("the session ended before everything was sent")
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

// TestFailedWriteOfALargeFrameEndsTheSession fails a write in the middle of a large
// frame. The session ends once, and its handler may send to other sessions.
func TestFailedWriteOfALargeFrameEndsTheSession(t *testing.T) {
	var other *sink
	reset := errors.New("connection reset")
	h := &role{closed: func(*Client, error) { other.s.SendFrame([]byte("gone")) }}
	b := newLargeBench(t, h, LoopOptions{})
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

// TestTurnIsBoundedByBytes posts frames for many sessions: they do not all leave in one
// turn.
func TestTurnIsBoundedByBytes(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	for range 300 {
		if err := w.s.PushShared(make([]byte, 32<<10)); err != nil {
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

// TestFullTurnLeavesTheRestToTheNextTurn checks that after a turn reached its bound,
// turns for traffic run no items before the next Turn.
func TestFullTurnLeavesTheRestToTheNextTurn(t *testing.T) {
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
	b.Tick() // a Tick runs the rest even when a wake was lost
	if ran != 25 {
		t.Errorf("%d ran, want all", ran)
	}
}
