package process

import (
	"runtime"
	"testing"
)

// TestSpareProcessors: each loop gets a processor, unless the operator has set
// GOMAXPROCS.
func TestSpareProcessors(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	t.Setenv("GOMAXPROCS", "")
	for loops, want := range map[int]int{0: 2 * cores, 1: cores + 1, 5: cores + 5} {
		restore := SpareProcessors(loops)
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("%d loops on %d cores: %d processors, want %d", loops, cores, got, want)
		}
		restore()
	}
	t.Setenv("GOMAXPROCS", "3")
	SpareProcessors(4)()
	if got := runtime.GOMAXPROCS(0); got != cores {
		t.Errorf("%d processors although GOMAXPROCS is set", got)
	}
}
