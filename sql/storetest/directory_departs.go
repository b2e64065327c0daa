package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var departTests = []test{
	{"every field comes back", everyDepartField},
	{"invalid ones", departsInvalid},
	{"names in one place", departNames},
	{"update", updateDepart},
	{"inside itself", departCircles},
	{"delete", deleteDepart},
	{"changed since", departsChanged},
	{"changed since, as time passes", departsChangedLater},
	{"survive reopen", departsSurvive},
	{"two processes", departsShared},
	{"deleted while users come in", departRace},
	{"two moves that make a circle together", circleRace},
	{"cancelled before", departsCancelled},
}

const departDeleted = pb.DepartmentStatusType_DEPT_STATUS_DELETE

// depart creates a department and returns its id.
func (f directoryFixture) depart(name string, parent uint32) uint32 {
	f.Helper()
	id, err := f.s.CreateDepart(f.ctx, im.Depart{Name: name, Parent: parent})
	f.check("CreateDepart "+name, err)
	return id
}

// departs returns the departments changed since a time, in order of id.
func (f directoryFixture) departs(since uint32) (list []im.Depart, newest uint32) {
	f.Helper()
	list, newest, err := f.s.DepartsChangedSince(f.ctx, since)
	f.check("DepartsChangedSince", err)
	slices.SortFunc(list, func(a, b im.Depart) int { return cmp.Compare(a.ID, b.ID) })
	for _, d := range list {
		if d.Updated < since || d.Updated > newest {
			f.Errorf("DepartsChangedSince(%d): department %d of %d, newest %d", since, d.ID,
				d.Updated, newest)
		}
	}
	return list, newest
}

// wantDeparts checks the ids of the departments changed since.
func (f directoryFixture) wantDeparts(what string, since uint32, want ...uint32) {
	f.Helper()
	list, _ := f.departs(since)
	var got []uint32
	for _, d := range list {
		got = append(got, d.ID)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.Errorf("%s: departments %v, want %v", what, got, want)
	}
}

// readDepart reads a department, deleted or not.
func (f directoryFixture) readDepart(id uint32) im.Depart {
	f.Helper()
	list, _ := f.departs(1)
	i := slices.IndexFunc(list, func(d im.Depart) bool { return d.ID == id })
	if i < 0 {
		f.Fatalf("department %d is not there", id)
	}
	return list[i]
}

// updateDepart changes a department.
func (f directoryFixture) updateDepart(id uint32, change func(*im.Depart)) {
	f.Helper()
	d := f.readDepart(id)
	change(&d)
	f.check("UpdateDepart", f.s.UpdateDepart(f.ctx, d))
}

func everyDepartField(f *fixture) {
	before := f.now()
	parent := f.depart("company", 0)
	for i, want := range []im.Depart{
		{Name: "研发部 🙂 'x\"\\%_", Parent: parent, Priority: 4294967295},
		{Name: strings.Repeat("界", im.MaxDepartName), Priority: 7},
		{Name: "deleted from the start", Parent: parent, Status: departDeleted},
	} {
		asked := want
		asked.ID, asked.Updated = parent, 77 // must be ignored
		id, err := f.s.CreateDepart(f.ctx, asked)
		f.check("CreateDepart", err)
		got := f.readDepart(id)
		if after := f.now(); got.Updated < before || got.Updated > after {
			f.Errorf("Updated is %d, created between %d and %d", got.Updated, before, after)
		}
		want.ID, want.Updated = id, got.Updated
		if id == parent || got != want {
			f.Errorf("department %d:\n got %+v\nwant %+v", i, got, want)
		}
	}
}

func departsInvalid(f *fixture) {
	parent := f.depart("company", 0)
	gone := f.depart("gone", 0)
	f.updateDepart(gone, func(d *im.Depart) { d.Status = departDeleted })
	stored := f.depart("stored", parent)
	all, _ := f.departs(1)
	for what, spoil := range map[string]func(*im.Depart){
		"no name":          func(d *im.Depart) { d.Name = "" },
		"a name of blanks": func(d *im.Depart) { d.Name = "  " },
		"name too long": func(d *im.Depart) {
			d.Name = strings.Repeat("x", im.MaxDepartName+1)
		},
		"name not UTF-8":            func(d *im.Depart) { d.Name = "a\xff" },
		"a parent that is not here": func(d *im.Depart) { d.Parent = stored + 1000 },
		"a deleted parent":          func(d *im.Depart) { d.Parent = gone },
		"no known status":           func(d *im.Depart) { d.Status = 2 },
	} {
		d := im.Depart{Name: "fine", Parent: parent}
		spoil(&d)
		_, err := f.s.CreateDepart(f.ctx, d)
		f.wantKind("CreateDepart with "+what, err, im.Invalid)
		d.ID = stored
		f.wantKind("UpdateDepart with "+what, f.s.UpdateDepart(f.ctx, d), im.Invalid)
	}
	f.wantKind("UpdateDepart of none",
		f.s.UpdateDepart(f.ctx, im.Depart{ID: stored + 1000, Name: "x"}), im.NotFound)
	f.wantKind("UpdateDepart of 0", f.s.UpdateDepart(f.ctx, im.Depart{Name: "x"}), im.NotFound)
	if after, _ := f.departs(1); !slices.Equal(after, all) {
		f.Errorf("departments changed:\n got %+v\nwant %+v", after, all)
	}
}

func departNames(f *fixture) {
	a, b := f.depart("a", 0), f.depart("b", 0)
	sales := f.depart("sales", a)
	f.depart("sales", b)
	f.depart("Sales", a) // names are compared letter by letter
	_, err := f.s.CreateDepart(f.ctx, im.Depart{Name: "sales", Parent: a})
	f.wantKind("a second department of a name", err, im.Exists)
	if err != nil && !strings.Contains(err.Error(), "sales") {
		f.Errorf("the error does not name the department: %v", err)
	}
	_, err = f.s.CreateDepart(f.ctx, im.Depart{Name: "a"})
	f.wantKind("a second department of a name at the top", err, im.Exists)
	d := f.readDepart(sales)
	d.Parent = b
	f.wantKind("moved to where the name is taken", f.s.UpdateDepart(f.ctx, d), im.Exists)
	d.Parent, d.Name = a, "Sales"
	f.wantKind("renamed to a name that is taken", f.s.UpdateDepart(f.ctx, d), im.Exists)
	d.Name = "sales"
	f.check("updated to what it is", f.s.UpdateDepart(f.ctx, d))

	f.updateDepart(sales, func(d *im.Depart) { d.Status = departDeleted })
	again := f.depart("sales", a) // a deleted department does not hold its name
	d.Status = pb.DepartmentStatusType_DEPT_STATUS_OK
	f.wantKind("brought back to where the name is taken", f.s.UpdateDepart(f.ctx, d), im.Exists)
	f.updateDepart(again, func(d *im.Depart) { d.Status = departDeleted })
	f.check("brought back", f.s.UpdateDepart(f.ctx, d))
}

func updateDepart(f *fixture) {
	a, b := f.depart("a", 0), f.depart("b", 0)
	other := f.readDepart(a)
	before := f.now()
	want := im.Depart{ID: b, Name: "改名", Parent: a, Priority: 3, Updated: 12}
	for range 2 { // the second call changes nothing, and must find the department
		f.check("UpdateDepart", f.s.UpdateDepart(f.ctx, want))
	}
	got := f.readDepart(b)
	if got.Updated < before {
		f.Errorf("Updated is %d after a change at %d", got.Updated, before)
	}
	if want.Updated = got.Updated; got != want {
		f.Errorf("UpdateDepart:\n got %+v\nwant %+v", got, want)
	}
	if after := f.readDepart(a); after != other {
		f.Errorf("another department changed:\n got %+v\nwant %+v", after, other)
	}
}

func departCircles(f *fixture) {
	a := f.depart("a", 0)
	b := f.depart("b", a)
	c := f.depart("c", b)
	for _, parent := range []uint32{a, b, c} {
		d := f.readDepart(a)
		d.Parent = parent
		f.wantKind(fmt.Sprintf("the first of three moved into %d", parent),
			f.s.UpdateDepart(f.ctx, d), im.Invalid)
	}
	f.updateDepart(c, func(d *im.Depart) { d.Parent = 0 })
	f.updateDepart(a, func(d *im.Depart) { d.Parent = c })
	d := f.readDepart(c)
	d.Parent = b
	f.wantKind("the last moved up, then into the others", f.s.UpdateDepart(f.ctx, d), im.Invalid)
}

// homeless creates n users without a department.
func (f directoryFixture) homeless(n int) []uint32 {
	f.Helper()
	ids := f.users(n)
	for _, id := range ids {
		f.check("SetUserDepart", f.s.SetUserDepart(f.ctx, id, 0))
	}
	return ids
}

func deleteDepart(f *fixture) {
	u := f.homeless(2)
	a := f.depart("a", 0)
	b := f.depart("b", a)
	remove := func(id uint32) error {
		d := f.readDepart(id)
		d.Status = departDeleted
		return f.s.UpdateDepart(f.ctx, d)
	}
	f.wantKind("deleted with a department in it", remove(a), im.Invalid)
	f.check("SetUserDepart", f.s.SetUserDepart(f.ctx, u[0], b))
	f.check("SetUserDepart", f.s.SetUserDepart(f.ctx, u[1], b))
	f.wantKind("deleted with users in it", remove(b), im.Invalid)
	f.check("SetUserDepart", f.s.SetUserDepart(f.ctx, u[0], a))
	f.wantKind("deleted with a user in it", remove(b), im.Invalid)
	// users that have departed do not count
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, u[1], im.StatusDeparted))
	f.check("deleted", remove(b))
	f.check("deleted again", remove(b))
	f.wantKind("a user into a deleted department", f.s.SetUserDepart(f.ctx, u[0], b), im.Invalid)
	f.check("SetUserDepart", f.s.SetUserDepart(f.ctx, u[0], 0))
	f.check("deleted, with a deleted department in it", remove(a))
	f.wantDeparts("first sync", 0)
	f.wantDeparts("later sync", 1, a, b)

	d := f.readDepart(b)
	d.Status = pb.DepartmentStatusType_DEPT_STATUS_OK
	f.wantKind("brought back into a deleted department", f.s.UpdateDepart(f.ctx, d), im.Invalid)
	d.Parent = 0
	f.check("brought back", f.s.UpdateDepart(f.ctx, d))
	f.wantDeparts("first sync", 0, b)
}

func departsChanged(f *fixture) {
	if list, newest := f.departs(0); len(list) != 0 || newest != 0 {
		f.Errorf("no departments: %v, newest %d", list, newest)
	}
	a, b, c := f.depart("a", 0), f.depart("b", 0), f.depart("c", 0)
	f.updateDepart(b, func(d *im.Depart) { d.Status = departDeleted })
	f.wantDeparts("first sync", 0, a, c)
	f.wantDeparts("at the time of the oldest", f.readDepart(a).Updated, a, b, c)
	list, newest := f.departs(1)
	if latest := slices.MaxFunc(list, func(a, b im.Depart) int {
		return cmp.Compare(a.Updated, b.Updated)
	}); latest.Updated != newest {
		f.Errorf("newest %d, want %d", newest, latest.Updated)
	}
	if list, _ := f.departs(newest); len(list) == 0 {
		f.Errorf("since %d, the newest itself: nothing, want those of that second", newest)
	}
	future := f.now() + 1000
	if list, n := f.departs(future); len(list) != 0 || n != future {
		f.Errorf("since %d, later than all: %v, newest %d", future, list, n)
	}
}

func departsChangedLater(f *fixture) {
	a, b := f.depart("a", 0), f.depart("b", 0)
	f.advance(10 * time.Second)
	_, newest := f.departs(0)
	f.wantDeparts("nothing has changed", newest+1)
	f.updateDepart(b, func(d *im.Depart) { d.Status = departDeleted })
	f.wantDeparts("after b was deleted", newest+1, b)
	// The newest time of a first sync is that of the departments in it. A second may have
	// passed between a and b.
	if _, first := f.departs(0); first != f.readDepart(a).Updated {
		f.Errorf("first sync after the newest was deleted: newest %d, want %d", first,
			f.readDepart(a).Updated)
	}
	f.advance(10 * time.Second)
	f.updateDepart(a, func(d *im.Depart) { d.Priority = 9 })
	_, later := f.departs(0)
	if later <= newest {
		f.Errorf("newest %d, want later than %d", later, newest)
	}
	f.wantDeparts("after a was changed", later, a)
}

func departsSurvive(f *fixture) {
	a := f.depart("a", 0)
	f.depart("b", a)
	want, _ := f.departs(1)
	f.reopen()
	if got, _ := f.departs(1); !slices.Equal(got, want) {
		f.Errorf("after reopen:\n got %+v\nwant %+v", got, want)
	}
	c := f.depart("c", 0)
	if slices.ContainsFunc(want, func(d im.Depart) bool { return d.ID == c }) {
		f.Errorf("id %d given twice", c)
	}
}

func departsShared(f *fixture) {
	other := f.second()
	a := f.depart("a", 0)
	_, err := other.CreateDepart(f.ctx, im.Depart{Name: "a"})
	f.wantKind("a name that the first process has taken", err, im.Exists)
	b, err := other.CreateDepart(f.ctx, im.Depart{Name: "b", Parent: a})
	f.check("CreateDepart in the other process", err)
	f.wantDeparts("made by two", 0, a, b)

	// Both processes create the same departments. Each must exist once.
	var wg sync.WaitGroup
	for _, s := range []im.Store{f.s, other} {
		wg.Go(func() {
			for i := range 20 {
				_, err := s.CreateDepart(f.ctx, im.Depart{Name: fmt.Sprint("team ", i), Parent: a})
				if err != nil && im.KindOf(err) != im.Exists {
					f.Errorf("CreateDepart: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if list, _ := f.departs(0); len(list) != 22 {
		f.Errorf("%d departments, want 22", len(list))
	}
}

// departRace deletes departments while users are moved to them. No user may end in a
// deleted one.
func departRace(f *fixture) {
	other := f.second()
	u := f.homeless(8)
	for i := range 20 {
		id := f.depart(fmt.Sprint("d", i), 0)
		d := f.readDepart(id)
		d.Status = departDeleted
		var wg sync.WaitGroup
		refused := make([]bool, len(u))
		for n, user := range u {
			wg.Go(func() {
				s := f.s
				if n%2 == 1 {
					s = other
				}
				switch err := s.SetUserDepart(f.ctx, user, id); {
				case err == nil:
				case im.KindOf(err) == im.Invalid:
					refused[n] = true
				default:
					f.Errorf("SetUserDepart: %v", err)
				}
			})
		}
		err := f.s.UpdateDepart(f.ctx, d)
		wg.Wait()
		in := slices.Contains(refused, false)
		switch {
		case err == nil && in:
			f.Fatalf("round %d: deleted, with users in it", i)
		case err != nil && im.KindOf(err) != im.Invalid:
			f.Fatalf("UpdateDepart: %v", err)
		case err != nil && !in:
			f.Fatalf("round %d: neither deleted nor has it users: %v", i, err)
		}
	}
}

// circleRace moves a into b and b into a at once, from two processes. One of them must
// fail.
func circleRace(f *fixture) {
	other := f.second()
	for i := range 20 {
		a := f.readDepart(f.depart(fmt.Sprint("a", i), 0))
		b := f.readDepart(f.depart(fmt.Sprint("b", i), 0))
		a.Parent, b.Parent = b.ID, a.ID
		var wg sync.WaitGroup
		var errs [2]error
		wg.Go(func() { errs[0] = f.s.UpdateDepart(f.ctx, a) })
		wg.Go(func() { errs[1] = other.UpdateDepart(f.ctx, b) })
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			f.Fatalf("round %d: %v, %v; want one refused", i, errs[0], errs[1])
		}
	}
}

func departsCancelled(f *fixture) {
	id := f.depart("a", 0)
	u := f.users(1)
	want := f.readDepart(id)
	user := f.account("user0")
	ctx := cancelled()
	for name, call := range map[string]func() error{
		"DepartsChangedSince": func() error {
			_, _, err := f.s.DepartsChangedSince(ctx, 0)
			return err
		},
		"CreateDepart": func() error {
			_, err := f.s.CreateDepart(ctx,
				im.Depart{Name: "b"})
			return err
		},
		"UpdateDepart": func() error {
			return f.s.UpdateDepart(ctx, im.Depart{ID: id,
				Name: "c"})
		},
		"SetSignInfo":   func() error { return f.s.SetSignInfo(ctx, u[0], "x") },
		"SetAvatar":     func() error { return f.s.SetAvatar(ctx, u[0], "x") },
		"SetUserDepart": func() error { return f.s.SetUserDepart(ctx, u[0], id) },
		"SetPushShield": func() error { return f.s.SetPushShield(ctx, u[0], true) },
	} {
		f.wantGivenUp(name, call())
	}
	f.wantDeparts("after it", 1, id)
	if got := f.readDepart(id); got != want {
		f.Errorf("department changed:\n got %+v\nwant %+v", got, want)
	}
	if got := f.account("user0"); got != user {
		f.Errorf("user changed:\n got %+v\nwant %+v", got, user)
	}
}
