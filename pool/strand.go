package pool

import (
	"context"
	"sync"
	"time"

	"teamtalk/core/im"
)

// strand is a queue of tasks that run one after the other.
type strand struct {
	pool *Pool

	mu      sync.Mutex // held for queue operations only
	queue   fifo[task]
	running bool // runnable or with a worker; the goroutine that sets it posts the strand
}

type task struct {
	run    func(context.Context)
	posted time.Time
}

// Do runs task on a worker, after all earlier tasks of the same key, and returns at once.
// The task's context ends when a shutdown reaches its deadline. A panic in task is logged
// and counted, and the tasks behind it run. A task that must give an answer in every case
// does so in a deferred function of its own. It must not end its goroutine
// (runtime.Goexit).
//
// The error is of kind im.Busy when a queue is full, and im.Closed after Close; the task
// does not run then. Any goroutine.
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

// refuse takes back the counts of a task that Do does not queue.
func (p *Pool) refuse(full string) error {
	p.queued.Add(-1)
	p.finished(1)
	p.metrics.busy.Inc()
	return im.Errorf(im.Busy, "pool: queue of %s is full", full)
}

// run runs tasks until the strand is empty or has used its slice. A worker calls it.
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

// take returns the next task. If there is none it clears running in the same critical
// section.
func (s *strand) take() (task, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.len() == 0 {
		s.running = false
		return task{}, false
	}
	return s.queue.pop(), true
}

// idle clears running if the queue is empty, and reports whether it is.
func (s *strand) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = s.queue.len() > 0
	return !s.running
}

func (p *Pool) runTask(run func(context.Context)) {
	defer func() {
		if v := recover(); v != nil {
			_ = p.panicked("task", v) // logged by panicked
		}
		p.metrics.tasks.Inc()
		p.queued.Add(-1)
		p.finished(1)
	}()
	run(p.ctx)
}

// abandon drops the queued tasks and returns their number. It leaves running set: a
// worker runs the strand now or later, and finds no tasks.
func (s *strand) abandon() int {
	s.mu.Lock()
	n := s.queue.len()
	s.queue = fifo[task]{}
	s.mu.Unlock()
	s.pool.queued.Add(-int64(n))
	s.pool.finished(n)
	return n
}
