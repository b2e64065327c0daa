package pool

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
)

// gate is a run function that holds each batch until the test lets it through.
type gate[T any] struct {
	started chan []T
	let     chan struct{}
}

func newGate[T any]() *gate[T] {
	return &gate[T]{started: make(chan []T), let: make(chan struct{})}
}

func (g *gate[T]) run(_ context.Context, items []T) {
	g.started <- slices.Clone(items)
	<-g.let
}

func add[T any](t *testing.T, b *Batcher[T], key uint64, items ...T) {
	t.Helper()
	for _, it := range items {
		if err := b.Add(key, it); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBatchFormsWhileOneIsInFlight(t *testing.T) {
	p := newPool(t, Options{Workers: 2})
	g := newGate[int]()
	b := NewBatcher(p, BatchOptions[int]{MaxItems: 4, MaxBytes: 100}, func(n int) int { return n },
		g.run)
	steps := []struct {
		add  []int
		want []int
	}{
		{add: []int{1}, want: []int{1}},                      // idle: at once, alone
		{add: []int{2, 3, 4, 5, 6}, want: []int{2, 3, 4, 5}}, // MaxItems
		{add: []int{60, 40}, want: []int{6, 60}},             // MaxBytes
		// The item of 500 exceeds MaxBytes: the batch before ends without it, and it is a
		// batch alone.
		{add: []int{500, 7}, want: []int{40}},
		{want: []int{500}},
		{add: []int{8, 9}, want: []int{7, 8, 9}},                 //
		{add: []int{50, 50, 0, 0, 1}, want: []int{50, 50, 0, 0}}, // exactly full
		{want: []int{1}},
	}
	for i, s := range steps {
		add(t, b, 42, s.add...)
		if i > 0 {
			g.let <- struct{}{}
		}
		if got := <-g.started; !slices.Equal(got, s.want) {
			t.Fatalf("batch %d: got %v, want %v", i, got, s.want)
		}
	}
	g.let <- struct{}{}
}

func TestBatchStartsAtOnceOnAnIdleSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Workers: 2})
		start := time.Now()
		ran := make(chan time.Duration, 1)
		b := NewBatcher(p, BatchOptions[int]{}, nil,
			func(context.Context, []int) { ran <- time.Since(start) })
		for range 3 {
			start = time.Now()
			add(t, b, 1, 1)
			if d := <-ran; d != 0 {
				t.Errorf("the batcher delayed an item by %v on an idle system", d)
			}
			synctest.Wait() // the shard is idle again
		}
		drain(t, p)
	})
}

func TestBatchesKeepTheOrderOfAKey(t *testing.T) {
	type item struct{ key, poster, n int }
	const keys, posters, each = 20, 4, 2000
	p := newPool(t, Options{Workers: 4})
	var mu sync.Mutex
	seen := map[int][]item{}
	b := NewBatcher(p, BatchOptions[item]{MaxItems: 16}, nil,
		func(_ context.Context, items []item) {
			mu.Lock()
			defer mu.Unlock()
			for _, it := range items {
				seen[it.key] = append(seen[it.key], it)
			}
		})
	var wg sync.WaitGroup
	for poster := range posters {
		wg.Go(func() {
			for n := range each {
				for im.KindOf(b.Add(uint64(n%keys), item{n % keys, poster, n})) == im.Busy {
				}
			}
		})
	}
	wg.Wait()
	drain(t, p)
	total := 0
	for key, items := range seen {
		last := [posters]int{-1, -1, -1, -1}
		for _, it := range items {
			if it.n <= last[it.poster] {
				t.Fatalf("key %d: item %d of poster %d came after %d", key, it.n, it.poster,
					last[it.poster])
			}
			last[it.poster] = it.n
		}
		total += len(items)
	}
	if total != posters*each {
		t.Errorf("%d items, want %d", total, posters*each)
	}
}

func TestPanicInABatchFailsItsItems(t *testing.T) {
	p := newPool(t, Options{Workers: 1})
	failed := make(chan []int, 1)
	stored := make(chan []int, 1)
	b := NewBatcher(p, BatchOptions[int]{Failed: func(items []int, err error) {
		if im.KindOf(err) != im.Internal {
			t.Errorf("Failed got the error %v, want one of kind Internal", err)
		}
		failed <- slices.Clone(items)
		panic("and here as well")
	}}, nil, func(_ context.Context, items []int) {
		if slices.Contains(items, 13) {
			slices.Reverse(items) // run may reorder its slice
			items = items[:0]
			_ = items
			panic("13")
		}
		stored <- slices.Clone(items)
	})
	release := stuck(t, p, 1)
	add(t, b, 1, 12, 13, 14)
	release()
	got := <-failed
	slices.Sort(got)
	if !slices.Equal(got, []int{12, 13, 14}) {
		t.Errorf("Failed got %v, want 12, 13 and 14", got)
	}
	add(t, b, 1, 15)
	if got := <-stored; !slices.Equal(got, []int{15}) {
		t.Errorf("after the panic the next batch was %v, want 15 alone", got)
	}
	if n := testutil.ToFloat64(p.metrics.panics); n != 2 {
		t.Errorf("counted %v panics, want 2", n)
	}
}

func TestFullBatchQueueRefuses(t *testing.T) {
	p := newPool(t, Options{Workers: 2})
	g := newGate[int]()
	b := NewBatcher(p, BatchOptions[int]{Shards: 1, QueueItems: 3, QueueBytes: 100},
		func(n int) int { return n }, g.run)
	add(t, b, 1, 1)
	<-g.started
	add(t, b, 1, 1, 1, 1)
	wantKind(t, b.Add(1, 1), im.Busy) // items
	g.let <- struct{}{}
	<-g.started
	add(t, b, 1, 60)
	wantKind(t, b.Add(1, 41), im.Busy) // bytes
	add(t, b, 1, 40)
	g.let <- struct{}{}
	<-g.started
	add(t, b, 1, 101) // larger than QueueBytes, and the queue is empty
	wantKind(t, b.Add(1, 0), im.Busy)
	g.let <- struct{}{}
	if got := <-g.started; !slices.Equal(got, []int{101}) {
		t.Errorf("got %v", got)
	}
	g.let <- struct{}{}
	drain(t, p)
	if n := testutil.ToFloat64(b.metrics.busy); n != 3 {
		t.Errorf("counted %v refusals, want 3", n)
	}
	if n := b.depth.Load(); n != 0 {
		t.Errorf("depth %d after everything ended", n)
	}
}

// TestBatchesLeaveWorkersForStrands fills every shard with batches that do not end. Tasks
// still run, and no more than BatchWorkers batches run at once.
func TestBatchesLeaveWorkersForStrands(t *testing.T) {
	p := newPool(t, Options{Workers: 4, BatchWorkers: 3})
	g := newGate[int]()
	var atOnce, most atomic.Int32
	b := NewBatcher(p, BatchOptions[int]{Shards: 8}, nil, func(ctx context.Context, items []int) {
		now := atOnce.Add(1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		g.run(ctx, items)
		atOnce.Add(-1)
	})
	shards := map[int]bool{}
	for key := uint64(0); len(shards) < 8; key++ {
		if n := spread(key, 8); !shards[n] {
			shards[n] = true
			add(t, b, key, 1)
		}
	}
	for range 3 {
		<-g.started
	}
	for key := range uint64(100) { // logins, for example
		done := make(chan struct{})
		if err := p.Do(key, func(context.Context) { close(done) }); err != nil {
			t.Fatal(err)
		}
		<-done
	}
	for range 5 { // the end of each batch lets the next one start
		g.let <- struct{}{}
		<-g.started
	}
	for range 3 {
		g.let <- struct{}{}
	}
	drain(t, p)
	if most.Load() != 3 {
		t.Errorf("%d batches at once, want 3", most.Load())
	}
}

// TestStrandsAndBatchesTakeTurns runs both kinds on one worker.
func TestStrandsAndBatchesTakeTurns(t *testing.T) {
	p := newPool(t, Options{Workers: 1})
	var order []byte // written by the only worker
	b := NewBatcher(p, BatchOptions[int]{Shards: 1, MaxItems: 1}, nil,
		func(context.Context, []int) { order = append(order, 'b') })
	release := stuck(t, p, 0)
	keys, used := []uint64{}, map[int]bool{spread(0, len(p.strands)): true}
	for key := uint64(1); len(keys) < 8; key++ {
		if s := spread(key, len(p.strands)); !used[s] {
			used[s] = true
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if err := p.Do(key, func(context.Context) { order = append(order, 's') }); err != nil {
			t.Fatal(err)
		}
		add(t, b, 1, 1)
	}
	release()
	drain(t, p)
	if got := string(order); got != "bsbsbsbsbsbsbsbs" && got != "sbsbsbsbsbsbsbsb" {
		t.Errorf("order %s, want turns", got)
	}
}

// TestLongStrandGivesItsWorkerBack posts more than maxRun tasks to one strand and then a
// task to another.
func TestLongStrandGivesItsWorkerBack(t *testing.T) {
	p := newPool(t, Options{Workers: 1, StrandQueue: 1000})
	release := stuck(t, p, 1)
	n, at := 0, -1
	for range 10 * maxRun {
		if err := p.Do(1, func(context.Context) { n++ }); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Do(elsewhere(p, 1), func(context.Context) { at = n }); err != nil {
		t.Fatal(err)
	}
	release()
	drain(t, p)
	if at < 0 || at > maxRun {
		t.Errorf("the other strand came after %d tasks of the long one, want at most %d", at,
			maxRun)
	}
}

// TestAllAcceptedWorkEnds posts tasks and items at random. A lost wake-up makes Close
// hang.
func TestAllAcceptedWorkEnds(t *testing.T) {
	for seed := range uint64(20) {
		p := New(Options{Workers: 1 + int(seed%4), Queue: 64, StrandQueue: 16, Strands: 8})
		var accepted, ended atomic.Int64
		b := NewBatcher(p, BatchOptions[int]{Shards: 1 + int(seed%3), MaxItems: 4, QueueItems: 32},
			nil, func(_ context.Context, items []int) { ended.Add(int64(len(items))) })
		var wg sync.WaitGroup
		for g := range uint64(4) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, g))
				for range 500 {
					var err error
					if rnd.IntN(2) == 0 {
						err = b.Add(rnd.Uint64(), 1)
					} else {
						err = p.Do(rnd.Uint64(), func(context.Context) {
							if b.Add(1, 1) == nil {
								accepted.Add(1)
							}
							ended.Add(1)
						})
					}
					if err == nil {
						accepted.Add(1)
					}
				}
			})
		}
		wg.Wait()
		drain(t, p)
		if accepted.Load() != ended.Load() {
			t.Fatalf("seed %d: %d accepted, %d ended", seed, accepted.Load(), ended.Load())
		}
		if p.queued.Load() != 0 || p.pending.Load() != 0 {
			t.Fatalf("seed %d: counters %d, %d", seed, p.queued.Load(), p.pending.Load())
		}
	}
}
