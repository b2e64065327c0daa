package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// upTo returns the numbers from first to last.
func upTo(first, last uint32) (list []uint32) {
	for n := first; n <= last; n++ {
		list = append(list, n)
	}
	return list
}

func TestStream(t *testing.T) {
	type came struct {
		n, id uint32
		want  verdict
	}
	for _, c := range []struct {
		name    string
		came    []came
		sent    uint32
		missing []uint32
	}{
		{"in order", []came{{1, 10, good}, {2, 11, good}, {3, 15, good}}, 3, nil},
		{"nothing", nil, 3, []uint32{1, 2, 3}},
		{"the last is missing", []came{{1, 1, good}, {2, 2, good}}, 3, []uint32{3}},
		{"the first is missing", []came{{2, 2, good}, {3, 3, good}}, 3, []uint32{1}},
		{"twice", []came{{1, 1, good}, {1, 1, duplicate}, {2, 2, good}, {1, 1, duplicate},
			{2, 2, duplicate}}, 2, nil},
		{"twice within the window", []came{{1, 1, good}, {3, 3, good}, {3, 3, duplicate}}, 3,
			[]uint32{2}},
		{"later one first", []came{{2, 2, good}, {1, 1, reordered}, {3, 3, good}}, 3, nil},
		{"numbers in order, msg_ids not", []came{{1, 5, good}, {2, 4, reordered}, {3, 6, good}}, 3,
			nil},
		{"the same msg_id twice", []came{{1, 5, good}, {2, 5, reordered}}, 2, nil},
		{"far behind", []came{{2, 2, good}, {200, 200, good}, {1, 1, reordered}, {1, 1, duplicate},
			{200, 200, duplicate}}, 200, upTo(3, 102)},
	} {
		var s stream
		for i, m := range c.came {
			if got := s.came(m.n, m.id); got != m.want {
				t.Errorf("%s: delivery %d, of number %d: verdict %d, want %d", c.name, i, m.n, got,
					m.want)
			}
		}
		if got := s.missing(c.sent, 100); !slices.Equal(got, c.missing) {
			t.Errorf("%s: missing %v, want %v", c.name, got, c.missing)
		}
	}
}

// TestStreamModel compares a stream with a model that remembers each number, while the
// holes fit.
func TestStreamModel(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var s stream
		came := map[uint32]bool{}
		most := uint32(0)
		next := uint32(1)
		for range 500 {
			var n uint32
			switch rng.IntN(10) {
			case 0: // one of the last hundred, again or late
				n = next - min(next-1, uint32(rng.IntN(100)))
			case 1: // some are left out
				next += uint32(rng.IntN(80))
				n = next
				next++
			default:
				n = next
				next++
			}
			want := good
			switch {
			case came[n]:
				want = duplicate
			case n < most:
				want = reordered
			}
			came[n] = true
			most = max(most, n)
			if got := s.came(n, n); got != want {
				t.Fatalf("seed %d, number %d: verdict %d, want %d", seed, n, got, want)
			}
			if int(s.count) != len(came) {
				t.Fatalf("seed %d: %d arrived, counted %d", seed, len(came), s.count)
			}
		}
		for n := uint32(1); n < next+70; n++ {
			if s.has(n) != came[n] {
				t.Fatalf("seed %d: has %d is %v", seed, n, s.has(n))
			}
		}
	}
}

// TestStreamBounded checks that a stream with more holes than it lists stays small and
// still counts.
func TestStreamBounded(t *testing.T) {
	var s stream
	for n := uint32(2); n < 100_000; n += 2 {
		if v := s.came(n, n); v != good {
			t.Fatalf("number %d: %d", n, v)
		}
	}
	if s.count != 49_999 || len(s.holes.numbers) > maxHoles {
		t.Errorf("counted %d, %d holes", s.count, len(s.holes.numbers))
	}
}

func TestRequestsModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var q requests
		waiting := map[uint16]uint32{}
		number := uint32(0)
		for range 200_000 {
			if rng.IntN(3) > 0 || len(waiting) == 0 {
				number++
				seq, lost := q.add(request{number: number, op: opAck})
				if seq == 0 {
					t.Fatal("seq 0 was used, which belongs to the server")
				}
				if lost.op != opNone {
					delete(waiting, seqOf(uint64(lost.number-1)))
				}
				if _, used := waiting[seq]; used {
					t.Fatalf("seq %d used again while its request is pending", seq)
				}
				waiting[seq] = number
				continue
			}
			if len(waiting) > 1000 && rng.IntN(100) > 50 {
				continue // some phases fill it up
			}
			for seq, n := range waiting {
				if r := q.answered(seq); r.number != n || r.op != opAck {
					t.Fatalf("seq %d: number %d, want %d", seq, r.number, n)
				}
				if r := q.answered(seq); r.op != opNone {
					t.Fatalf("seq %d answered twice", seq)
				}
				delete(waiting, seq)
				break
			}
		}
		if q.open != len(waiting) {
			t.Errorf("%d wait, want %d", q.open, len(waiting))
		}
		n := 0
		q.waiting(func(r request) {
			n++
			if waiting[seqOf(uint64(r.number-1))] != r.number {
				t.Errorf("number %d is pending", r.number)
			}
		})
		if n != len(waiting) || len(q.ring) > maxWaiting {
			t.Errorf("%d wait, want %d, in a ring of %d", n, len(waiting), len(q.ring))
		}
	}
	var q requests
	if r := q.answered(1); r.op != opNone {
		t.Error("an answer to nothing is taken")
	}
}
