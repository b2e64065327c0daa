package group

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/mono"
)

// TestPacedAreBounded: more users than are remembered.
func TestPacedAreBounded(t *testing.T) {
	p := pace{now: time.Now, after: mono.AfterFunc}
	for i := range uint32(2 * maxPaced) {
		if got := p.begin(i, func(counted int) { p.end(i, counted, 4000) }); got != asked {
			t.Fatalf("user %d: %d", i, got)
		}
	}
	if n := p.users.Len(); n != maxPaced {
		t.Errorf("%d users", n)
	}
}

// TestPacedKeepTheirOrder: a change that the rate would let pass at once does not overtake one
// that waits.
func TestPacedKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{now: time.Now, after: mono.AfterFunc}
		var order []int
		change := func(i int, want outcome) {
			t.Helper()
			if got := p.begin(1, func(int) { order = append(order, i) }); got != want {
				t.Errorf("change %d: outcome %d, want %d", i, got, want)
			}
		}
		change(0, asked)
		p.end(1, 0, toldBurst+2000) // two seconds beyond the burst
		change(1, waits)
		p.end(1, toldBurst+2000+2000, 0) // others were refused: everything is paid for
		change(2, waits)
		change(3, tooMany)
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []int{0, 1, 2}; !slices.Equal(order, want) {
			t.Errorf("the changes were made in the order %v, want %v", order, want)
		}
	})
}
