package pool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/opt"
)

// BatchOptions configure a Batcher. Zero fields mean the defaults.
type BatchOptions[T any] struct {
	// Name is the batcher's label in metrics, unique in its pool. Default "messages".
	Name string
	// Shards is the number of batches that may be in flight at once. Items of one key
	// always meet in the same shard. 0: the pool's BatchWorkers, at most 4. Few large
	// batches are faster than many small ones: with one transaction per batch on MySQL, 4
	// × 256 rows store 64,000 messages a second, and 4 × 64 rows half of that. A store
	// with one writer (SQLite) needs 1.
	Shards int
	// MaxItems and MaxBytes bound a batch. A single item larger than MaxBytes is a batch
	// of its own. 0: 256 items, 256 KiB.
	MaxItems int
	MaxBytes int
	// QueueItems and QueueBytes bound the queue of one shard. An empty shard accepts an
	// item larger than QueueBytes. 0: 8,192 items, 16 MiB.
	QueueItems int
	QueueBytes int
	// Failed is called with the items of a batch whose run panicked (err of kind
	// im.Internal), and with the items that a shutdown drops (im.Closed), so that each
	// item has an outcome. After a panic the items may include some that run had already
	// answered. Failed is not called for items that Add refused. nil: the items get no
	// outcome, and a panic is only logged.
	Failed func(items []T, err error)
}

// Batcher collects items into batches. Make one with NewBatcher. Its methods may be
// called from any goroutine, and from run.
type Batcher[T any] struct {
	pool    *Pool
	o       BatchOptions[T]
	size    func(T) int
	run     func(context.Context, []T)
	metrics *batchMetrics
	shards  []shard[T]
	depth   atomic.Int64
}

// shard is a sequence of batches: at most one of them is in flight.
type shard[T any] struct {
	b *Batcher[T]

	mu      sync.Mutex // held for queue operations only
	queue   fifo[queued[T]]
	bytes   int  // of the queue
	running bool // runnable or with a worker; the goroutine that sets it posts the shard

	batch []T // the batch in flight; owned by the worker that runs the shard
}

type queued[T any] struct {
	item  T
	size  int
	added time.Time
}

// NewBatcher makes a batcher that runs its batches on p. size returns an item's size in
// bytes, for the bounds; nil counts every item as 0. run gets one batch at a time per
// shard, in the order of Add, with at least one item. run may reorder the slice until it
// returns, and must give every item its outcome. The context of run ends when a shutdown
// reaches its deadline. The batcher is closed with the pool.
func NewBatcher[T any](p *Pool, o BatchOptions[T], size func(T) int,
	run func(ctx context.Context, items []T)) *Batcher[T] {
	if o.Name == "" {
		o.Name = "messages"
	}
	o.Shards = opt.Or(o.Shards, min(4, p.batchWorkers))
	o.MaxItems = opt.Or(o.MaxItems, 256)
	o.MaxBytes = opt.Or(o.MaxBytes, 256<<10)
	o.QueueItems = opt.Or(o.QueueItems, 8192)
	o.QueueBytes = opt.Or(o.QueueBytes, 16<<20)
	if size == nil {
		size = func(T) int { return 0 }
	}
	b := &Batcher[T]{pool: p, o: o, size: size, run: run, shards: make([]shard[T], o.Shards)}
	for i := range b.shards {
		b.shards[i].b = b
	}
	b.metrics = newBatchMetrics(p.name, o.Name, o.Shards*o.QueueItems,
		func() float64 { return float64(b.depth.Load()) }, p.reg)
	p.mu.Lock()
	p.abandoned = append(p.abandoned, b.abandon)
	p.mu.Unlock()
	return b
}

// Add appends item to a shard's queue and returns at once. Items of one key are handed to
// run in the order of their Adds, in one batch or in successive ones. The error is of
// kind im.Busy when the shard's queue is full, and im.Closed after the pool's Close; the
// item is not queued then. Any goroutine.
func (b *Batcher[T]) Add(key uint64, item T) error {
	if err := b.pool.accept(); err != nil {
		return err
	}
	n := b.size(item)
	s := &b.shards[spread(key, len(b.shards))]
	s.mu.Lock()
	if waiting := s.queue.len(); waiting >= b.o.QueueItems ||
		waiting > 0 && s.bytes+n > b.o.QueueBytes {
		s.mu.Unlock()
		b.pool.finished(1)
		b.metrics.busy.Inc()
		return im.Errorf(im.Busy, "pool: queue of %s is full", b.o.Name)
	}
	b.depth.Add(1)
	s.queue.push(queued[T]{item: item, size: n, added: time.Now()})
	s.bytes += n
	post := !s.running
	s.running = true
	s.mu.Unlock()
	if post {
		b.pool.post(classBatch, s)
	}
	return nil
}

// run hands one batch to the batcher's run function. A worker calls it.
func (s *shard[T]) run() (more bool) {
	b := s.b
	bytes, oldest := s.take()
	n := len(s.batch)
	if n == 0 { // a shutdown took the items
		return !s.idle()
	}
	start := time.Now()
	b.metrics.items.Observe(float64(n))
	b.metrics.bytes.Observe(float64(bytes))
	b.metrics.wait.Observe(start.Sub(oldest).Seconds())
	s.runBatch()
	b.metrics.seconds.Observe(time.Since(start).Seconds())
	clear(s.batch)
	b.depth.Add(-int64(n))
	// This is the last step, so that a Close that returned has waited for the end of
	// every batch.
	more = !s.idle()
	b.pool.finished(n)
	return more
}

// take moves the items of the next batch from the queue to s.batch.
func (s *shard[T]) take() (bytes int, oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batch = s.batch[:0]
	for s.queue.len() > 0 && len(s.batch) < s.b.o.MaxItems {
		q := s.queue.peek()
		if len(s.batch) > 0 && bytes+q.size > s.b.o.MaxBytes {
			break
		}
		if len(s.batch) == 0 {
			oldest = q.added
		}
		s.queue.pop()
		s.batch = append(s.batch, q.item)
		bytes += q.size
	}
	s.bytes -= bytes
	return bytes, oldest
}

// idle clears running if the queue is empty, and reports whether it is.
func (s *shard[T]) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = s.queue.len() > 0
	return !s.running
}

func (s *shard[T]) runBatch() {
	// run may reorder its slice, so that it and Failed see the same items. It cannot
	// shorten s.batch.
	defer func() {
		if v := recover(); v != nil {
			s.b.fail(s.batch, s.b.pool.panicked("batch of "+s.b.o.Name, v))
		}
	}()
	s.b.run(s.b.pool.ctx, s.batch)
}

// fail calls Failed with items. A panic in Failed is only logged, since no caller is left
// to handle it.
func (b *Batcher[T]) fail(items []T, err error) {
	if b.o.Failed == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			_ = b.pool.panicked(fmt.Sprintf("Failed of %s", b.o.Name), v)
		}
	}()
	b.o.Failed(items, err)
}

// abandon fails the queued items and returns their number. It leaves running set: a
// worker runs the shard now or later, and finds no items.
func (b *Batcher[T]) abandon() (total int) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		items := make([]T, 0, s.queue.len())
		for s.queue.len() > 0 {
			items = append(items, s.queue.pop().item)
		}
		s.bytes = 0
		s.mu.Unlock()
		if len(items) == 0 {
			continue
		}
		b.fail(items, im.Errorf(im.Closed, "pool: shutting down"))
		b.depth.Add(-int64(len(items)))
		b.pool.finished(len(items))
		total += len(items)
	}
	return total
}
