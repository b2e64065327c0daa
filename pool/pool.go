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

	"github.com/panjf2000/ants/v2"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
)

// Options of a Pool. The zero value is a working default.
type Options struct {
	// Name tells several pools of one process apart in metrics. Default "store".
	Name string
	// Workers is the number of tasks that run at once, see SizesFor. 0: SizesFor(0).Workers.
	Workers int
	// BatchWorkers is how many of them batches may hold at once, 1 … Workers. 0: half, at least one.
	BatchWorkers int
	// Queue is the most tasks in all strands together, running ones included. 0: 2,048 per worker.
	Queue int
	// StrandQueue is the most tasks waiting in one strand, so that one key that floods does not fill Queue. 0: a sixteenth of
	// Queue, at least 16.
	StrandQueue int
	// Strands is how many strands keys are spread over. 0: 16 per worker.
	Strands int
	// Logger gets panics and what a shutdown gave up. nil: none.
	Logger *slog.Logger
	// Registerer gets the metrics teamtalk_pool_*. nil: none. Two pools need two names there; New panics on the second otherwise.
	Registerer prometheus.Registerer
}

// Sizes is what follows from the number of workers.
type Sizes struct {
	Workers int // goroutines that run tasks
	SQLOpen int // for sql.DB.SetMaxOpenConns, of each database: master and slave have a pool each
	// for sql.DB.SetMaxIdleConns; the same, or connections are closed and opened under load
	SQLIdle   int
	RedisPool int // for redis.Options.PoolSize
}

// SizesFor returns the sizes for a number of workers; for 0 or less, the default of twice GOMAXPROCS and at least 8. Workers mostly wait:
// below 8, slow reads and batches get into each other's way even on a small machine; more than a few per core only lengthens the
// database's own queues.
func SizesFor(workers int) Sizes {
	if workers <= 0 {
		workers = max(8, 2*runtime.GOMAXPROCS(0))
	}
	return Sizes{Workers: workers, SQLOpen: workers, SQLIdle: workers, RedisPool: workers}
}

// Pool runs tasks on a fixed number of workers. Make one with New; its methods may be called from anywhere, tasks included.
type Pool struct {
	name         string
	workers      int
	batchWorkers int
	queueLimit   int64
	strandLimit  int
	log          *slog.Logger
	reg          prometheus.Registerer
	metrics      *metrics
	ants         *ants.Pool
	strands      []strand

	ctx    context.Context // handed to tasks
	cancel context.CancelFunc

	queued  atomic.Int64 // tasks in strands
	pending atomic.Int64 // tasks in strands and items in batchers: what Close waits for
	closing atomic.Bool
	drained chan struct{} // closed once closing and pending is 0
	once    sync.Once     // closes drained

	mu        sync.Mutex // held for queue operations only
	ready     [classes]fifo[runnable]
	active    int   // workers that run, or are about to
	batching  int   // of these, those that hold a batch
	next      class // whose turn it is when both wait
	abandoned []func() int
}

// runnable is a strand or a shard of a batcher that has work. At most one worker has it at a time.
type runnable interface {
	// run does some of the work and says whether there is more.
	run() (more bool)
}

type class uint8

const (
	classStrand class = iota
	classBatch
	classes
)

// New makes a pool. Close it.
func New(o Options) *Pool {
	p := &Pool{name: o.Name, workers: SizesFor(o.Workers).Workers, log: o.Logger, reg: o.Registerer,
		drained: make(chan struct{})}
	if p.name == "" {
		p.name = "store"
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.batchWorkers = max(1, min(orDefault(o.BatchWorkers, p.workers/2), p.workers))
	p.queueLimit = int64(orDefault(o.Queue, 2048*p.workers))
	p.strandLimit = orDefault(o.StrandQueue, max(16, int(p.queueLimit/16)))
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.metrics = newMetrics(p, o.Registerer)
	p.strands = make([]strand, orDefault(o.Strands, 16*p.workers))
	for i := range p.strands {
		p.strands[i].pool = p
	}
	a, err := ants.NewPool(p.workers,
		ants.WithNonblocking(true),
		ants.WithDisablePurge(true), // a handful of goroutines may stay
		ants.WithPanicHandler(func(v any) { p.panicked("worker", v) }))
	if err != nil {
		panic(fmt.Sprintf("pool: ants refuses constant options: %v", err))
	}
	p.ants = a
	return p
}

// Workers is the number of tasks that run at once.
func (p *Pool) Workers() int { return p.workers }

// BatchWorkers is the number of workers that batches may hold at once.
func (p *Pool) BatchWorkers() int { return p.batchWorkers }

// Close refuses new work with im.Closed and waits until what was accepted is finished. When ctx ends first, what still waits
// is given up (a batcher's items through its Failed), the context of running tasks is cancelled, and the error, of kind im.Closed, says how much
// that was. Tasks already running are not waited for then. Close may be called again; it waits as well.
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
	p.ants.Release()
	return err
}

// abandon gives up what waits, and then cancels what runs: the other way round a worker that is set free would start on the rest.
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
		return nil // finished meanwhile
	}
	p.metrics.dropped.Add(float64(tasks + items))
	return im.WithKind(im.Closed, fmt.Sprintf(
		"pool: %d tasks and %d items given up, %d still running", tasks, items, running), cause)
}

// accept counts one more task or item unless the pool is closing. The count goes first: either Close sees it and waits, or it is
// taken back here.
func (p *Pool) accept() error {
	p.pending.Add(1)
	if p.closing.Load() {
		p.finished(1)
		return im.Errorf(im.Closed, "pool: shutting down")
	}
	return nil
}

// finished takes n tasks or items off the count.
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

// post makes r runnable and sees to it that a worker comes.
func (p *Pool) post(c class, r runnable) {
	p.mu.Lock()
	p.ready[c].push(r)
	spawn := p.wantWorker()
	p.mu.Unlock()
	if spawn {
		p.spawn()
	}
}

// wantWorker says whether one more worker would find something to do, and counts it if so. The caller holds p.mu and spawns it.
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

// spawn starts a worker that is counted in p.active.
func (p *Pool) spawn() {
	// ants may still count a worker that has left p.work a moment ago, and refuse. The bound is p.active, so a goroutine beside
	// the pool is right; dropping the work, or waiting on an event loop, would not be.
	if p.ants.Submit(p.work) != nil {
		go p.work()
	}
}

// work is what a worker does: one runnable after the other, until there is none for it.
func (p *Pool) work() {
	for {
		r, c := p.pick()
		if r == nil {
			return
		}
		p.done(r, c, r.run())
	}
}

// pick takes the next runnable. A worker that finds none is no longer active, in the same critical section, so whatever is posted later
// starts another one. No runnable is ever left beside an idle worker: each post starts one unless all are active, an active one leaves
// only when nothing is eligible, and a batch that waits for BatchWorkers becomes eligible by the end of another, whose worker picks next.
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

// done gives r back after it ran. With more to do it goes to the end of its queue.
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

// panicked counts and logs a panic. It is called by the function that recovered it, so the stack is that of the panic.
func (p *Pool) panicked(what string, v any) error {
	p.metrics.panics.Inc()
	err := im.Errorf(im.Internal, "panic in %s: %v", what, v)
	p.log.Error("panic in pool", "err", err, "stack", string(debug.Stack()))
	return err
}

// spread maps a key to 0 … n-1, evenly also for keys that are small numbers or differ in few bits.
func spread(key uint64, n int) int {
	key ^= key >> 30
	key *= 0xbf58476d1ce4e5b9
	key ^= key >> 27
	key *= 0x94d049bb133111eb
	key ^= key >> 31
	hi, _ := bits.Mul64(key, uint64(n))
	return int(hi)
}

func orDefault(v, def int) int {
	if v <= 0 {
		return def
	}
	return v
}

// maxRun and maxSlice are when a strand gives its worker back although it has more tasks. The slice is looked at between tasks.
const (
	maxRun   = 32
	maxSlice = 2 * time.Millisecond
)
