package conversation

import (
	"fmt"
	"testing"
)

// TestHoldsAreBounded: a connection that fails in many conversations, or often in one,
// costs little.
func TestHoldsAreBounded(t *testing.T) {
	o := newSendOrder()
	for i := range 10_000 {
		o.failed(attempt{repeats: true, Message: Message{target: target{id: uint32(i)}, seq: 1},
			came: uint32(i)})
		o.failed(attempt{repeats: true, Message: Message{target: target{id: 1},
			seq: uint16(i) + 1}, came: uint32(i)})
	}
	total := 0
	for _, h := range o.holds {
		total += len(h.unsettled)
	}
	if len(o.holds) != maxHolds || total > maxHolds+maxUnsettled {
		t.Errorf("%d conversations with %d messages", len(o.holds), total)
	}
}

// TestFailureNotYetHeard: no message overtakes one that failed before the loop knows of
// the failure.
func TestFailureNotYetHeard(t *testing.T) {
	o := newSendOrder()
	a := attempt{repeats: true, Message: Message{target: target{id: 2}, seq: 1}, hash: 1, came: 1}
	b := attempt{repeats: true, Message: Message{target: target{id: 2}, seq: 2}, hash: 2, came: 2}
	other := attempt{Message: Message{target: target{id: 2, group: true}, seq: 3}, hash: 3, came: 3}
	if !o.admit(&a) {
		t.Fatal("the first message is refused")
	}
	o.fails(a.target)
	if o.admit(&b) || !o.admit(&other) {
		t.Error("B is admitted behind a failure, or the group is not")
	}
	o.heard(a.target)
	o.failed(a)
	a.came, b.came = 4, 5
	if o.admit(&b); fmt.Sprint(o.holds[0].unsettled[0].seq) != "2" {
		// B again without A: A is given up.
		t.Errorf("head is %d, want 2", o.holds[0].unsettled[0].seq)
	}
}
