package budget

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNewRaisesTheLimitOfOpenFiles(t *testing.T) {
	b, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	if lim.Cur != lim.Max {
		t.Errorf("the soft limit is still %d of %d", lim.Cur, lim.Max)
	}
	if b.Limit() < 1 || uint64(b.Limit()) >= lim.Cur {
		t.Errorf("%d connections with %d files", b.Limit(), lim.Cur)
	}
}

func TestTakeStopsAtTheLimit(t *testing.T) {
	b := Fixed(100)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if b.Take() && b.Used() > b.Limit() {
					t.Errorf("%d connections used, the limit is %d", b.Used(), b.Limit())
				}
			}
		})
	}
	wg.Wait()
	if b.Used() != 100 || b.Take() {
		t.Errorf("%d of 100 used after 200 calls of Take", b.Used())
	}
	b.Put()
	if !b.Take() {
		t.Error("no room after Put")
	}
}
