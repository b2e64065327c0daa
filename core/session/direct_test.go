package session

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/im"
)

// frameOf returns a frame of n bytes c, which distinguish it from other frames.
func frameOf(c byte, n int) []byte { return []byte(strings.Repeat(string(c), n)) }

// intact reports whether frame still consists of n bytes c.
func intact(frame []byte, c byte, n int) bool {
	return string(frame) == strings.Repeat(string(c), n)
}

// TestLongFramesKeepTheirOrder sends long and short frames in one turn: they leave in one
// write, in the order in which they were sent, and their bytes do not change.
func TestLongFramesKeepTheirOrder(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w, v := b.connect(), b.connect()
	long, longer := frameOf('L', directFrame), frameOf('M', largeFrame-1)
	for _, frame := range [][]byte{[]byte("a"), long, longer, []byte("b"), []byte("c"), long} {
		if err := w.s.PushShared(frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.FanOut([]*Client{w.s, v.s}, long, Tag{}); err != nil {
		t.Fatal(err)
	}
	b.turn()
	b.wantWrites(w, "a"+string(long)+string(longer)+"bc"+string(long)+string(long))
	b.wantWrites(v, string(long))
	b.in(func() {
		w.s.SendShared(long)
		w.s.SendFrame([]byte("d"))
		w.s.SendShared([]byte("e"))
	})
	b.wantWrites(w, string(long)+"de")
	if !intact(long, 'L', directFrame) || !intact(longer, 'M', largeFrame-1) {
		t.Error("a frame was changed")
	}
}

// TestLongFramesAreNotCopied checks that the carrier gets the slice of the frame itself,
// and that the loop keeps no reference to it.
func TestLongFramesAreNotCopied(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	var got [][]byte
	c := &looking{write: func(ps ...[]byte) { got = append(got, ps...) }}
	b.in(func() { c.s = b.AddClient(netip.AddrPort{}, c) })
	frame := frameOf('x', directFrame)
	for _, short := range []bool{false, true} {
		got = nil
		b.in(func() {
			if short {
				c.s.SendFrame([]byte("short"))
			}
			c.s.SendShared(frame)
		})
		if n := len(got); n == 0 || &got[n-1][0] != &frame[0] {
			t.Errorf("behind a short frame %v: the frame was copied", short)
		}
	}
	kept := func(f []byte) bool { return f != nil }
	if len(b.directs) != 1 || slices.ContainsFunc(b.directs[0].frames[:1], kept) ||
		b.pieces[:1][0] != nil {
		t.Error("the loop keeps the frame")
	}
}

// looking is a carrier that passes every write to a function.
type looking struct {
	s     *Client
	write func(ps ...[]byte)
}

func (c *looking) Write(p []byte) error    { c.write(p); return nil }
func (c *looking) Writev(p [][]byte) error { c.write(p...); return nil }
func (*looking) Buffered() int             { return 0 }
func (*looking) Close()                    {}

// TestPlainCarrierGetsLongFramesInOrder uses a carrier without Writev.
func TestPlainCarrierGetsLongFramesInOrder(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	writes := 0
	c := &counting{write: func() { writes++ }}
	b.in(func() {
		s := b.AddClient(netip.AddrPort{}, c)
		s.SendFrame([]byte("a"))
		s.SendShared(frameOf('L', directFrame))
		s.SendFrame([]byte("b"))
	})
	if c.bytes != directFrame+2 || writes != 3 {
		t.Errorf("%d bytes in %d writes", c.bytes, writes)
	}
}

// TestManyLongFramesRespectTheKernelLimit sends more long frames than the kernel accepts
// in one write: all of them leave in order, in no more slices than the kernel accepts.
func TestManyLongFramesRespectTheKernelLimit(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxBuffered: 1 << 30})
	var got, want strings.Builder
	c := &looking{write: func(ps ...[]byte) {
		if len(ps) > 1024 {
			t.Errorf("%d slices at once", len(ps))
		}
		for _, p := range ps {
			got.Write(p)
		}
	}}
	b.in(func() {
		s := b.AddClient(netip.AddrPort{}, c)
		for i := range 1100 {
			frame := frameOf(byte('a'+i%26), directFrame)
			want.Write(frame)
			want.WriteString("-")
			s.SendShared(frame)
			s.SendFrame([]byte("-"))
		}
	})
	if got.String() != want.String() {
		t.Errorf("%d bytes of %d, or in another order", got.Len(), want.Len())
	}
}

// TestLongFramesCountForBounds checks that frames without a copy count for MaxBuffered
// and for the bound of the mailbox as copied frames do.
func TestLongFramesCountForBounds(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxBuffered: 4 * directFrame, MaxBytes: 4 * directFrame})
	w, v := b.connect(), b.connect()
	frame := frameOf('L', directFrame)
	w.buffered, v.buffered = 2*directFrame, 2*directFrame
	b.in(func() {
		w.s.SendShared(frame)
		w.s.SendShared(frame)
		v.s.SendShared(frame)
		v.s.SendShared(frame)
		v.s.SendFrame([]byte("."))
	})
	b.wantOpen(w)
	b.wantClosed(v, ErrSlow)
	if len(v.writes) != 0 {
		t.Error("written to a peer that does not read")
	}
	for range 4 {
		if err := w.s.PushShared(frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.PushShared([]byte(".")); im.KindOf(err) != im.Busy {
		t.Errorf("beyond the mailbox's bound: %v", err)
	}
}

// TestLongFramesKeepTheirOrderAmongLargeOnes mixes long frames with frames that are sent
// in pieces.
func TestLongFramesKeepTheirOrderAmongLargeOnes(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	w := b.connect()
	long, large := frameOf('L', directFrame), frameOf('G', largeFrame)
	send := func() {
		w.s.SendFrame([]byte("a"))
		w.s.SendShared(long)
		w.s.SendFrame([]byte("b"))
		w.s.SendShared(large)
		w.s.SendShared(long)
		w.s.SendFrame([]byte("c"))
	}
	b.in(send)
	one := "a" + string(long) + "b" + string(large) + string(long) + "c"
	if got := strings.Join(w.writes, ""); got != one {
		t.Errorf("%d bytes in another order", len(got))
	}
	w.writes = nil
	// While the large frame waits, frames of later turns wait behind it.
	w.buffered = 1 << 20
	b.in(func() { w.s.SendShared(large) })
	w.buffered = 0
	b.in(send)
	if got := strings.Join(w.writes, ""); got != string(large)+one {
		t.Errorf("behind a large one: %d bytes in another order", len(got))
	}
	if !intact(long, 'L', directFrame) {
		t.Error("a frame was changed")
	}
}

// TestEndedSessionsKeepNoFrames ends sessions during a write and before it: they keep no
// frames, and nothing is sent to a closed session.
func TestEndedSessionsKeepNoFrames(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	broken, gone, closing := b.connect(), b.connect(), b.connect()
	long := frameOf('L', directFrame)
	broken.broken = ErrClosed
	b.in(func() {
		broken.s.SendFrame([]byte("a"))
		broken.s.SendShared(long)
		gone.s.SendShared(long)
		gone.end(nil)
		closing.s.SendShared(long)
		closing.s.Close(ErrIdle)
		closing.s.SendShared(long)
	})
	b.wantClosed(broken, ErrClosed)
	b.wantWrites(closing, string(long))
	b.wantClosed(closing, ErrIdle)
	for i, w := range []*wire{broken, gone, closing} {
		if w.s.direct != nil || w.s.out != nil {
			t.Errorf("session %d keeps what it was sent", i)
		}
	}
}
