package directory

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// departsIn sends a request to a book and returns the ids and the time in the answer.
func departsIn(t *testing.T, b *Book[im.Depart], since uint32) (ids []uint32, told uint32) {
	t.Helper()
	m, err := b.Reply(t.Context(), 7, since, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := m.(*pb.Encoded); ok {
		if m, err = e.Decode(); err != nil {
			t.Fatal(err)
		}
	}
	rsp := m.(*pb.IMDepartmentRsp)
	for _, d := range rsp.GetDeptList() {
		ids = append(ids, d.GetDeptId())
	}
	return ids, rsp.GetLatestUpdateTime()
}

// TestThreeRequests: six thousand rows that changed in the same second are sent once.
// They are sent again only to a client that asks during the seconds in which more rows of
// that second may become visible.
func TestThreeRequests(t *testing.T) {
	const n = 6000
	for _, test := range []struct {
		name  string
		pause []time.Duration // before each request
		want  []int
	}{
		{"settled", []time.Duration{10 * time.Second, 0, 0}, []int{n, 0, 0}},
		{"young", []time.Duration{0, 10 * time.Second, 0}, []int{n, n, 0}},
		{"all at once, then later", []time.Duration{0, 0, 0, 10 * time.Second, 0},
			[]int{n, n, n, n, 0}},
		{"5 s between", []time.Duration{0, 5 * time.Second, 5 * time.Second, 0}, []int{n, n, n, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tab := newTable()
			now := uint32(tab.now.Unix())
			for i := range uint32(n) {
				tab.set(im.Depart{ID: i + 1, Updated: now})
			}
			b, since := tab.book(), uint32(0)
			for i, pause := range test.pause {
				tab.pass(pause)
				ids, told := departsIn(t, b, since)
				if len(ids) != test.want[i] || told > uint32(tab.now.Unix()) || told == 0 {
					t.Errorf("request %d, since %d: %d rows, told %d; want %d", i+1, since,
						len(ids), told, test.want[i])
				}
				since = told
			}
		})
	}
}

// TestLateRows: rows that become visible up to seven seconds after their time, in any
// second around a request, are sent to a client that asks with the time in its last
// answer, at once or much later.
func TestLateRows(t *testing.T) {
	for late := range uint32(8) {
		for _, later := range []time.Duration{1e9, 5e9, time.Minute, time.Hour} {
			tab := newTable()
			now := uint32(tab.now.Unix())
			for i := range uint32(5) {
				tab.set(im.Depart{ID: i + 1, Updated: now - 4 + i})
			}
			tab.set(im.Depart{ID: 6, Updated: now + 5}) // by a clock that is ahead
			b := tab.book()
			_, since := departsIn(t, b, 0)
			tab.set(im.Depart{ID: 9, Updated: now - late})
			tab.pass(later)
			ids, told := departsIn(t, b, since)
			if fmt.Sprint(ids) == "[]" || ids[len(ids)-1] != 9 {
				t.Errorf("%d s late, asked after %s since %d: %v", late, later, since, ids)
			}
			tab.pass(20 * time.Second)
			_, told = departsIn(t, b, told)
			if ids, _ := departsIn(t, b, told); len(ids) != 0 {
				t.Errorf("%d s late, asked after %s: %v is told for ever", late, later, ids)
			}
		}
	}
}

// TestOwnClock: a client that sends the time of its own clock at the last answer misses
// no row, although its clock is up to 45 s ahead or behind. No row is sent for ever.
func TestOwnClock(t *testing.T) {
	for _, off := range []int64{-45, -5, 0, 5, 45} {
		tab := newTable()
		start := tab.now.Unix()
		tab.set(im.Depart{ID: 1, Updated: uint32(start) - 1000})
		b := tab.book()
		departsIn(t, b, 0)
		since := uint32(start + off)
		tab.pass(3 * time.Second)
		tab.set(im.Depart{ID: 2, Updated: uint32(start) + 1}) // by a slow clock, after the answer
		tab.pass(time.Hour)
		ids, _ := departsIn(t, b, since)
		if fmt.Sprint(ids) != "[2]" {
			t.Errorf("%d s off: %v", off, ids)
		}
		since = uint32(tab.now.Unix() + off)
		tab.pass(time.Hour)
		if ids, _ := departsIn(t, b, since); len(ids) != 0 {
			t.Errorf("%d s off: %v again", off, ids)
		}
	}
}

// TestClockSetBack: times in answers that were sent before the clock was set back are
// ahead of it, and count as 0.
func TestClockSetBack(t *testing.T) {
	tab := newTable()
	now := uint32(tab.now.Unix())
	tab.set(im.Depart{ID: 1, Updated: now - 10})
	b := tab.book()
	if _, told := departsIn(t, b, 0); told != now-10 {
		t.Fatalf("told %d", told)
	}
	tab.pass(-time.Hour)
	b.Touch()
	tab.set(im.Depart{ID: 2, Updated: now - 9}) // the time that im.Stamps assigns
	ids, told := departsIn(t, b, now-10)
	if len(ids) != 2 || told > uint32(tab.now.Unix()) {
		t.Errorf("set back: %v, told %d", ids, told)
	}
	tab.pass(2 * time.Hour)
	for _, since := range []uint32{told, now - 10} {
		if ids, _ := departsIn(t, b, since); len(ids) == 0 || ids[len(ids)-1] != 2 {
			t.Errorf("since %d, after the clock caught up: %v", since, ids)
		}
	}
}
