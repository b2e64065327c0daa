// Package carrier keeps pools of goroutines of github.com/panjf2000/ants open only while they
// are used. An open pool wakes the process twice a second, to keep the time of its idle
// goroutines, although there is an option that lets none of them end. In an idle process of
// three pools these were most of all wake-ups.
package carrier

import (
	"fmt"
	"sync"
	"time"

	"github.com/panjf2000/ants/v2"

	"teamtalk/core/mono"
)

const (
	// often is the time between two uses below which a pool is worth opening: work that is
	// done every few seconds starts a goroutine.
	often = 100 * time.Millisecond
	// restAfter is the time without use, up to twice as long, after which a pool is closed.
	restAfter = time.Second
)

// Options says which pools a Carrier opens.
type Options struct {
	// Size is the largest number of goroutines of a pool. Required.
	Size int
	// Panicked is called with what a function of Go panicked with. Required.
	Panicked func(v any)
}

// Carrier is a pool of goroutines that is open while it is used. Make one with New, and Close
// it. All methods: any goroutine.
type Carrier struct {
	open     func() *ants.Pool
	panicked func(any) // nil: a panic of Go ends the process

	mu     sync.Mutex
	pool   *ants.Pool  // nil: not open
	users  int         // calls of With that run
	last   int64       // mono.Of of the last use
	timer  *time.Timer // closes pool; nil: not open
	closed bool
}

// New makes a Carrier of pools whose idle goroutines do not end before the pool is closed.
func New(o Options) *Carrier {
	c := Of(func() *ants.Pool {
		p, err := ants.NewPool(o.Size, ants.WithNonblocking(true), ants.WithDisablePurge(true),
			ants.WithPanicHandler(o.Panicked))
		if err != nil {
			panic(fmt.Sprintf("carrier: ants refuses constant options: %v", err))
		}
		return p
	})
	c.panicked = o.Panicked
	return c
}

// Of makes a Carrier of the pools that open makes. open must not wait.
func Of(open func() *ants.Pool) *Carrier { return &Carrier{open: open} }

// Go runs f on a goroutine of the pool while there are many calls, and otherwise on a new one.
func (c *Carrier) Go(f func()) {
	c.mu.Lock()
	now := mono.Of(time.Now())
	if c.pool == nil && now-c.last < int64(often) {
		c.start()
	}
	pool := c.pool
	c.last = now
	c.mu.Unlock()
	// A full pool refuses, and so does one that was closed meanwhile.
	if pool == nil || pool.Submit(f) != nil {
		go c.run(f)
	}
}

// run runs f on a goroutine outside of the pools.
func (c *Carrier) run(f func()) {
	if c.panicked != nil {
		defer func() {
			if v := recover(); v != nil {
				c.panicked(v)
			}
		}()
	}
	f()
}

// With calls f while a pool is open. It opens none after Close.
func (c *Carrier) With(f func()) {
	c.use(1)
	defer c.use(-1)
	f()
}

// use adds n to the calls of With that run.
func (c *Carrier) use(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users += n
	c.last = mono.Of(time.Now())
	if c.pool == nil && n > 0 {
		c.start()
	}
}

// start opens the pool. The caller holds c.mu.
func (c *Carrier) start() {
	if c.closed {
		return
	}
	c.pool = c.open()
	c.timer = time.AfterFunc(restAfter, c.rest)
}

// rest closes the pool if it was not used for restAfter.
func (c *Carrier) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pool == nil {
		return
	}
	if c.users > 0 || mono.Of(time.Now())-c.last < int64(restAfter) {
		c.timer.Reset(restAfter)
		return
	}
	c.release()
}

// release closes the pool. A function that runs on one of its goroutines continues, and then
// the goroutine ends. A closed pool of ants can be opened again, but only when all its
// goroutines have ended, so the next use makes a new one. The caller holds c.mu.
func (c *Carrier) release() {
	if c.pool == nil {
		return
	}
	c.timer.Stop()
	c.pool.Release()
	c.pool, c.timer = nil, nil
}

// Open reports whether a pool is open.
func (c *Carrier) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pool != nil
}

// Close closes the pool for good. A function that runs on one of its goroutines continues, and
// later calls of Go start a goroutine each.
func (c *Carrier) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.release()
}
