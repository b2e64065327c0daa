package conversation

import (
	"math/rand/v2"
	"slices"
	"testing"

	"teamtalk/core/session"
)

// listed is a delivery in the plain list that TestUnacked compares with.
type listed struct {
	tag   session.Tag
	frame []byte
}

// TestUnacked compares the ring with a plain list.
func TestUnacked(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var u unacked
	var pool ringPool
	var want []listed
	check := func() {
		t.Helper()
		var got []listed
		size, remembered := 0, 0
		for i := range int(u.n) {
			d := u.at(i)
			got = append(got, listed{d.tag, d.frame})
			size += len(d.frame)
			if d.frame == nil {
				remembered++
			}
		}
		same := slices.EqualFunc(got, want, func(a, b listed) bool {
			return a.tag == b.tag && len(a.frame) == len(b.frame)
		})
		if !same || int(u.bytes) != size {
			t.Fatalf("%v with %d bytes, want %v", got, u.bytes, want)
		}
		if int(u.remembered) != remembered || remembered > maxRemembered {
			t.Fatalf("%d remembered, counted as %d", remembered, u.remembered)
		}
		if u.n == 0 {
			for _, d := range u.ring {
				if d.frame != nil {
					t.Fatal("a frame is kept that is not waited for")
				}
			}
		}
	}
	// makeRoom does to the list what it should do to the ring.
	makeRoom := func(frame []byte) {
		remembered := func(l listed) bool { return l.frame == nil }
		if i := slices.IndexFunc(want, remembered); frame == nil && u.remembered >= maxRemembered {
			want = slices.Delete(want, i, i+1)
		}
		if len(want) >= maxUnacked {
			want = want[1:]
		}
	}
	for id := uint32(1); id < 20_000; id++ {
		if rnd.IntN(100) < 60 {
			d := delivery{tag: session.Tag{Peer: id % 3, ID: id}, frame: make([]byte, rnd.IntN(3))}
			if rnd.IntN(3) == 0 {
				d.frame = nil
			}
			makeRoom(d.frame)
			u.makeRoom(&d)
			u.add(d, &pool)
			want = append(want, listed{d.tag, d.frame})
		}
		for rnd.IntN(100) < 40 && len(want) > 0 {
			i := 0
			if rnd.IntN(3) == 0 {
				i = rnd.IntN(len(want))
			}
			if at := u.find(want[i].tag); at != i {
				t.Fatalf("found at %d, want %d", at, i)
			}
			u.remove(i)
			want = slices.Delete(want, i, i+1)
		}
		if rnd.IntN(50) == 0 {
			peer := uint32(rnd.IntN(3))
			u.takeOut(func(d *delivery) bool { return d.tag.Peer == peer })
			want = slices.DeleteFunc(want, func(l listed) bool { return l.tag.Peer == peer })
		}
		if rnd.IntN(500) == 0 {
			u.drop(&pool)
			want = nil
		}
		check()
	}
	u.add(delivery{tag: session.Tag{Peer: 1, ID: 1 << 30}}, &pool)
	for _, other := range []session.Tag{{Peer: 1, ID: 1 << 29}, {Peer: 2, ID: 1 << 30},
		{Peer: 1, ID: 1 << 30, Flags: TagGroup}} {
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
