package conversation

import (
	"math/rand/v2"
	"slices"
	"testing"

	"teamtalk/core/session"

	"github.com/google/go-cmp/cmp"
)

// listed is a delivery in the plain list that TestUnacked compares with.
type listed struct {
	tag   session.Tag
	frame []byte
}

// modelled is the ring and the plain list that it is compared with.
type modelled struct {
	unacked
	pool ringPool
	want []listed
}

// check compares the ring with the list.
func (m *modelled) check(t *testing.T) {
	t.Helper()
	var got []listed
	size, remembered := 0, 0
	for i := range int(m.n) {
		d := m.at(i)
		got = append(got, listed{d.tag, d.frame})
		size += len(d.frame)
		if d.frame == nil {
			remembered++
		}
	}
	same := slices.EqualFunc(got, m.want, func(a, b listed) bool {
		return a.tag == b.tag && len(a.frame) == len(b.frame)
	})
	if !same || int(m.bytes) != size {
		t.Fatalf("%d bytes, want %d; the deliveries differ (-want +got):\n%s", m.bytes, size,
			cmp.Diff(m.want, got, cmp.AllowUnexported(listed{})))
	}
	if int(m.remembered) != remembered || remembered > maxRemembered {
		t.Fatalf("%d remembered, counted as %d", remembered, m.remembered)
	}
	if m.n == 0 {
		for _, d := range m.ring {
			if d.frame != nil {
				t.Fatal("a frame is kept that is not waited for")
			}
		}
	}
}

// addBoth adds a delivery to the ring and to the list, and makes room in both before.
func (m *modelled) addBoth(d delivery) {
	remembered := func(l listed) bool { return l.frame == nil }
	if i := slices.IndexFunc(m.want, remembered); d.frame == nil &&
		m.unacked.remembered >= maxRemembered {
		m.want = slices.Delete(m.want, i, i+1)
	}
	if len(m.want) >= maxUnacked {
		m.want = m.want[1:]
	}
	m.makeRoom(&d, func(*delivery) {})
	m.add(d, &m.pool)
	m.want = append(m.want, listed{d.tag, d.frame})
}

// removeBoth removes the delivery at i from the ring and from the list.
func (m *modelled) removeBoth(t *testing.T, i int) {
	t.Helper()
	if at := m.find(m.want[i].tag); at != i {
		t.Fatalf("found at %d, want %d", at, i)
	}
	m.remove(i)
	m.want = slices.Delete(m.want, i, i+1)
}

// TestUnacked compares the ring with a plain list.
func TestUnacked(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var m modelled
	for id := uint32(1); id < 20_000; id++ {
		if rnd.IntN(100) < 60 {
			d := delivery{tag: session.Tag{Peer: id % 3, ID: id}, frame: make([]byte, rnd.IntN(3))}
			if rnd.IntN(3) == 0 {
				d.frame = nil
			}
			m.addBoth(d)
		}
		for rnd.IntN(100) < 40 && len(m.want) > 0 {
			i := 0
			if rnd.IntN(3) == 0 {
				i = rnd.IntN(len(m.want))
			}
			m.removeBoth(t, i)
		}
		if rnd.IntN(50) == 0 {
			peer := uint32(rnd.IntN(3))
			m.takeOut(func(d *delivery) bool { return d.tag.Peer == peer })
			m.want = slices.DeleteFunc(m.want, func(l listed) bool { return l.tag.Peer == peer })
		}
		if rnd.IntN(500) == 0 {
			m.drop(&m.pool)
			m.want = nil
		}
		m.check(t)
	}
	m.add(delivery{tag: session.Tag{Peer: 1, ID: 1 << 30}}, &m.pool)
	for _, other := range []session.Tag{{Peer: 1, ID: 1 << 29}, {Peer: 2, ID: 1 << 30},
		{Peer: 1, ID: 1 << 30, Flags: TagGroup}} {
		if m.find(other) != -1 {
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
