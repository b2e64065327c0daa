package pool

import (
	"context"
	"sync"
	"time"

	"teamtalk/core/im"
)

// strand runs its tasks one after the other.
type strand struct {
	pool *Pool

	mu      sync.Mutex // held for queue operations only
	queue   fifo[task]
	running bool // runnable or with a worker; who sets it posts the strand
}

type task struct {
	run    func(context.Context)
	posted time.Time
}

// Do runs task on a worker, after all earlier tasks of the same key, and returns at once. The context ends when a shutdown reaches its
// deadline. A panic in task is logged and counted; the tasks behind it run. A task that must give an answer whatever happens sees to it
// with a deferred function of its own; it must not end its goroutine (runtime.Goexit).
//
// The error is of kind im.Busy when a queue is full and im.Closed after Close; the task does not run then.
func (p *Pool) Do(key uint64, run func(ctx context.Context)) error {
	if err := p.accept(); err != nil {
		return err
	}
	if p.queued.Add(1) > p.queueLimit {
		return p.refuse("all strands")
	}
	s := &p.strands[spread(key, len(p.strands))]
	s.mu.Lock()
	if s.queue.len() >= p.strandLimit {
		s.mu.Unlock()
		return p.refuse("the strand")
	}
	s.queue.push(task{run: run, posted: time.Now()})
	post := !s.running
	s.running = true
	s.mu.Unlock()
	if post {
		p.post(classStrand, s)
	}
	return nil
}

// refuse takes back what Do has counted.
func (p *Pool) refuse(full string) error {
	p.queued.Add(-1)
	p.finished(1)
	p.metrics.busy.Inc()
	return im.Errorf(im.Busy, "pool: queue of %s is full", full)
}

// run is called by a worker.
func (s *strand) run() (more bool) {
	start := time.Now()
	now := start
	for n := 0; n < maxRun && now.Sub(start) < maxSlice; n++ {
		t, ok := s.take()
		if !ok {
			return false
		}
		s.pool.metrics.wait.Observe(now.Sub(t.posted).Seconds())
		s.pool.runTask(t.run)
		now = time.Now()
	}
	return !s.idle()
}

// take returns the next task. With none left the strand is no longer running, in the same critical section.
func (s *strand) take() (task, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.len() == 0 {
		s.running = false
		return task{}, false
	}
	return s.queue.pop(), true
}

// idle ends the strand's running if it has no task, and says so.
func (s *strand) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = s.queue.len() > 0
	return !s.running
}

func (p *Pool) runTask(run func(context.Context)) {
	defer func() {
		if v := recover(); v != nil {
			_ = p.panicked("task", v) // logged there
		}
		p.metrics.tasks.Inc()
		p.queued.Add(-1)
		p.finished(1)
	}()
	run(p.ctx)
}

// abandon drops the tasks that wait and says how many. The strand stays running: a worker has it, or will, and finds nothing.
func (s *strand) abandon() int {
	s.mu.Lock()
	n := s.queue.len()
	s.queue = fifo[task]{}
	s.mu.Unlock()
	s.pool.queued.Add(-int64(n))
	s.pool.finished(n)
	return n
}
