package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/im"
)

// Departs holds all departments that are not deleted.
type Departs struct {
	ByID  map[uint32]im.Depart
	Below map[uint32][]im.Depart // by parent, in the order in which clients show them
}

// ReadDeparts reads the departments from a store.
func ReadDeparts(ctx context.Context, s im.DepartStore) (*Departs, error) {
	list, _, err := s.DepartsChangedSince(ctx, 0)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b im.Depart) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.ID, b.ID))
	})
	b := &Departs{ByID: map[uint32]im.Depart{}, Below: map[uint32][]im.Depart{}}
	for _, d := range list {
		b.ByID[d.ID] = d
	}
	for _, d := range list {
		b.Below[d.Parent] = append(b.Below[d.Parent], d)
	}
	return b, nil
}

// Path returns the names from the top down to a department, separated by slashes. Other
// programs may have left cycles, so a path has at most as many names as there are
// departments.
func (b *Departs) Path(d im.Depart) string {
	path := d.Name
	for range b.ByID {
		p, ok := b.ByID[d.Parent]
		if !ok {
			break
		}
		path, d = p.Name+"/"+path, p
	}
	return path
}

// Find returns the department with an id, else the one with a path, else the only one
// with a name.
func (b *Departs) Find(text string) (im.Depart, error) {
	if id, err := strconv.ParseUint(text, 10, 32); err == nil {
		if d, ok := b.ByID[uint32(id)]; ok {
			return d, nil
		}
	}
	var found []im.Depart
	for _, d := range b.ByID {
		if path := b.Path(d); path == strings.Trim(text, "/") { // a path belongs to one department
			return d, nil
		}
		if d.Name == text {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		return im.Depart{}, im.Errorf(im.NotFound,
			"no department has the name, path or id %q; see teamtalk depart list", text)
	case len(found) > 1:
		slices.SortFunc(found, func(x, y im.Depart) int { return cmp.Compare(x.ID, y.ID) })
		var which []string
		for _, d := range found[:min(len(found), 10)] {
			which = append(which, fmt.Sprintf("%d (%s)", d.ID, b.Path(d)))
		}
		return im.Depart{}, im.Errorf(im.Invalid,
			"%d departments have the name %q; give the path or id of one: %s",
			len(found), text, strings.Join(which, ", "))
	}
	return found[0], nil
}

// FindParent returns the id of a department, see Find; 0 for "/", the id 0 or an empty text,
// which mean the company itself.
func (b *Departs) FindParent(text string) (uint32, error) {
	if text == "" || text == "/" || text == "0" {
		return 0, nil
	}
	d, err := b.Find(text)
	return d.ID, err
}

// UsersByDepart counts the users of each department, without disabled ones.
func UsersByDepart(ctx context.Context, s im.UserStore) (map[uint32]int, error) {
	count := map[uint32]int{}
	err := EachUser(ctx, s, func(users []im.User) error {
		for _, u := range users {
			if u.Status != im.StatusDeparted {
				count[u.DepartID]++
			}
		}
		return nil
	})
	return count, err
}

// InOrder returns all departments from the top down, with the depth of each. Departments
// that the top does not reach are last: another program has deleted a parent, or made a
// cycle.
func (b *Departs) InOrder() (list []im.Depart, depth []int) {
	seen := map[uint32]bool{}
	var walk func(d im.Depart, deep int)
	walk = func(d im.Depart, deep int) {
		if seen[d.ID] {
			return
		}
		seen[d.ID] = true
		list, depth = append(list, d), append(depth, deep)
		for _, inside := range b.Below[d.ID] {
			walk(inside, deep+1)
		}
	}
	for _, d := range b.Below[0] {
		walk(d, 0)
	}
	rest := make([]uint32, 0, len(b.ByID)-len(list))
	for id := range b.ByID {
		rest = append(rest, id)
	}
	slices.Sort(rest)
	for _, orphans := range []bool{true,
		false} { // departments without a parent before those inside them
		for _, id := range rest {
			if _, ok := b.ByID[b.ByID[id].Parent]; ok != orphans {
				walk(b.ByID[id], 0)
			}
		}
	}
	return list, depth
}
