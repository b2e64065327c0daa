package pool

import (
	"context"
	"fmt"
	"log/slog"
	"math/bits"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/carrier"
	"teamtalk/core/hash"
	"teamtalk/core/im"
	"teamtalk/core/opt"
)

// Options configure a Pool. Zero fields mean the defaults.
type Options struct {
	// Name is the pool's label in metrics, unique in the process. Default "store".
	Name string
	// Workers is the number of tasks that run at once (see SizesFor). 0:
	// SizesFor(0).Workers.
	Workers int
	// BatchWorkers is the number of workers that batches may hold at once, 1 to Workers.
	// 0: half of them, at least one.
	BatchWorkers int
	// Queue bounds the tasks in all strands together, including the running ones. 0:
	// 2,048 per worker.
	Queue int
	// StrandQueue bounds the tasks that wait in one strand, so that one busy key does not
	// fill Queue. 0: a sixteenth of Queue, at least 16.
	StrandQueue int
	// Strands is the number of strands over which keys are spread. 0: 16 per worker.
	Strands int
	// Logger logs panics. nil: no log.
	Logger *slog.Logger
	// Registerer gets the metrics teamtalk_pool_*. nil: none. Two pools with one
	// Registerer need different names; New panics otherwise.
	Registerer prometheus.Registerer
}

// Sizes are the sizes that follow from the number of workers.
type Sizes struct {
	Workers int // goroutines that run tasks
	SQLOpen int // for sql.DB.SetMaxOpenConns, of each database: master and slave have a pool each
	// SQLIdle is for sql.DB.SetMaxIdleConns. It equals SQLOpen, because with fewer idle
	// connections the driver closes and opens connections under load.
	SQLIdle   int
	RedisPool int // for redis.Options.PoolSize
}

// SizesFor returns the sizes for a number of workers. For 0 or less it takes the default:
// twice GOMAXPROCS, and at least 8. Workers spend most of their time waiting. With fewer
// than 8, slow reads delay batches even on a small machine. With more than a few per
// core, only the database's own queues get longer.
func SizesFor(workers int) Sizes {
	if workers <= 0 {
		workers = max(8, 2*runtime.GOMAXPROCS(0))
	}
	return Sizes{Workers: workers, SQLOpen: workers, SQLIdle: workers, RedisPool: workers}
}

// Pool runs tasks on a fixed number of workers. Make one with New. Its methods may be
// called from any goroutine, and from tasks.
type Pool struct {
	name         string
	workers      int
	batchWorkers int
	queueLimit   int64
	strandLimit  int
	log          *slog.Logger
	reg          prometheus.Registerer
	metrics      *metrics
	carrier      *carrier.Carrier
	strands      []strand

	ctx    context.Context // handed to tasks
	cancel context.CancelFunc

	queued  atomic.Int64 // tasks in strands
	pending atomic.Int64 // tasks in strands and items in batchers; Close waits until it is 0
	closing atomic.Bool
	drained chan struct{} // closed when closing is set and pending is 0
	once    sync.Once     // closes drained

	mu        sync.Mutex // held for queue operations only
	ready     [classes]fifo[runnable]
	active    int   // workers that run or are about to start
	batching  int   // workers among active that hold a batch
	next      class // the class that has the next turn when both wait
	abandoned []func() int
}

// runnable is a strand or a shard of a batcher that has work. At most one worker has it
// at a time.
type runnable interface {
	// run does some of the work and reports whether more remains.
	run() (more bool)
}

type class uint8

const (
	classStrand class = iota
	classBatch
	classes
)

// New makes a pool. The caller must Close it.
func New(o Options) *Pool {
	p := &Pool{name: o.Name, workers: SizesFor(o.Workers).Workers, log: o.Logger, reg: o.Registerer,
		drained: make(chan struct{})}
	if p.name == "" {
		p.name = "store"
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.batchWorkers = max(1, min(opt.Or(o.BatchWorkers, p.workers/2), p.workers))
	p.queueLimit = int64(opt.Or(o.Queue, 2048*p.workers))
	p.strandLimit = opt.Or(o.StrandQueue, max(16, int(p.queueLimit/16)))
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.metrics = newMetrics(p, o.Registerer)
	p.strands = make([]strand, opt.Or(o.Strands, 16*p.workers))
	for i := range p.strands {
		p.strands[i].pool = p
	}
	p.carrier = carrier.New(carrier.Options{Size: p.workers,
		Panicked: func(v any) { p.panicked("worker", v) }})
	return p
}

// Workers returns the number of tasks that run at once.
func (p *Pool) Workers() int { return p.workers }

// BatchWorkers returns the number of workers that batches may hold at once.
func (p *Pool) BatchWorkers() int { return p.batchWorkers }

// Close refuses new work with im.Closed and waits until all accepted work has ended. When
// ctx ends first, Close drops the work that still waits (a batcher's items are passed to
// its Failed), cancels the context of running tasks and does not wait for them. It then
// returns an error of kind im.Closed that says how many tasks and items were dropped and
// how many still run. Close may be called again; it waits then as well.
func (p *Pool) Close(ctx context.Context) error {
	p.closing.Store(true)
	p.checkDrained()
	var err error
	select {
	case <-p.drained:
	default:
		select {
		case <-p.drained:
		case <-ctx.Done():
			err = p.abandon(ctx.Err())
		}
	}
	p.cancel()
	p.carrier.Close()
	return err
}

// abandon drops the work that waits, and then cancels the work that runs. In the opposite
// order a worker that ends because of the cancellation would start another task.
func (p *Pool) abandon(cause error) error {
	defer p.cancel()
	p.mu.Lock()
	drop := p.abandoned
	p.mu.Unlock()
	tasks, items := 0, 0
	for i := range p.strands {
		tasks += p.strands[i].abandon()
	}
	for _, f := range drop {
		items += f()
	}
	running := p.pending.Load()
	if tasks == 0 && items == 0 && running == 0 {
		return nil // everything ended in the meantime
	}
	p.metrics.dropped.Add(float64(tasks + items))
	return im.WithKind(im.Closed, fmt.Sprintf(
		"pool: %d tasks and %d items given up, %d still running", tasks, items, running), cause)
}

// accept counts one more task or item unless the pool is closing. It counts before it
// checks closing: either Close sees the count and waits, or accept takes it back.
func (p *Pool) accept() error {
	p.pending.Add(1)
	if p.closing.Load() {
		p.finished(1)
		return im.Errorf(im.Closed, "pool: shutting down")
	}
	return nil
}

// finished subtracts n tasks or items from the count.
func (p *Pool) finished(n int) {
	if p.pending.Add(-int64(n)) == 0 && p.closing.Load() {
		p.checkDrained()
	}
}

func (p *Pool) checkDrained() {
	if p.pending.Load() == 0 {
		p.once.Do(func() { close(p.drained) })
	}
}

// post queues r and starts a worker if one more is useful.
func (p *Pool) post(c class, r runnable) {
	p.mu.Lock()
	p.ready[c].push(r)
	spawn := p.wantWorker()
	p.mu.Unlock()
	if spawn {
		p.spawn()
	}
}

// wantWorker reports whether one more worker would find work, and counts that worker in
// active. The caller holds p.mu, and calls spawn after it releases p.mu.
func (p *Pool) wantWorker() bool {
	if p.active == p.workers || !p.eligible(classStrand) && !p.eligible(classBatch) {
		return false
	}
	p.active++
	return true
}

func (p *Pool) eligible(c class) bool {
	return p.ready[c].len() > 0 && (c != classBatch || p.batching < p.batchWorkers)
}

// spawn starts a worker that wantWorker has counted.
//
// A worker may start on a goroutine outside of ants, which may still count a worker that has
// just left p.work, and refuse. The bound on workers is p.active, so no goroutine exceeds it.
// Dropping the work, or waiting on an event loop, would be wrong.
func (p *Pool) spawn() { p.carrier.Go(p.work) }

// work runs one runnable after the other until pick returns none.
func (p *Pool) work() {
	for {
		r, c := p.pick()
		if r == nil {
			return
		}
		p.done(r, c, r.run())
	}
}

// pick takes the next runnable. A worker that finds none leaves active in the same
// critical section, so that the next post starts another worker. A runnable never waits
// beside an idle worker: each post starts a worker unless all are active, an active
// worker leaves only when no runnable is eligible, and a batch that waits because of
// BatchWorkers becomes eligible when another batch ends, whose worker then calls pick.
func (p *Pool) pick() (runnable, class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.next
	if !p.eligible(c) {
		c = 1 - c
	}
	if !p.eligible(c) {
		p.active--
		return nil, 0
	}
	p.next = 1 - c
	if c == classBatch {
		p.batching++
	}
	return p.ready[c].pop(), c
}

// done returns r to the pool after r ran. If work remains, r is appended to its queue.
func (p *Pool) done(r runnable, c class, more bool) {
	if c == classStrand && !more {
		return
	}
	p.mu.Lock()
	if c == classBatch {
		p.batching--
	}
	if more {
		p.ready[c].push(r)
	}
	p.mu.Unlock()
}

func (p *Pool) busyWorkers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.active
}

// panicked counts and logs a panic. The function that recovered the panic must call it,
// because the stack in the log is that of the caller.
func (p *Pool) panicked(what string, v any) error {
	p.metrics.panics.Inc()
	err := im.Errorf(im.Internal, "panic in %s: %v", what, v)
	p.log.Error("panic in pool", "err", err, "stack", string(debug.Stack()))
	return err
}

// spread maps a key to 0 … n-1. It spreads evenly even when keys are small numbers or
// differ in few bits.
func spread(key uint64, n int) int {
	hi, _ := bits.Mul64(hash.Mix(key), uint64(n))
	return int(hi)
}

// A strand gives its worker back after maxRun tasks or maxSlice although it has more. It
// checks the slice between tasks.
const (
	maxRun   = 32
	maxSlice = 2 * time.Millisecond
)
