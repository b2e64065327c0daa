package remote

import (
	"slices"
	"testing"

	"teamtalk/core/im"
)

// TestPages: pages that follow each other have all rows that match, once each. A page that finds
// few rows ends after maxScan, and says where to continue.
func TestPages(t *testing.T) {
	const rows = 2*maxScan + 500
	reads := 0
	list := func(after uint32, n int) (ids []uint32, err error) {
		reads++
		for id := after + 1; id <= rows && len(ids) < n; id++ {
			ids = append(ids, id)
		}
		return ids, nil
	}
	same := func(id uint32) uint32 { return id }
	for _, x := range []struct {
		name         string
		every, limit int
		pages        int // with the largest number of rows that one reads
	}{
		{"all", 1, 1000, 41}, {"dense", 100, 100, 5}, {"rare", 30_000, 100, 3},
		{"none", rows + 1, 100, 3}, {"exactly full", rows / 10, 10, 3},
	} {
		var got, want []uint32
		for id := x.every; id <= rows; id += x.every {
			want = append(want, uint32(id))
		}
		pagesRead, after := 0, uint32(0)
		for {
			reads = 0
			found, next, err := pages(after, x.limit, list, same, func(id uint32) bool {
				return int(id)%x.every == 0
			})
			if err != nil || len(found) > x.limit || reads > maxScan/maxPage+1 || next != 0 &&
				next <= after {
				t.Fatalf("%s: %d found, %d reads, next %d after %d, %v", x.name, len(found), reads,
					next, after, err)
			}
			got, after = append(got, found...), next
			if pagesRead++; next == 0 {
				break
			}
		}
		if !slices.Equal(got, want) || pagesRead != x.pages {
			t.Errorf("%s: %d rows in %d pages, want %d in %d", x.name, len(got), pagesRead,
				len(want), x.pages)
		}
	}
}

// TestPageSize: a page has a bound.
func TestPageSize(t *testing.T) {
	for limit, want := range map[int]int{0: defaultPage, 1: 1, maxPage: maxPage} {
		if got, err := pageSize(limit); got != want || err != nil {
			t.Errorf("limit %d: %d, %v", limit, got, err)
		}
	}
	for _, limit := range []int{-1, maxPage + 1} {
		if _, err := pageSize(limit); im.KindOf(err) != im.Invalid {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}
