package admission

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestRefusalsAreBounded: an address that tries many names makes the server forget its
// own.
func TestRefusalsAreBounded(t *testing.T) {
	r, now := newRefusals(), time.Now()
	addr := netip.MustParseAddr("10.0.0.1")
	for i := range 3 * refusedNames {
		r.refused(addr, fmt.Sprint(i), now)
	}
	total := 0
	for i := range r.shards {
		total += r.shards[i].pairs.Len()
	}
	if total != refusedNames {
		t.Errorf("%d names of one address remembered", total)
	}
	if d := r.refused(addr, fmt.Sprint(3*refusedNames-1), now); d != time.Second {
		t.Errorf("the last one waits %v", d)
	}
	if d := r.refused(addr, "0", now); d != 0 {
		t.Errorf("the first one waits %v", d)
	}
	if d := r.refused(addr, "ANNA", now) + r.refused(addr, "anna", now); d != time.Second {
		t.Errorf("another spelling waits %v", d)
	}
}
