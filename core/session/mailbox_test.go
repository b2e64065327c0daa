package session

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestMailboxKeepsTheOrderOfEachPoster posts from several goroutines. All items run, and
// those of one goroutine run in its order.
func TestMailboxKeepsTheOrderOfEachPoster(t *testing.T) {
	const posters, each = 8, 500
	wake := make(chan struct{}, 2)
	l := NewLoop(LoopOptions{
		Clients: &role{}, MaxTurn: 64, Wake: func(*Loop, bool) { wake <- struct{}{} },
	})
	var got [posters][]int
	total := 0
	done := make(chan struct{})
	note := func(p, i int) {
		got[p] = append(got[p], i)
		if total++; total == posters*each {
			close(done)
		}
	}
	go func() {
		for {
			select {
			case <-wake:
				l.Turn()
			case <-done:
				return
			}
		}
	}()
	for p := range posters {
		go func() {
			for i := range each {
				if i%2 == 0 {
					l.Post(func() { note(p, i) })
				} else {
					l.PostResult(func(pb.Message, error) { note(p, i) }, nil, nil)
				}
			}
		}()
	}
	<-done
	for p, order := range got {
		if sorted := slices.IsSorted(order); len(order) != each || !sorted {
			t.Errorf("poster %d: %d of %d, in order: %v", p, len(order), each, sorted)
		}
	}
}

func TestResultsArriveAsPosted(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	m, failure := &pb.IMHeartBeat{}, errors.New("failed")
	ran := false
	b.PostResult(func(got pb.Message, err error) {
		ran = true
		if got != m || err != failure {
			t.Errorf("got %v, %v", got, err)
		}
	}, m, failure)
	b.turn()
	if !ran {
		t.Error("the result did not arrive")
	}
}

// TestOneWakePerTurn checks that posts before and during a turn call Wake at most once.
func TestOneWakePerTurn(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	ran := 0
	b.Post(func() {
		ran++
		b.Post(func() { ran++ }) // the current turn runs this function too
	})
	b.Post(func() { ran++ })
	b.wantWakes(false)
	b.turn()
	b.wantWakes()
	if ran != 3 {
		t.Errorf("%d of 3 ran in the turn", ran)
	}
	b.Post(func() { ran++ })
	b.wantWakes(false)
	// A turn for traffic runs the item. The Turn after the pending wake finds nothing.
	b.in(func() {})
	if ran != 4 {
		t.Errorf("%d of 4 ran", ran)
	}
	b.Post(func() { ran++ })
	b.wantWakes(false)
	b.turn()
	if ran != 5 {
		t.Errorf("%d of 5 ran", ran)
	}
}

func TestTurnRunsAtMostMaxTurnItems(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxTurn: 10})
	var ran []int
	for i := range 25 {
		b.Post(func() { ran = append(ran, i) })
	}
	b.wantWakes(false)
	for _, want := range []int{10, 20} {
		b.turn()
		if len(ran) != want {
			t.Fatalf("%d ran, want %d", len(ran), want)
		}
		b.wantWakes(true)
	}
	b.Post(func() { ran = append(ran, 25) }) // runs after the remaining items
	b.wantWakes(true)
	b.turn()
	b.wantWakes()
	if len(ran) != 26 || !slices.IsSorted(ran) {
		t.Errorf("ran %v", ran)
	}
}

// TestPostsDuringATurnRunBehindItsItems posts from items of a turn. The items of the turn
// still run first, in order.
func TestPostsDuringATurnRunBehindItsItems(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	var ran []int
	for i := range 4 {
		b.Post(func() {
			ran = append(ran, i)
			for j := range 3 {
				b.Post(func() { ran = append(ran, 10*(i+1)+j) })
			}
		})
	}
	b.turn()
	want := []int{0, 1, 2, 3, 10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42}
	if !slices.Equal(ran, want) {
		t.Errorf("ran %v", ran)
	}
}

// TestPendingWakeIsNotRepeated runs a turn for traffic that reaches its bound while a
// wake is pending already.
func TestPendingWakeIsNotRepeated(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxTurn: 10})
	for range 15 {
		b.Post(func() {})
	}
	b.in(func() {})
	b.wantWakes(false)
	b.turn()
	b.wantWakes()
}

func TestFullMailboxClosesTheReceiver(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxItems: 2})
	full, fine := b.connect(), b.connect()
	b.step("frames above the bound are dropped", func() {
		for range 2 {
			if err := fine.s.PushShared([]byte("x")); err != nil {
				b.t.Fatal(err)
			}
		}
		for range 1000 {
			if err := full.s.PushShared([]byte("y")); im.KindOf(err) != im.Busy {
				b.t.Fatalf("got %v, want busy", err)
			}
		}
		if n := len(b.overflow); n != 1 {
			b.t.Errorf("%d entries for one session, want one for all dropped frames", n)
		}
	})
	b.step("the turn runs functions and closes the receiver", func() {
		ran := false
		// Functions are never dropped: without its result a session would wait forever.
		b.Post(func() { ran = true })
		b.turn()
		if !ran {
			b.t.Error("a function was dropped")
		}
		b.wantClosed(full, ErrOverflow)
		b.wantWrites(full)
		b.wantWrites(fine, "xx")
		b.wantOpen(fine)
		b.wantCount("drops", testutil.ToFloat64(b.metrics.mailboxDrops), 1000)
		b.wantCount("closed for overflow", b.closedFor("overflow"), 1)
	})
	b.step("the drained mailbox accepts frames", func() {
		if err := fine.s.PushShared([]byte("z")); err != nil {
			b.t.Error(err)
		}
		b.turn()
		b.wantWrites(fine, "z")
	})
}

func TestMailboxIsBoundedByBytes(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxBytes: 100})
	ws := []*wire{b.connect(), b.connect(), b.connect()}
	group := []*Client{ws[0].s, ws[1].s}
	if err := b.FanOut(group, make([]byte, 40), Tag{}); err != nil {
		t.Fatal(err)
	}
	if err := ws[2].s.PushShared(make([]byte, 44)); err != nil {
		t.Fatal(err) // 40 + 2*8 + 44: just fits
	}
	if err := b.FanOut(group, make([]byte, 1), Tag{}); im.KindOf(err) != im.Busy {
		t.Fatalf("got %v, want busy", err)
	}
	b.turn()
	b.wantClosed(ws[0], ErrOverflow)
	b.wantClosed(ws[1], ErrOverflow)
	b.wantOpen(ws[2])
	// The bytes are free again.
	if err := ws[2].s.PushShared(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	b.turn()
	b.wantOpen(ws[2])
}

// TestFanOutWritesBetweenCopies checks that a frame for a large group is not copied for
// all sessions before the first copies are written.
func TestFanOutWritesBetweenCopies(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{})
	group, most := make([]*Client, 1200), 0
	b.in(func() {
		for i := range group {
			group[i] = b.AddClient(netip.AddrPort{}, &counting{write: func() {
				sum := 0
				for _, s := range group {
					sum += len(s.out)
				}
				most = max(most, sum)
			}})
		}
	})
	frame := make([]byte, directFrame-1)
	if err := b.FanOut(group, frame, Tag{}); err != nil {
		t.Fatal(err)
	}
	b.turn()
	if most == 0 || most > maxTurnBytes+len(frame) {
		t.Errorf("%d bytes copied at once", most)
	}
	for i, s := range group {
		if n := s.carrier.(*counting).bytes; n != len(frame) {
			t.Fatalf("connection %d got %d bytes", i, n)
		}
	}
}

// counting is a carrier that counts bytes and calls a function before each write.
type counting struct {
	write func()
	bytes int
}

func (c *counting) Write(p []byte) error {
	c.write()
	c.bytes += len(p)
	return nil
}

func (c *counting) Buffered() int { return 0 }

func (c *counting) Close() {}

// TestEmptyMailboxAcceptsAFrameAboveTheBound posts one frame to a group that exceeds the
// bound. A mailbox that rejected it once would reject it forever.
func TestEmptyMailboxAcceptsAFrameAboveTheBound(t *testing.T) {
	b := newBench(t, &role{}, LoopOptions{MaxBytes: 100})
	w, v := b.connect(), b.connect()
	if err := b.FanOut([]*Client{w.s, v.s}, make([]byte, 90), Tag{}); err != nil {
		t.Fatal(err)
	}
	if err := w.s.PushShared([]byte("x")); im.KindOf(err) != im.Busy {
		t.Fatalf("got %v, want busy", err)
	}
	b.turn()
	b.wantWrites(v, strings.Repeat("\x00", 90))
	b.wantClosed(w, ErrOverflow)
}
