package outbox

import (
	"fmt"
	"testing"
)

func FuzzParseDues(f *testing.F) {
	f.Add(AppendDues(nil, Dues{Counts: []Count{{1, 2, 3}, {1 << 31, 1<<32 - 1, 1}}}))
	f.Add(AppendDues(nil, Dues{Counts: []Count{{1, 2, 3}},
		Groups:  []GroupCount{{7, 3, []Sender{{1, 2}, {4, 0}}}, {9, 1, nil}},
		Changes: []MemberChange{{7, 2, true, []uint32{5, 6}}}}))
	f.Add([]byte{0x80})
	f.Add([]byte{0, 3})
	f.Add([]byte{0, 2, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDues(b)
		if err != nil {
			return
		}
		again, err := parseDues(AppendDues(nil, d))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(d) {
			t.Fatalf("%v does not survive: %v, %v", d, again, err)
		}
	})
}
