package whereaboutstest

import (
	"context"

	"teamtalk/core/whereabouts"
)

// Operation is a method of a whereabouts.Store.
type Operation string

// The operations.
const (
	Apply  Operation = "apply"
	Lookup Operation = "lookup"
	Remove Operation = "remove"
	Mark   Operation = "mark"
	Unmark Operation = "unmark"
)

// Call is a call to a store.
type Call struct {
	Operation Operation
	By        whereabouts.Node // of Apply
	Users     []uint32         // in the order of the call
	Groups    []uint32         // of Mark, Unmark, and a Lookup that asks for some
}

// Faulty is a store as one process reaches it: calls may fail, wait, or lose their answers. The
// functions may be nil. They run in the goroutine of the call, so one that waits delays it, and
// should end with ctx.
type Faulty struct {
	whereabouts.Store
	// Before runs ahead of a call. With an error the call is not made, and fails.
	Before func(ctx context.Context, c Call) error
	// After runs behind a call. With an error the call was made, and its answer is lost.
	After func(ctx context.Context, c Call) error
}

var _ whereabouts.Store = (*Faulty)(nil)

// through makes a call with its faults.
func (f *Faulty) through(ctx context.Context, c Call, do func()) error {
	if f.Before != nil {
		if err := f.Before(ctx, c); err != nil {
			return err
		}
	}
	do()
	if f.After != nil {
		return f.After(ctx, c)
	}
	return nil
}

// Apply writes updates; see whereabouts.Store.
func (f *Faulty) Apply(ctx context.Context, by whereabouts.Node,
	updates []whereabouts.Update) []whereabouts.Result {
	c := Call{Operation: Apply, By: by}
	for _, u := range updates {
		c.Users = append(c.Users, u.User)
	}
	var results []whereabouts.Result
	err := f.through(ctx, c, func() { results = f.Store.Apply(ctx, by, updates) })
	if err != nil {
		results = make([]whereabouts.Result, len(updates))
		for i := range results {
			results[i].Err = err
		}
	}
	return results
}

// Lookup returns what is known of users; see whereabouts.Store.
func (f *Faulty) Lookup(ctx context.Context, users []uint32) []whereabouts.Found {
	var found []whereabouts.Found
	c := Call{Operation: Lookup, Users: users}
	err := f.through(ctx, c, func() { found = f.Store.Lookup(ctx, users) })
	if err != nil {
		found = make([]whereabouts.Found, len(users))
		for i := range found {
			found[i].Err = err
		}
	}
	return found
}

// Remove removes entries; see whereabouts.Store.
func (f *Faulty) Remove(ctx context.Context, user uint32, ended []whereabouts.Node) error {
	var result error
	c := Call{Operation: Remove, Users: []uint32{user}}
	err := f.through(ctx, c, func() { result = f.Store.Remove(ctx, user, ended) })
	if err != nil {
		return err
	}
	return result
}

// LookupAll returns what is known of users and groups; see whereabouts.Groups.
func (f *Faulty) LookupAll(ctx context.Context, users, groups []uint32) ([]whereabouts.Found,
	[]whereabouts.Group) {
	var found []whereabouts.Found
	var of []whereabouts.Group
	c := Call{Operation: Lookup, Users: users, Groups: groups}
	err := f.through(ctx, c, func() { found, of = f.Store.LookupAll(ctx, users, groups) })
	if err != nil {
		found = make([]whereabouts.Found, len(users))
		for i := range found {
			found[i].Err = err
		}
		of = failedGroups(len(groups), err)
	}
	return found, of
}

// failedGroups returns the answer of a call for n groups that has failed.
func failedGroups(n int, err error) []whereabouts.Group {
	list := make([]whereabouts.Group, n)
	for i := range list {
		list[i].Err = err
	}
	return list
}

// Mark sets marks; see whereabouts.Groups.
func (f *Faulty) Mark(ctx context.Context, marks []whereabouts.Mark) []whereabouts.Group {
	c := Call{Operation: Mark}
	for _, m := range marks {
		c.Groups = append(c.Groups, m.Group)
	}
	var groups []whereabouts.Group
	if err := f.through(ctx, c, func() { groups = f.Store.Mark(ctx, marks) }); err != nil {
		return failedGroups(len(marks), err)
	}
	return groups
}

// Unmark removes marks; see whereabouts.Groups.
func (f *Faulty) Unmark(ctx context.Context, marks []whereabouts.Unmark) []error {
	c := Call{Operation: Unmark}
	for _, m := range marks {
		c.Groups = append(c.Groups, m.Group)
	}
	var errs []error
	if err := f.through(ctx, c, func() { errs = f.Store.Unmark(ctx, marks) }); err != nil {
		errs = make([]error, len(marks))
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}
