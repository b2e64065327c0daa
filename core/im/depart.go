package im

import (
	"strings"
	"unicode/utf8"

	"teamtalk/proto/pb"
)

// MaxDepartName is the longest name of a department, in characters.
const MaxDepartName = 64

// CheckDepart returns the reason why department d cannot be stored, nil when it can. The
// list all holds the departments of the store: d replaces the one with its ID, or is new
// when no department has that ID. The error has kind Invalid or Exists, as DepartStore
// says. The store itself checks that a department to be deleted has no users. Names are
// compared byte by byte.
func CheckDepart(d Depart, all []Depart) error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return Errorf(Invalid, "a department needs a name")
	case !utf8.ValidString(d.Name):
		return Errorf(Invalid, "department name is not UTF-8")
	case utf8.RuneCountInString(d.Name) > MaxDepartName:
		return Errorf(Invalid, "department name of %d characters is longer than %d",
			utf8.RuneCountInString(d.Name), MaxDepartName)
	case d.Status != pb.DepartmentStatusType_DEPT_STATUS_OK &&
		d.Status != pb.DepartmentStatusType_DEPT_STATUS_DELETE:
		return Errorf(Invalid, "department status %d", d.Status)
	}
	byID := make(map[uint32]*Depart, len(all))
	for i := range all {
		byID[all[i].ID] = &all[i]
	}
	old := byID[d.ID]
	// Another program may have deleted the parent of a department. Such a department can
	// be deleted where it is; every other change must give it a parent that exists.
	stays := old != nil && old.Parent == d.Parent
	if !deleted(&d) || !stays {
		if err := checkParent(d, byID); err != nil {
			return err
		}
	}
	for i := range all {
		other := &all[i]
		switch {
		case other.ID == d.ID || deleted(other):
		case deleted(&d) && old != nil && other.Parent == d.ID:
			return Errorf(Invalid, "department %d contains department %q: move or delete it first",
				d.ID, other.Name)
		case !deleted(&d) && other.Parent == d.Parent && other.Name == d.Name:
			return Errorf(Exists, "department %d has the same parent and the same name %q",
				other.ID, d.Name)
		}
	}
	return nil
}

func deleted(d *Depart) bool { return d.Status == pb.DepartmentStatusType_DEPT_STATUS_DELETE }

// checkParent follows the parents of d to the top. Other programs may have stored cycles,
// so the walk takes at most one step more than there are departments.
func checkParent(d Depart, byID map[uint32]*Depart) error {
	if d.Parent == 0 {
		return nil
	}
	if p := byID[d.Parent]; p == nil || deleted(p) {
		return Errorf(Invalid, "no department has id %d", d.Parent)
	}
	at := d.Parent
	for range len(byID) + 1 {
		p := byID[at]
		if p == nil {
			return nil
		}
		if at == d.ID {
			return Errorf(Invalid, "department %d would become its own ancestor", d.ID)
		}
		at = p.Parent
	}
	return Errorf(Invalid, "the parents of department %d form a cycle", d.Parent)
}
