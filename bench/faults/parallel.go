package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"teamtalk/bench/faults/services"
)

// runParallel runs several deployments at once, each in a folder of its own, and adds up
// their rows. Most of a round is a wait: for a process that starts, for back-offs of
// clients and servers, and for the next texts. So more rounds fit into the same time.
func runParallel(ctx context.Context, o Options) (*Result, error) {
	results, errs := make([]*Result, o.Deployments), make([]error, o.Deployments)
	progress := &lockedWriter{w: o.Progress}
	var all sync.WaitGroup
	for i := range o.Deployments {
		one := o
		one.Deployments, one.Seed = 1, o.Seed+uint64(i)
		one.Rounds = (o.Rounds + o.Deployments - 1 - i) / o.Deployments
		one.Dir = filepath.Join(o.Dir, fmt.Sprint(i+1))
		one.Progress = progress
		one.Log = o.Log.With("deployment", i+1)
		all.Go(func() {
			if errs[i] = os.Mkdir(one.Dir, 0o700); errs[i] == nil {
				results[i], errs[i] = Run(ctx, one)
			}
			if errs[i] != nil {
				errs[i] = fmt.Errorf("deployment %d: %w", i+1, errs[i])
			}
		})
	}
	all.Wait()
	res := newResult(o)
	for _, r := range results {
		if r != nil {
			res.add(r)
		}
	}
	return res, errors.Join(errs...)
}

// add adds the rows of another deployment.
func (r *Result) add(other *Result) {
	r.Stopped = r.Stopped || other.Stopped
	r.Notes = append(r.Notes, other.Notes...)
	for _, row := range other.Rows {
		i := 0
		for i < len(r.Rows) && r.Rows[i].Fault != row.Fault {
			i++
		}
		if i == len(r.Rows) {
			r.Rows = append(r.Rows, Row{Fault: row.Fault})
		}
		r.Rows[i].add(&row)
	}
}

// add adds the row of another deployment with the same fault. Of times it keeps the
// longest.
func (r *Row) add(other *Row) {
	r.Rounds += other.Rounds
	r.Counts.add(&other.Counts)
	if r.Down = max(r.Down, other.Down); other.Silence > r.Silence {
		r.Silence, r.Silent = other.Silence, other.Silent
	}
	r.HeldUp = max(r.HeldUp, other.HeldUp)
	for i := range other.Services {
		if i == len(r.Services) {
			r.Services = append(r.Services, services.Counts{Service: other.Services[i].Service})
		}
		r.Services[i].Add(&other.Services[i])
	}
	if r.Seconds = max(r.Seconds, other.Seconds); other.Beyond > r.Beyond {
		r.Beyond, r.Worst = other.Beyond, other.Worst
	}
}

// add adds the counts of another check.
func (c *Counts) add(other *Counts) {
	for _, sum := range []struct {
		to *int
		n  int
	}{
		{&c.Sent, other.Sent}, {&c.Acked, other.Acked}, {&c.Stored, other.Stored},
		{&c.Delivered, other.Delivered}, {&c.Late, other.Late}, {&c.Unacked, other.Unacked},
		{&c.Lost, other.Lost}, {&c.Missing, other.Missing}, {&c.Duplicated, other.Duplicated},
		{&c.Repeated, other.Repeated}, {&c.Reordered, other.Reordered},
		{&c.Unread, other.Unread}, {&c.Members, other.Members}, {&c.Other, other.Other},
	} {
		*sum.to += sum.n
	}
	c.Examples = append(c.Examples, other.Examples...)
}

// lockedWriter is a Writer for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes b as a whole.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
