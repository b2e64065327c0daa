package session

import "testing"

// TestUnreadAndFits: Unread counts what the peer has not read, and a frame that fits is
// sent, while one that does not would end the session.
func TestUnreadAndFits(t *testing.T) {
	b := newLargeBench(t, &role{}, LoopOptions{MaxBuffered: 256 << 10})
	k := b.sink(0)
	check := func(unread int, small, large bool) {
		t.Helper()
		b.in(func() {
			if n := k.s.Unread(); n != unread {
				t.Errorf("%d bytes unread, want %d", n, unread)
			}
			if k.s.Fits(60<<10) != small || k.s.Fits(3<<20) != large {
				t.Errorf("small %v, large %v, want %v, %v", k.s.Fits(60<<10), k.s.Fits(3<<20),
					small, large)
			}
		})
	}
	check(0, true, true)
	b.in(func() { k.s.SendFrame(frameOf('s', 50<<10)) })
	check(50<<10, true, true)
	b.in(func() { k.s.SendShared(frameOf('L', 2<<20)) })
	b.run()
	check(50<<10+2<<20, false, false) // a piece of the large frame is with the carrier
	k.read(4 << 20)
	for range 100 {
		if len(b.pauses) > 0 {
			b.pause()
		}
		b.run()
		k.read(0)
	}
	check(0, true, true)
	if k.s.IsClosed() {
		t.Error("closed")
	}
}
