package msg

import (
	"math/rand/v2"
	"slices"
	"testing"

	"teamtalk/core/session"
)

// TestUnacked compares the ring with a plain list.
func TestUnacked(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var u unacked
	var pool ringPool
	var want []uint32
	check := func() {
		t.Helper()
		var got []uint32
		size := 0
		for i := range int(u.n) {
			got = append(got, u.at(i).tag.ID)
			size += len(u.at(i).frame)
		}
		if !slices.Equal(got, want) || int(u.bytes) != size {
			t.Fatalf("%v with %d bytes, want %v", got, u.bytes, want)
		}
		if u.n == 0 {
			for _, d := range u.ring {
				if d.frame != nil {
					t.Fatal("a frame is kept that is not waited for")
				}
			}
		}
	}
	for id := uint32(1); id < 20_000; id++ {
		if frame := make([]byte, rnd.IntN(3)); rnd.IntN(100) < 60 {
			for u.full(len(frame)) {
				u.remove(0)
				want = want[1:]
			}
			u.add(delivery{tag: session.Tag{Peer: 1, ID: id}, frame: frame}, &pool)
			want = append(want, id)
		}
		for rnd.IntN(100) < 40 && len(want) > 0 {
			i := 0
			if rnd.IntN(3) == 0 {
				i = rnd.IntN(len(want))
			}
			if at := u.find(session.Tag{Peer: 1, ID: want[i]}); at != i {
				t.Fatalf("found at %d, want %d", at, i)
			}
			u.remove(i)
			want = slices.Delete(want, i, i+1)
		}
		if rnd.IntN(500) == 0 {
			u.drop(&pool)
			want = nil
		}
		check()
	}
	u.add(delivery{tag: session.Tag{Peer: 1, ID: 1 << 30}}, &pool)
	for _, other := range []session.Tag{{Peer: 1, ID: 1 << 29}, {Peer: 2, ID: 1 << 30}, {Peer: 1, ID: 1 << 30, Flags: tagGroup}} {
		if u.find(other) != -1 {
			t.Errorf("found %v, which is not there", other)
		}
	}
}

// TestUnackedBounds: one frame of any length is followed, more only so many bytes.
func TestUnackedBounds(t *testing.T) {
	var u unacked
	var pool ringPool
	huge := make([]byte, maxUnackedBytes+1)
	if u.full(len(huge)) {
		t.Fatal("a single frame is not followed")
	}
	u.add(delivery{frame: huge}, &pool)
	if !u.full(1) {
		t.Fatal("not full")
	}
	u.remove(0)
	for range maxUnacked {
		if u.full(1) {
			t.Fatalf("full with %d", u.n)
		}
		u.add(delivery{frame: huge[:1]}, &pool)
	}
	if !u.full(1) || len(u.ring) != maxUnacked {
		t.Fatalf("%d followed, ring of %d", u.n, len(u.ring))
	}
}
