package ceiling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// paced stores rows at a rate, divided among the workers of a shape. It stores them for the
// time of a search before, so that connections and statements are those of a server that
// runs.
func paced(ctx context.Context, b bed, o Options, s shape) (Result, error) {
	workers := make([]storeRows, s.workers)
	for i := range workers {
		f, done, err := b.worker(ctx, s, i)
		if err != nil {
			return Result{}, err
		}
		defer done()
		workers[i] = f
	}
	if _, err := onSchedule(ctx, workers, o.Rate, s.batch, o.Search); err != nil {
		return Result{}, err
	}
	if o.Begin != nil {
		o.Begin()
	}
	begin := time.Now()
	waits, err := onSchedule(ctx, workers, o.Rate, s.batch, o.Duration)
	took := time.Since(begin)
	if o.End != nil {
		o.End()
	}
	if err != nil {
		return Result{}, err
	}
	slices.Sort(waits)
	n := len(waits)
	return Result{Rate: float64(n) / took.Seconds(), Rows: int64(n), Workers: s.workers,
		Batch: s.batch, P50: waits[n/2], P99: waits[n-1-n/100]}, nil
}

// onSchedule has each worker store its share of the rows that are due within a time d, at
// least one. It returns how long each row took.
func onSchedule(ctx context.Context, workers []storeRows, rate float64, batch int,
	d time.Duration) ([]time.Duration, error) {
	var (
		wg     sync.WaitGroup
		waits  = make([][]time.Duration, len(workers))
		failed = make([]error, len(workers))
		every  = time.Duration(float64(len(workers)) / rate * float64(time.Second))
		begin  = time.Now()
	)
	for i, f := range workers {
		first := begin.Add(every * time.Duration(i) / time.Duration(len(workers)))
		wg.Go(func() {
			waits[i], failed[i] = storeDue(ctx, f, first, every, batch, max(1, int(d/every)))
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, fmt.Errorf("store %g rows a second: %w", rate, err)
	}
	return slices.Concat(waits...), nil
}

// storeDue stores n rows. The first is due at a time, the others at intervals. It returns
// how long each took.
func storeDue(ctx context.Context, store storeRows, first time.Time, every time.Duration,
	batch, n int) ([]time.Duration, error) {
	waits := make([]time.Duration, 0, n)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(waits) < n {
		stored := time.Duration(len(waits))
		if early := every*stored - time.Since(first); early > 0 {
			timer.Reset(early)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		due := min(n, int(time.Since(first)/every)+1) - len(waits)
		rows := min(due, batch)
		if err := store(ctx, rows); err != nil {
			return nil, err
		}
		end := time.Since(first)
		for i := range time.Duration(rows) {
			waits = append(waits, end-every*(stored+i))
		}
	}
	return waits, nil
}
