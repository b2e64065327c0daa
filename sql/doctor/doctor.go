// Package doctor finds and repairs disagreement of stored data: between tables, between
// MySQL and Redis, and between rows and files. DOCTOR.md says for each check what it
// compares, what its repair does, and what cannot be known.
//
// A check looks at its subjects (users, conversations, groups or files) in the order of
// their ids, a page at a time. Servers may run meanwhile, and two databases are not read
// at one moment. So a disagreement counts only when a second look, some seconds later,
// still finds it. A repair changes only what disagrees at the moment of the change, and
// is followed by a third look: what that still finds counts as left.
//
// Without a repair nothing is changed. No check deletes a message.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
	"teamtalk/core/opt"
)

// About describes a check.
type About struct {
	Name     string // in lower case, words are joined by dashes
	Compares string // a phrase: what is compared
	Repair   string // a phrase: what the repair does; empty: there is none
	// Offline says what must be stopped for the repair; empty: it may run beside servers.
	Offline string
}

// Finding is one disagreement.
type Finding struct {
	Subject uint64 // by which the check looks at it again
	Text    string
	key     string   // tells findings of one subject apart
	values  []string // for the repair; the first is the subject
}

// Check compares one kind of data. Its methods are called by one goroutine.
type Check interface {
	About() About
	// Subjects returns ids above after, in increasing order: up to most, or fewer; none
	// after the last one.
	Subjects(ctx context.Context, after uint64, most int) ([]uint64, error)
	// Look returns the disagreements of subjects, and changes nothing.
	Look(ctx context.Context, ids []uint64) ([]Finding, error)
	// Mend repairs findings that a Look returned. A finding that it cannot repair stays.
	// The error has kind Denied when the repair may not run beside what runs now.
	Mend(ctx context.Context, list []Finding) error
}

// noter is a Check that could not compare everything. Note says what, after the last
// Look.
type noter interface{ Note() string }

// Options say what Run does. The zero value looks at everything and changes nothing.
type Options struct {
	Only   []string // names of the checks to run; none: all
	Repair bool
	// Pace is the pause after each page of subjects. 0: none.
	Pace time.Duration
	// Settle is the time between the first look at a disagreement and the second. Default
	// 2 s.
	Settle time.Duration
	// Examples is the number of findings of a check that are returned as texts. Default
	// 5.
	Examples int
	// Begin is called with each check before it begins. nil: not called.
	Begin func(About)
}

// Result is the outcome of one check.
type Result struct {
	About
	Looked   int64    // subjects that were looked at
	Found    int64    // disagreements
	Left     int64    // those that remain: all of them without a repair
	Examples []string // the first ones
	Note     string   // what could not be compared
	Refused  string   // why nothing was repaired
	Err      error    // the check ended early
}

const (
	pageSize = 500
	// maxPending is the number of findings that wait for their second look together. It
	// bounds the memory.
	maxPending = 5000
)

// Doctor has the checks of one store.
type Doctor struct {
	checks  []Check
	repairs bool // the store is open for repairs
	close   func() error
}

// Close closes the store.
func (d *Doctor) Close() error { return d.close() }

// Checks describes the checks, in their order.
func (d *Doctor) Checks() []About {
	list := make([]About, len(d.checks))
	for i, c := range d.checks {
		list[i] = c.About()
	}
	return list
}

// Run runs checks, and calls done with the result of each. A check that fails does not
// keep the others from running. Run returns the end of ctx, the error of done, and an
// error of kind Invalid for an unknown name, and for a repair by a Doctor that was not
// opened for repairs.
func (d *Doctor) Run(ctx context.Context, o Options, done func(Result) error) error {
	opt.Default(&o.Settle, 2*time.Second)
	opt.Default(&o.Examples, 5)
	if err := d.known(o.Only); err != nil {
		return err
	}
	if o.Repair && !d.repairs {
		return im.Errorf(im.Invalid, "the store is not open for repairs")
	}
	for _, c := range d.checks {
		about := c.About()
		if len(o.Only) > 0 && !slices.Contains(o.Only, about.Name) {
			continue
		}
		if o.Begin != nil {
			o.Begin(about)
		}
		r := &run{Options: o, check: c, result: Result{About: about}}
		r.result.Err = r.all(ctx)
		if n, ok := c.(noter); ok {
			r.result.Note = n.Note()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := done(r.result); err != nil {
			return err
		}
	}
	return nil
}

// known returns an error for a name that no check has.
func (d *Doctor) known(names []string) error {
	var all []string
	for _, a := range d.Checks() {
		all = append(all, a.Name)
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			return im.Errorf(im.Invalid, "this store has no check %q; its checks are %s", name,
				strings.Join(all, ", "))
		}
	}
	return nil
}

// run is one check in progress.
type run struct {
	Options
	check   Check
	result  Result
	pending []Finding // after one look
}

// all looks at all subjects.
func (r *run) all(ctx context.Context) error {
	for after := uint64(0); ; {
		ids, err := r.check.Subjects(ctx, after, pageSize)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return r.settle(ctx)
		}
		if last := ids[len(ids)-1]; last <= after {
			return fmt.Errorf("check %s: subject %d does not follow %d", r.result.Name, last, after)
		}
		found, err := r.check.Look(ctx, ids)
		if err != nil {
			return err
		}
		r.result.Looked += int64(len(ids))
		r.pending = append(r.pending, found...)
		if len(r.pending) >= maxPending {
			if err := r.settle(ctx); err != nil {
				return err
			}
		}
		if err := backoff.Sleep(ctx, r.Pace); err != nil {
			return err
		}
		after = ids[len(ids)-1]
	}
}

// settle looks again at what waits, counts what remains, and repairs it.
func (r *run) settle(ctx context.Context) error {
	if len(r.pending) == 0 {
		return nil
	}
	if err := backoff.Sleep(ctx, r.Settle); err != nil {
		return err
	}
	first := r.pending
	r.pending = nil
	slices.SortStableFunc(first, bySubject)
	for part := range slices.Chunk(subjectsOf(first), pageSize) {
		found, err := r.check.Look(ctx, part)
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(found, func(f Finding) bool {
			return !slices.ContainsFunc(about(first, f.Subject), f.same)
		})
		slices.SortStableFunc(found, bySubject)
		r.count(found)
		left, err := r.mend(ctx, found)
		r.result.Left += int64(left)
		if err != nil {
			return err
		}
		if err := backoff.Sleep(ctx, r.Pace); err != nil {
			return err
		}
	}
	return nil
}

func bySubject(a, b Finding) int { return cmp.Compare(a.Subject, b.Subject) }

// subjectsOf returns the subjects of findings in increasing order, each once.
func subjectsOf(list []Finding) []uint64 {
	ids := make([]uint64, len(list))
	for i, f := range list {
		ids[i] = f.Subject
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// about returns the findings of one subject. list is in the order of subjects.
func about(list []Finding, subject uint64) []Finding {
	begin, _ := slices.BinarySearchFunc(list, Finding{Subject: subject}, bySubject)
	end, _ := slices.BinarySearchFunc(list, Finding{Subject: subject + 1}, bySubject)
	return list[begin:end]
}

// same reports whether g is the same disagreement in another look.
func (f Finding) same(g Finding) bool { return f.Subject == g.Subject && f.key == g.key }

// count counts findings, and keeps the first ones as examples.
func (r *run) count(found []Finding) {
	r.result.Found += int64(len(found))
	for _, f := range found {
		if len(r.result.Examples) == r.Examples {
			return
		}
		r.result.Examples = append(r.result.Examples, f.Text)
	}
}

// mend repairs findings if it should, and returns the number of those that a look still
// finds.
func (r *run) mend(ctx context.Context, found []Finding) (left int, err error) {
	if len(found) == 0 || !r.Repair || r.result.Repair == "" || r.result.Refused != "" {
		return len(found), nil
	}
	if err := r.check.Mend(ctx, found); err != nil {
		if im.KindOf(err) == im.Denied {
			r.result.Refused = err.Error()
			return len(found), nil
		}
		return len(found), fmt.Errorf("repair %s: %w", r.result.Name, err)
	}
	again, err := r.check.Look(ctx, subjectsOf(found))
	if err != nil {
		return len(found), err
	}
	slices.SortStableFunc(again, bySubject)
	for _, f := range found {
		if slices.ContainsFunc(about(again, f.Subject), f.same) {
			left++
		}
	}
	return left, nil
}

// closeAll returns a function that calls functions in reverse order.
func closeAll(list ...func() error) func() error {
	return func() error {
		var errs []error
		for _, c := range slices.Backward(list) {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
}
