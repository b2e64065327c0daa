package conversation

import (
	"fmt"
	"testing"
	"time"
)

// TestHoldsAreBounded: a connection that fails in many conversations, or often in one,
// costs little.
func TestHoldsAreBounded(t *testing.T) {
	o := newSendOrder()
	for i := range 10_000 {
		o.failed(attempt{repeats: true, Message: Message{target: target{id: uint32(i)}, seq: 1},
			came: uint32(i)}, time.Time{})
		o.failed(attempt{repeats: true, Message: Message{target: target{id: 1},
			seq: uint16(i) + 1}, came: uint32(i)}, time.Time{})
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
	o.failed(a, a.at)
	a.came, b.came = 4, 5
	if o.admit(&b); fmt.Sprint(o.holds[0].unsettled[0].seq) != "2" {
		// B again without A: A is given up.
		t.Errorf("head is %d, want 2", o.holds[0].unsettled[0].seq)
	}
}

// TestOnlyTheMessageLetWaitIsGivenUp: A waited long for db_proxy's answer and failed
// together with B, which the sender wrote just before. A is given up, and C does not
// overtake B. When the sender repeats nothing for long, it has given up B as well.
func TestOnlyTheMessageLetWaitIsGivenUp(t *testing.T) {
	o, begin := newSendOrder(), time.Unix(1_700_000_000, 0)
	message := func(n uint16, at time.Duration) *attempt {
		return &attempt{repeats: true, Message: Message{target: target{id: 2}, seq: n,
			at: begin.Add(at)}, hash: uint64(n), came: uint32(n), await: stockPatience}
	}
	a, b := message(1, 0), message(2, 9*time.Second)
	if !o.admit(a) || !o.admit(b) {
		t.Fatal("A or B is refused")
	}
	known := begin.Add(9500 * time.Millisecond)
	o.failed(*a, known)
	o.failed(*b, known)
	if o.admit(message(3, 10*time.Second)) {
		t.Error("C overtakes B")
	}
	if !o.admit(message(4, 18*time.Second)) {
		t.Error("D is refused although the sender repeats nothing")
	}
}

// TestRepeatFailsAsWell: the sender repeats A once, in vain, and then gives it up. B, which
// was refused behind A, is not given up with it.
func TestRepeatFailsAsWell(t *testing.T) {
	o, begin := newSendOrder(), time.Unix(1_700_000_000, 0)
	came := uint32(0)
	message := func(seq uint16, at time.Duration) *attempt {
		came++
		return &attempt{repeats: true, Message: Message{target: target{id: 2}, seq: seq,
			at: begin.Add(at)}, hash: uint64(seq), came: came, await: stockPatience}
	}
	for _, at := range []time.Duration{0, 6 * time.Second} {
		a := message(1, at)
		if !o.admit(a) {
			t.Fatalf("A is refused after %v", at)
		}
		o.failed(*a, a.at)
	}
	if o.admit(message(2, 13*time.Second)) {
		t.Error("B is admitted while the sender may repeat A")
	}
	if o.admit(message(3, 15*time.Second)) {
		t.Error("C overtakes B")
	}
	if !o.admit(message(2, 19*time.Second)) || !o.admit(message(3, 21*time.Second)) {
		t.Error("B or C is refused although A is given up")
	}
}

// TestHeldRepeatFails: A and B have failed. The repeat of A is held and fails, and that of B is
// held, too. B does not overtake A, which its sender has not given up.
func TestHeldRepeatFails(t *testing.T) {
	o, begin := newSendOrder(), time.Unix(1_700_000_000, 0)
	message := func(seq uint16, came uint32) *attempt {
		return &attempt{repeats: true, Message: Message{target: target{id: 2}, seq: seq, at: begin},
			hash: uint64(seq), came: came, number: came, await: stockPatience}
	}
	o.failed(*message(1, 1), begin)
	o.failed(*message(2, 2), begin)
	a, b := message(1, 3), message(2, 4)
	if o.comesAgain(a); a.number != 1 {
		t.Errorf("the repeat of A has the place %d, want 1", a.number)
	}
	o.failed(*a, begin)
	if o.comesAgain(b); o.admit(b) {
		t.Error("B overtakes A")
	}
}
