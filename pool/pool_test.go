package pool

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	_ "modernc.org/sqlite"

	"teamtalk/core/im"
)

// newPool makes a pool that is drained and closed at the end of the test.
func newPool(t testing.TB, o Options) *Pool {
	t.Helper()
	p := New(o)
	t.Cleanup(func() { drain(t, p) })
	return p
}

func drain(t testing.TB, p *Pool) {
	t.Helper()
	if err := p.Close(t.Context()); err != nil && t.Context().Err() == nil {
		t.Errorf("close: %v", err)
	}
}

func wantKind(t *testing.T, err error, k im.Kind) {
	t.Helper()
	if err == nil || im.KindOf(err) != k {
		t.Fatalf("got %v, want an error of kind %v", err, k)
	}
}

// stuck posts a task that occupies its worker until the returned function is called.
func stuck(t *testing.T, p *Pool, key uint64) (release func()) {
	t.Helper()
	started, end := make(chan struct{}), make(chan struct{})
	if err := p.Do(key, func(context.Context) { close(started); <-end }); err != nil {
		t.Fatal(err)
	}
	<-started
	return func() { close(end) }
}

// elsewhere returns a key whose strand differs from that of key.
func elsewhere(p *Pool, key uint64) uint64 {
	other := key + 1
	for spread(other, len(p.strands)) == spread(key, len(p.strands)) {
		other++
	}
	return other
}

func TestStrandKeepsTheOrderOfAKey(t *testing.T) {
	const keys, posters, each = 50, 4, 2000
	p := newPool(t, Options{Workers: 4})
	type mark struct{ poster, n int }
	// only its strand writes to each slice: the race detector checks that
	seen := make([][]mark, keys)
	var wg sync.WaitGroup
	for poster := range posters {
		wg.Go(func() {
			for n := range each {
				key := n % keys
				for {
					err := p.Do(uint64(key), func(context.Context) {
						seen[key] = append(seen[key],
							mark{poster, n})
					})
					if err == nil {
						break
					}
					if im.KindOf(err) != im.Busy {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	drain(t, p)
	total := 0
	for key, marks := range seen {
		last := [posters]int{-1, -1, -1, -1}
		for _, m := range marks {
			if m.n <= last[m.poster] {
				t.Fatalf("key %d: task %d of poster %d ran after %d", key, m.n, m.poster,
					last[m.poster])
			}
			last[m.poster] = m.n
		}
		total += len(marks)
	}
	if total != posters*each {
		t.Errorf("%d tasks ran, want %d", total, posters*each)
	}
}

func TestAllWorkersRunAtOnce(t *testing.T) {
	p := newPool(t, Options{Workers: 3})
	var meet sync.WaitGroup // no task ends before all three have started
	meet.Add(3)
	key := uint64(0)
	used := map[int]bool{}
	for range 3 {
		for used[spread(key, len(p.strands))] {
			key++
		}
		used[spread(key, len(p.strands))] = true
		if err := p.Do(key, func(context.Context) { meet.Done(); meet.Wait() }); err != nil {
			t.Fatal(err)
		}
	}
	meet.Wait()
}

func TestFullStrandDoesNotBlockOthers(t *testing.T) {
	p := newPool(t, Options{Workers: 2, StrandQueue: 16})
	release := stuck(t, p, 1)
	var ran atomic.Int32
	for range 16 {
		if err := p.Do(1, func(context.Context) { ran.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, p.Do(1, func(context.Context) { t.Error("a refused task ran") }), im.Busy)
	done := make(chan struct{})
	if err := p.Do(elsewhere(p, 1), func(context.Context) { close(done) }); err != nil {
		t.Fatalf("a strand refuses a task because another is full: %v", err)
	}
	<-done
	if n := testutil.ToFloat64(p.metrics.busy); n != 1 {
		t.Errorf("busy counted %v times, want 1", n)
	}
	release()
	drain(t, p)
	if ran.Load() != 16 {
		t.Errorf("%d accepted tasks ran, want 16", ran.Load())
	}
}

func TestFullQueueRefuses(t *testing.T) {
	p := newPool(t, Options{Workers: 1, Queue: 10, StrandQueue: 100})
	release := stuck(t, p, 1)
	for key := range uint64(9) {
		if err := p.Do(key, func(context.Context) {}); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, p.Do(99, func(context.Context) { t.Error("a refused task ran") }), im.Busy)
	release()
	drain(t, p)
	if n := p.queued.Load(); n != 0 {
		t.Errorf("queued is %d after the last task, want 0: a refused task was counted", n)
	}
}

func TestPanicInATaskIsCountedAndLogged(t *testing.T) {
	var log syncBuffer
	p := newPool(t, Options{Workers: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err := p.Do(7, func(context.Context) { panicHere() }); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	if err := p.Do(7, func(context.Context) { close(done) }); err != nil {
		t.Fatal(err)
	}
	<-done
	if n := testutil.ToFloat64(p.metrics.panics); n != 1 {
		t.Errorf("counted %v panics, want 1", n)
	}
	if s := log.String(); !strings.Contains(s, "panicHere") || !strings.Contains(s, "a fault") {
		t.Errorf("the log lacks the panic or its stack: %s", s)
	}
}

//go:noinline
func panicHere() { panic("a fault") }

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestPoolOfOneWorkerAndOneConnection checks the two rules of the package comment with
// the smallest pool. Tasks and batches post further ones while they hold the connection.
func TestPoolOfOneWorkerAndOneConnection(t *testing.T) {
	p := newPool(t, Options{Workers: 1})
	db, err := sql.Open("sqlite", t.TempDir()+"/one.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(SizesFor(p.Workers()).SQLOpen)
	if _, err := db.Exec("CREATE TABLE t (n INTEGER PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	const n = 100
	var done sync.WaitGroup
	done.Add(2 * n) // n rows in batches and n tasks that count
	b := NewBatcher(p, BatchOptions[int]{Shards: 2}, nil, func(ctx context.Context, items []int) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for _, i := range items {
			if _, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (?)", i); err != nil {
				t.Error(err)
			}
			// Posts while it holds the only connection.
			if err := p.Do(uint64(i), func(ctx context.Context) {
				defer done.Done()
				var count int
				if err := db.QueryRowContext(ctx, "SELECT count(*) FROM t WHERE n = ?",
					i).Scan(&count); err != nil || count != 1 {
					t.Errorf("row %d: count %d, %v", i, count, err)
				}
			}); err != nil {
				t.Error(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	})
	for i := range n {
		if err := p.Do(uint64(i), func(context.Context) {
			defer done.Done()
			if err := b.Add(uint64(i), i); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
}

func TestCloseDrains(t *testing.T) {
	p := New(Options{Workers: 2})
	var ran, stored atomic.Int32
	b := NewBatcher(p, BatchOptions[int]{MaxItems: 3}, nil,
		func(_ context.Context, items []int) { stored.Add(int32(len(items))) })
	release := stuck(t, p, 1)
	for i := range 100 {
		if err := p.Do(1, func(context.Context) { ran.Add(1) }); err != nil {
			t.Fatal(err)
		}
		if err := b.Add(uint64(i), i); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan error)
	go func() { closed <- p.Close(context.Background()) }()
	for im.KindOf(p.Do(5, func(context.Context) {})) != im.Closed { // until Close has begun
	}
	wantKind(t, p.Do(1, func(context.Context) { t.Error("ran after Close") }), im.Closed)
	wantKind(t, b.Add(1, 1), im.Closed)
	select {
	case err := <-closed:
		t.Fatalf("Close returned %v while a task was running", err)
	default:
	}
	release()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if ran.Load() != 100 || stored.Load() != 100 {
		t.Errorf("%d tasks and %d items finished before Close returned, want 100 of each",
			ran.Load(), stored.Load())
	}
	if err := p.Close(context.Background()); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestCloseDropsWorkAtTheDeadline(t *testing.T) {
	p := New(Options{Workers: 1})
	cancelled := make(chan struct{})
	started := make(chan struct{})
	if err := p.Do(1,
		func(ctx context.Context) { close(started); <-ctx.Done(); close(cancelled) }); err != nil {
		t.Fatal(err)
	}
	<-started
	var failed []int
	b := NewBatcher(p, BatchOptions[int]{Failed: func(items []int, err error) {
		if im.KindOf(err) != im.Closed {
			t.Errorf("Failed got the error %v, want one of kind Closed", err)
		}
		failed = append(failed, items...)
	}}, nil, func(context.Context, []int) { t.Error("a batch ran after the deadline") })
	for i := range 3 {
		if err := b.Add(1, i); err != nil {
			t.Fatal(err)
		}
		if err := p.Do(1,
			func(context.Context) { t.Error("a task ran after the deadline") }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := p.Close(ctx)
	wantKind(t, err, im.Closed)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(),
		"3 tasks and 3 items given up") {
		t.Errorf("close: %v", err)
	}
	if len(failed) != 3 {
		t.Errorf("Failed got %v, want 3 items", failed)
	}
	<-cancelled
	if err := p.Close(context.Background()); err != nil { // waits for the running task
		t.Errorf("second close: %v", err)
	}
}

// TestPoolUnderVirtualTime runs a pool inside a synctest bubble, where waiting for a real
// clock would hang.
func TestPoolUnderVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Workers: 2})
		var rows int
		b := NewBatcher(p, BatchOptions[int]{Shards: 1}, nil, func(_ context.Context, items []int) {
			time.Sleep(10 * time.Millisecond) // as long as a database takes
			rows += len(items)
		})
		start := time.Now()
		for i := range 256 {
			if err := b.Add(1, i); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan struct{})
		if err := p.Do(1, func(context.Context) { close(done) }); err != nil {
			t.Fatal(err)
		}
		<-done
		if d := time.Since(start); d != 0 {
			t.Errorf("a task on an idle worker waited %v", d)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); rows != 256 || d > 20*time.Millisecond {
			t.Errorf("%d rows in %v, want 256 in two batches of 10 ms", rows, d)
		}
	})
}

func TestSizesFollowFromTheWorkers(t *testing.T) {
	if s := SizesFor(5); s != (Sizes{Workers: 5, SQLOpen: 5, SQLIdle: 5, RedisPool: 5}) {
		t.Errorf("SizesFor(5) = %+v", s)
	}
	if s := SizesFor(0); s.Workers < 8 {
		t.Errorf("SizesFor(0) = %+v, want at least 8 workers", s)
	}
	if p := newPool(t, Options{Workers: 3}); p.Workers() != 3 || p.BatchWorkers() != 1 {
		t.Errorf("workers %d, for batches %d; want 3 and 1", p.Workers(), p.BatchWorkers())
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	p := newPool(t, Options{Workers: 2, Registerer: reg})
	b := NewBatcher(p, BatchOptions[string]{}, func(s string) int { return len(s) },
		func(context.Context, []string) {})
	newPool(t, Options{Name: "other", Registerer: reg}) // two pools share a registry
	if err := b.Add(1, "abc"); err != nil {
		t.Fatal(err)
	}
	if err := p.Do(1, func(context.Context) {}); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	want := `
# HELP teamtalk_pool_tasks_total Tasks finished, panicked ones included.
# TYPE teamtalk_pool_tasks_total counter
teamtalk_pool_tasks_total{pool="other"} 0
teamtalk_pool_tasks_total{pool="store"} 1
# HELP teamtalk_pool_queue_depth Tasks posted to strands and not finished.
# TYPE teamtalk_pool_queue_depth gauge
teamtalk_pool_queue_depth{pool="other"} 0
teamtalk_pool_queue_depth{pool="store"} 0
# HELP teamtalk_pool_batch_queue_depth Items added and not finished.
# TYPE teamtalk_pool_batch_queue_depth gauge
teamtalk_pool_batch_queue_depth{batcher="messages",pool="store"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want),
		"teamtalk_pool_tasks_total", "teamtalk_pool_queue_depth",
		"teamtalk_pool_batch_queue_depth"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// TestWorkRunsWhenAntsRefuses closes the ants pool.
func TestWorkRunsWhenAntsRefuses(t *testing.T) {
	p := newPool(t, Options{Workers: 2})
	p.carrier.Close()
	done := make(chan struct{})
	if err := p.Do(1, func(context.Context) { close(done) }); err != nil {
		t.Fatal(err)
	}
	<-done
}

func TestFifo(t *testing.T) {
	var f fifo[*int]
	next, want := 0, 0
	push := func(n int) {
		for range n {
			v := next
			f.push(&v)
			next++
		}
	}
	pop := func(n int) {
		for range n {
			if got := *f.peek(); got != want || *f.pop() != want {
				t.Fatalf("got %d, want %d", got, want)
			}
			want++
		}
	}
	for round := range 300 {
		push(round % 7 * 3)
		pop(min(f.len(), round%11*2))
		for i, v := range f.items[:cap(f.items)] {
			if v != nil && (i < f.head || i >= len(f.items)) {
				t.Fatalf("slot %d outside of the queue still holds on to %d", i, *v)
			}
		}
	}
	push(2 * keepCap)
	pop(f.len())
	if next != want || cap(f.items) > keepCap {
		t.Errorf("pushed %d, popped %d; an empty queue keeps %d slots", next, want, cap(f.items))
	}
}
