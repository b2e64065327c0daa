package im

import (
	"testing"

	"teamtalk/proto/pb"
)

// TestCheckDepartAcceptsLeftovers checks changes beside data that other programs may have
// stored: a live department in a deleted one, and departments that contain each other.
func TestCheckDepartAcceptsLeftovers(t *testing.T) {
	const gone = pb.DepartmentStatusType_DEPT_STATUS_DELETE
	all := []Depart{{ID: 1, Name: "gone", Status: gone}, {ID: 2, Name: "orphan", Parent: 1},
		{ID: 3, Name: "x", Parent: 4}, {ID: 4, Name: "y", Parent: 3},
		{ID: 5, Name: "lost", Parent: 99}, {ID: 6, Name: "fine"}}
	for _, x := range []struct {
		name string
		d    Depart
		want Kind
		ok   bool
	}{
		{"an orphan renamed where it is", Depart{ID: 2, Name: "o", Parent: 1}, Invalid, false},
		{"an orphan moved", Depart{ID: 2, Name: "orphan", Parent: 6}, 0, true},
		{"an orphan deleted", Depart{ID: 2, Name: "orphan", Parent: 1, Status: gone}, 0, true},
		{"an orphan deleted and moved to a parent that does not exist",
			Depart{ID: 2, Name: "orphan", Parent: 98, Status: gone}, Invalid, false},
		{"a department without a parent deleted",
			Depart{ID: 5, Name: "lost", Parent: 99, Status: gone}, 0, true},
		{"new in a circle", Depart{Name: "z", Parent: 3}, Invalid, false},
		{"moved into a circle", Depart{ID: 6, Name: "fine", Parent: 4}, Invalid, false},
		{"moved out of a circle", Depart{ID: 3, Name: "x", Parent: 6}, 0, true},
		{"new at the top", Depart{Name: "top"}, 0, true},
		{"new, deleted, at the top", Depart{Name: "top", Status: gone}, 0, true},
		{"the name of a deleted one", Depart{Name: "gone"}, 0, true},
		{"a name that is taken", Depart{Name: "fine"}, Exists, false},
	} {
		err := CheckDepart(x.d, all)
		if x.ok && err != nil || !x.ok && (err == nil || KindOf(err) != x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}
