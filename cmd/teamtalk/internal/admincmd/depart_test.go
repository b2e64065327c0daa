package admincmd

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/im"
)

// TestDepartTree lists departments as other programs may leave them: inside departments
// that do not exist, and inside each other.
func TestDepartTree(t *testing.T) {
	b := &admin.Departs{ByID: map[uint32]im.Depart{}, Below: map[uint32][]im.Depart{}}
	for _, d := range []im.Depart{{ID: 1, Name: "a"}, {ID: 2, Name: "b", Parent: 1},
		{ID: 4, Name: "in orphan", Parent: 5}, {ID: 5, Name: "orphan", Parent: 99},
		{ID: 6, Name: "x", Parent: 7}, {ID: 7, Name: "y", Parent: 6},
		{ID: 8, Name: "self", Parent: 8}} {
		b.ByID[d.ID] = d
		b.Below[d.Parent] = append(b.Below[d.Parent], d)
	}
	var out bytes.Buffer
	if err := listDeparts(&out, b, nil, false); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"ID  NAME         PRIORITY  USERS",
		"1   a            0         0",
		"2     b          0         0",
		"5   orphan       0         0",
		"4     in orphan  0         0",
		"6   x            0         0",
		"7     y          0         0",
		"8   self         0         0", ""}, "\n")
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	var ids []uint32
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n")[1:] {
		d, err := b.Find(strings.Fields(line)[0])
		if err != nil {
			t.Error(err)
		}
		if b.Path(d) == "" {
			t.Errorf("department %d has no path", d.ID)
		}
		ids = append(ids, d.ID)
	}
	if slices.Sort(ids); !slices.Equal(ids, []uint32{1, 2, 4, 5, 6, 7, 8}) {
		t.Errorf("listed %v", ids)
	}
}
