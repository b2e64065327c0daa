package admission

import (
	"net/netip"
	"testing"
	"time"
)

// TestFightsAreBounded: more users and addresses than are remembered.
func TestFightsAreBounded(t *testing.T) {
	f, now := newFights(), time.Now()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	for i := range 2 * maxFights {
		f.kicked(uint32(i), 0, addr(0), now)
	}
	if n := f.users.Len(); n != maxFights {
		t.Errorf("%d users", n)
	}
	for i := range fightSides + 1 {
		f.kicked(1, 0, addr(i), now.Add(time.Duration(i)*time.Millisecond))
	}
	if f.wait(1, 0, addr(0), now) != 0 {
		t.Error("the first of five addresses is remembered")
	}
	for i := 1; i <= fightSides; i++ {
		if f.wait(1, 0, addr(i), now) == 0 {
			t.Errorf("address %d is not slowed", i)
		}
	}
	if f.wait(1, 1, addr(1), now) != 0 || f.wait(1, 0, addr(1), now.Add(fightMemory)) != 0 {
		t.Error("the other class, or a kick of long ago, slows")
	}
}
