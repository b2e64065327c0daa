package im

import (
	"strings"
	"unicode/utf8"

	"teamtalk/proto/pb"
)

// MaxDepartName is the longest name of a department, in characters.
const MaxDepartName = 64

// CheckDepart says what keeps d from being stored among all, the departments there are; d replaces the one with its ID, or is new when there is none. Invalid and
// Exists as DepartStore says; that a department to be deleted has no users is for the store to find out. Names are compared letter by letter.
func CheckDepart(d Depart, all []Depart) error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return Errorf(Invalid, "a department needs a name")
	case !utf8.ValidString(d.Name):
		return Errorf(Invalid, "department name is not UTF-8")
	case utf8.RuneCountInString(d.Name) > MaxDepartName:
		return Errorf(Invalid, "department name of %d characters is longer than %d", utf8.RuneCountInString(d.Name), MaxDepartName)
	case d.Status != pb.DepartmentStatusType_DEPT_STATUS_OK && d.Status != pb.DepartmentStatusType_DEPT_STATUS_DELETE:
		return Errorf(Invalid, "department status %d", d.Status)
	}
	byID := make(map[uint32]*Depart, len(all))
	for i := range all {
		byID[all[i].ID] = &all[i]
	}
	// A department whose parent another program deleted can still be deleted as it is, and no more.
	old := byID[d.ID]
	if goes := deleted(&d) && old != nil && old.Parent == d.Parent; !goes {
		if err := checkParent(d, byID); err != nil {
			return err
		}
	}
	for i := range all {
		other := &all[i]
		switch {
		case other.ID == d.ID || deleted(other):
		case deleted(&d) && old != nil && other.Parent == d.ID:
			return Errorf(Invalid, "department %d has departments in it: %q and maybe others", d.ID, other.Name)
		case !deleted(&d) && other.Parent == d.Parent && other.Name == d.Name:
			return Errorf(Exists, "there is a department %q in the same place, with id %d", d.Name, other.ID)
		}
	}
	return nil
}

func deleted(d *Depart) bool { return d.Status == pb.DepartmentStatusType_DEPT_STATUS_DELETE }

// checkParent walks up from d. Other programs may have left circles above: the walk takes no more steps than there are departments.
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
			return Errorf(Invalid, "department %d would be inside itself", d.ID)
		}
		at = p.Parent
	}
	return Errorf(Invalid, "department %d is inside itself, by way of others", d.Parent)
}
