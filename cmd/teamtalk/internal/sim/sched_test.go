package sim

import (
	"cmp"
	"container/heap"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// sched runs one thing at a time, in virtual time. Its goroutine, the main one of the
// bubble, runs the loops of all processes, the network and the clients. The goroutines of
// links and workers run between two events, until all of them wait. They change nothing
// of the world themselves: they post what they want, and the scheduler carries it out
// when all wait. It sorts the posts by their source, so that the order in which
// goroutines ran does not count.
type sched struct {
	seed   uint64
	began  time.Time
	queue  eventQueue
	serial uint64
	events int
	trace  uint64 // of all events
	log    *strings.Builder
	timer  *time.Timer
	poke   chan struct{} // holds one token when posts wait

	// shaken says that goroutines give up the processor at random, see shake.
	shaken bool

	mu    sync.Mutex
	posts []post
}

// event is something that happens at a time.
type event struct {
	at     time.Duration
	serial uint64 // in the order of being scheduled
	name   string
	run    func()
}

// source is something that posts, and its own random numbers. What one source draws does
// not change when another one is left out.
type source struct {
	name  string
	posts uint64
	rand  *rand.Rand
}

// post is what a goroutine wants to be done when all goroutines wait.
type post struct {
	from *source
	n    uint64
	run  func()
}

func newSched(seed uint64) *sched {
	s := &sched{seed: seed, began: time.Now(), trace: fnvOffset, poke: make(chan struct{}, 1)}
	s.timer = time.NewTimer(time.Hour)
	return s
}

// source returns a source with random numbers that follow from the seed and the name.
func (s *sched) source(name string) *source {
	return &source{name: name, rand: rand.New(rand.NewPCG(s.seed, hashOf(name)))}
}

func hashOf(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum64()
}

// now returns the time since the begin of the run. Any goroutine.
func (s *sched) now() time.Duration { return time.Since(s.began) }

// post has run called on the scheduler's goroutine when all other goroutines wait. Any
// goroutine.
func (s *sched) post(from *source, run func()) {
	s.shake()
	s.mu.Lock()
	defer s.mu.Unlock()
	from.posts++
	s.posts = append(s.posts, post{from: from, n: from.posts, run: run})
	select {
	case s.poke <- struct{}{}:
	default: // it holds a token already
	}
}

// shake lets other goroutines run before the caller continues, at random. The runtime does the
// same to goroutines when the machine is busy. Any goroutine.
func (s *sched) shake() {
	if s.shaken {
		for range rand.IntN(3) {
			runtime.Gosched()
		}
	}
}

// after schedules an event. Scheduler only, as all methods below.
func (s *sched) after(d time.Duration, name string, run func()) { s.at(s.now()+d, name, run) }

func (s *sched) at(t time.Duration, name string, run func()) {
	s.serial++
	heap.Push(&s.queue, event{at: t, serial: s.serial, name: name, run: run})
}

// settle lets the goroutines run until all wait, and carries out what they posted.
func (s *sched) settle() {
	for {
		synctest.Wait()
		s.mu.Lock()
		list := s.posts
		s.posts = nil
		s.mu.Unlock()
		if len(list) == 0 {
			return
		}
		slices.SortFunc(list, func(a, b post) int {
			return cmp.Or(cmp.Compare(a.from.name, b.from.name), cmp.Compare(a.n, b.n))
		})
		for _, p := range list {
			p.run()
		}
	}
}

// runUntil runs the events up to a time.
func (s *sched) runUntil(end time.Duration) {
	for {
		s.settle()
		next := end
		if len(s.queue) > 0 {
			next = min(end, s.queue[0].at)
		}
		if d := next - s.now(); d > 0 {
			s.sleep(d)
			continue // posts may have scheduled an earlier event
		}
		if len(s.queue) == 0 || s.queue[0].at > end {
			return
		}
		e := heap.Pop(&s.queue).(event)
		s.note(e)
		e.run()
	}
}

// sleep lets time pass until d is over or a goroutine posts.
func (s *sched) sleep(d time.Duration) {
	s.timer.Reset(d)
	select {
	case <-s.timer.C:
	case <-s.poke:
	}
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// note adds an event to the trace, by which two runs are compared.
func (s *sched) note(e event) {
	s.events++
	s.trace = (s.trace ^ uint64(e.at) ^ hashOf(e.name)) * fnvPrime
	if s.log != nil {
		fmt.Fprintf(s.log, "%12v %s\n", e.at, e.name)
	}
}

// between returns a random duration in [low, high).
func (src *source) between(low, high time.Duration) time.Duration {
	return low + time.Duration(src.rand.Int64N(int64(high-low)))
}

// chance reports true with probability p.
func (src *source) chance(p float64) bool { return src.rand.Float64() < p }

// eventQueue is a heap of events, by time and then in the order of being scheduled.
type eventQueue []event

func (q eventQueue) Len() int      { return len(q) }
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].serial < q[j].serial
}

// Push implements heap.Interface.
func (q *eventQueue) Push(x any) { *q = append(*q, x.(event)) }

// Pop implements heap.Interface.
func (q *eventQueue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = event{}
	*q = (*q)[:len(*q)-1]
	return last
}
