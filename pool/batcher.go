package pool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
)

// BatchOptions of a Batcher. The zero value is a working default.
type BatchOptions[T any] struct {
	// Name tells several batchers of one pool apart in metrics. Default "messages".
	Name string
	// Shards is how many batches may be under way at once; items of one key always meet in the same shard. 0: the pool's
	// BatchWorkers, at most 4. Few big batches beat many small ones: with one transaction per batch on MySQL, 4 × 256 rows
	// store 64,000 messages a second, 4 × 64 half of that. A store with one writer (SQLite) wants 1.
	Shards int
	// MaxItems and MaxBytes bound a batch. A single larger item is a batch of its own. 0: 256 items, 256 KiB.
	MaxItems int
	MaxBytes int
	// QueueItems and QueueBytes bound what waits in one shard. An item that is larger than QueueBytes is taken by an empty shard.
	// 0: 8,192 items, 16 MiB.
	QueueItems int
	QueueBytes int
	// Failed is called with the items of a batch whose run panicked (err of kind im.Internal), and with those that a shutdown
	// gave up (im.Closed), so that each item has an outcome. The items may be some that run has answered already before it
	// panicked. Not called for anything that Add refused. nil: nobody is told; the panic is logged.
	Failed func(items []T, err error)
}

// Batcher collects items into batches. Make one with NewBatcher; its methods may be called from anywhere, run included.
type Batcher[T any] struct {
	pool    *Pool
	o       BatchOptions[T]
	size    func(T) int
	run     func(context.Context, []T)
	metrics *batchMetrics
	shards  []shard[T]
	depth   atomic.Int64
}

// shard is one sequence of batches.
type shard[T any] struct {
	b *Batcher[T]

	mu      sync.Mutex // held for queue operations only
	queue   fifo[queued[T]]
	bytes   int  // of the queue
	running bool // runnable or with a worker; who sets it posts the shard

	batch []T // the batch under way; belongs to the worker that has the shard
}

type queued[T any] struct {
	item  T
	size  int
	added time.Time
}

// NewBatcher makes a batcher that runs its batches on p. size is an item's size in bytes, for the bounds; nil counts every item as 0.
// run gets one batch at a time per shard, in the order of Add, at least one item; the slice is its own to reorder until it returns. It
// gives every item its outcome. Its context ends when a shutdown reaches its deadline. The batcher ends with the pool.
func NewBatcher[T any](p *Pool, o BatchOptions[T], size func(T) int,
	run func(ctx context.Context, items []T)) *Batcher[T] {
	if o.Name == "" {
		o.Name = "messages"
	}
	o.Shards = orDefault(o.Shards, min(4, p.batchWorkers))
	o.MaxItems = orDefault(o.MaxItems, 256)
	o.MaxBytes = orDefault(o.MaxBytes, 256<<10)
	o.QueueItems = orDefault(o.QueueItems, 8192)
	o.QueueBytes = orDefault(o.QueueBytes, 16<<20)
	if size == nil {
		size = func(T) int { return 0 }
	}
	b := &Batcher[T]{pool: p, o: o, size: size, run: run, shards: make([]shard[T], o.Shards)}
	for i := range b.shards {
		b.shards[i].b = b
	}
	b.metrics = newBatchMetrics(p.name, o.Name, func() float64 { return float64(b.depth.Load()) },
		p.reg)
	p.mu.Lock()
	p.abandoned = append(p.abandoned, b.abandon)
	p.mu.Unlock()
	return b
}

// Add puts item into a batch and returns at once. Items of one key are handed over in the order of their Adds, by one batch or by
// successive ones. The error is of kind im.Busy when the shard's queue is full and im.Closed after the pool's Close; the item is not
// taken then.
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

// run is called by a worker: one batch.
func (s *shard[T]) run() (more bool) {
	b := s.b
	bytes, oldest := s.take()
	n := len(s.batch)
	if n == 0 { // abandoned
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
	// Last: a Close that returned has seen every batch end.
	more = !s.idle()
	b.pool.finished(n)
	return more
}

// take moves what the next batch may hold from the queue to s.batch.
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

// idle ends the shard's running if nothing waits, and says so.
func (s *shard[T]) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = s.queue.len() > 0
	return !s.running
}

func (s *shard[T]) runBatch() {
	// run may reorder its slice, so it and Failed see the same items; it cannot shorten s.batch.
	defer func() {
		if v := recover(); v != nil {
			s.b.fail(s.batch, s.b.pool.panicked("batch of "+s.b.o.Name, v))
		}
	}()
	s.b.run(s.b.pool.ctx, s.batch)
}

// fail tells the owner of items. Its panic is only logged: there is nobody left to tell.
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

// abandon gives up the items that wait and says how many. The shard stays running: a worker has it, or will, and finds nothing.
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
