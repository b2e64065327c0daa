// Package gather collects requests that arrive during a look-up, so that they are looked up
// together in the next one. A request on an idle system does not wait.
package gather

import (
	"context"
	"sync"

	"teamtalk/core/im"
)

const (
	// shards is the number of look-ups that may run at the same time: more than one, so that
	// one slow answer does not delay all requests.
	shards = 4
	// maxBatch is the largest number of requests in one look-up. maxWaiting bounds the
	// requests that wait in a shard. Further ones are refused as busy.
	maxBatch   = 64
	maxWaiting = 4096
	// firstKey is the first key of the tasks. No user has these keys. tries is the number of
	// keys that are tried while queues are full.
	firstKey = 1 << 62
	tries    = 4
)

// Gatherer hands requests of type T to Run in batches. Requests with the same key are in the
// same shard, whose batches run one after another in the order of Add. Any goroutine.
type Gatherer[T any] struct {
	// Do runs a task on a worker. An error means that the task will not run.
	Do func(key uint64, task func(ctx context.Context)) error
	// Run handles a batch.
	Run func(ctx context.Context, batch []T)
	// Failed gets a request that was accepted, and for which no task could be started.
	Failed func(T, error)

	shards [shards]shard[T]
}

// shard holds the waiting requests of a part of the keys.
type shard[T any] struct {
	mu      sync.Mutex
	waiting []T
	running bool   // a task is posted or runs
	turn    uint64 // number of tasks posted
}

// Add adds a request. After an error it is not handled.
func (g *Gatherer[T]) Add(key uint64, request T) error {
	key %= shards
	s := &g.shards[key]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= maxWaiting {
		return im.Errorf(im.Busy, "%d requests are waiting", len(s.waiting))
	}
	if !s.running {
		if err := g.post(key); err != nil {
			return err
		}
		s.running = true
	}
	s.waiting = append(s.waiting, request)
	return nil
}

// post posts a task that handles the requests of a shard. The caller holds the shard's
// mutex. Tasks share their queues with tasks of other keys, also with those of users with
// very many requests. So each task gets a new key: a full queue then does not keep a
// quarter of all users out. A shard has one task at a time, so the order is kept.
func (g *Gatherer[T]) post(key uint64) (err error) {
	s := &g.shards[key]
	for range tries {
		s.turn++
		err = g.Do(firstKey+s.turn*shards+key, func(ctx context.Context) { g.run(ctx, key) })
		if im.KindOf(err) != im.Busy {
			break
		}
	}
	return err
}

// run handles waiting requests of a shard, on a worker. When more than one batch waits, the
// rest is left to a further task at the end of a queue.
func (g *Gatherer[T]) run(ctx context.Context, key uint64) {
	s := &g.shards[key]
	s.mu.Lock()
	batch := s.waiting
	s.waiting = nil
	if len(batch) > maxBatch {
		batch, s.waiting = batch[:maxBatch:maxBatch], batch[maxBatch:]
	}
	s.mu.Unlock()
	defer g.proceed(key) // after a panic too
	g.Run(ctx, batch)
}

// proceed posts a further task when requests are waiting.
func (g *Gatherer[T]) proceed(key uint64) {
	s := &g.shards[key]
	var left []T
	var err error
	s.mu.Lock()
	if s.running = len(s.waiting) > 0; s.running {
		if err = g.post(key); err != nil {
			left, s.waiting, s.running = s.waiting, nil, false
		}
	}
	s.mu.Unlock()
	for _, request := range left {
		g.Failed(request, err)
	}
}
