// Package ceiling measures how many message rows per second the databases alone can
// store: in batches, without servers, clients, order and lookups. A store's rate is
// compared with it, as a part of what the databases of this machine can do.
//
// MySQL measures MariaDB or MySQL with Redis, and Embedded measures SQLite. Both use the
// real schema, in a temporary database, and the real durability: a batch counts when it
// is committed. A short search finds the best number and size of concurrent batches.
//
// With Options.Rate the rows are due on a schedule instead, and what counts is how long
// each takes: the time of a row without a server around it.
package ceiling

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/opt"
)

// Options say what to store. Zero fields mean the defaults.
type Options struct {
	// Duration is the time of the measurement. Default 3 s. The search before it takes
	// about 2 s.
	Duration time.Duration
	// Search is the time for which each shape of batches is tried. Default 300 ms.
	Search time.Duration
	// Size is the length of each text in bytes, 1 to 4,096. Default 64.
	Size int
	// Conversations is the number of conversations of the messages. Default 200, at least
	// 16.
	Conversations int
	// Groups selects group messages instead of messages between two users. Their tables
	// have fewer indexes, and their unread count is a single number.
	Groups bool
	// Rate, when above 0, is the number of rows a second. They are due at even intervals,
	// and a batch has those that became due while the batch before was stored. The
	// measurement is not the highest rate then, but the times of Result.
	Rate float64
	// Begin and End, when set, are called when the rows that count begin and end.
	Begin, End func()
}

// MaxRate is the highest Options.Rate.
const MaxRate = 1_000_000

func (o *Options) defaults() error {
	opt.Default(&o.Duration, 3*time.Second)
	opt.Default(&o.Search, 300*time.Millisecond)
	if o.Size == 0 {
		o.Size = 64
	}
	if o.Size < 1 || o.Size > im.MaxContent {
		return im.Errorf(im.Invalid, "texts of %d bytes are out of range (1 to %d)", o.Size,
			im.MaxContent)
	}
	if o.Rate < 0 || o.Rate > MaxRate {
		return im.Errorf(im.Invalid, "%g rows a second are out of range (0 to %d)", o.Rate, MaxRate)
	}
	opt.Default(&o.Conversations, 200)
	o.Conversations = max(o.Conversations, 16)
	return nil
}

func (o *Options) text() string { return strings.Repeat("x", o.Size) }

// Result is the result of a measurement.
type Result struct {
	Rate     float64 // rows per second
	Rows     int64   // rows that were counted
	Workers  int     // concurrent batches
	Batch    int     // rows per batch; with Options.Rate the most of one
	Database string  // the databases and their durability, as text
	// With Options.Rate: the time from when a row was due until it was committed, of half
	// of the rows and of 99 in a hundred.
	P50, P99 time.Duration
}

// shape is a number of concurrent batches, and their size.
type shape struct{ workers, batch int }

// bed is a database under measurement.
type bed interface {
	// worker returns a function that stores a batch of rows, at most those of a shape. One
	// goroutine may use it. close releases its resources.
	worker(ctx context.Context, s shape, n int) (batch storeRows, close func(), err error)
}

// storeRows stores a batch of as many rows.
type storeRows func(ctx context.Context, rows int) error

// run finds the best shape and measures it. The search tries all numbers of workers with
// the first batch size, and then all batch sizes with the best number.
func run(ctx context.Context, b bed, o Options, workers, batches []int) (Result, error) {
	if o.Rate > 0 {
		return paced(ctx, b, o, shape{workers[0], batches[0]})
	}
	best, rate := shape{}, -1.0
	try := func(s shape) error {
		n, d, err := measure(ctx, b, s, o.Search)
		if r := float64(n) / d.Seconds(); err == nil && r > rate {
			best, rate = s, r
		}
		return err
	}
	for _, w := range workers {
		if err := try(shape{w, batches[0]}); err != nil {
			return Result{}, err
		}
	}
	for _, size := range batches[1:] {
		if err := try(shape{best.workers, size}); err != nil {
			return Result{}, err
		}
	}
	n, d, err := measure(ctx, b, best, o.Duration)
	if err != nil {
		return Result{}, err
	}
	return Result{Rate: float64(n) / d.Seconds(), Rows: n, Workers: best.workers,
		Batch: best.batch}, nil
}

// measure stores batches for d. It returns the rows that were committed, and the time
// that they took.
func measure(ctx context.Context, b bed, s shape, d time.Duration) (rows int64, took time.Duration,
	err error) {
	var (
		wg     sync.WaitGroup
		count  atomic.Int64
		stop   atomic.Bool
		batch  = make([]storeRows, s.workers)
		failed = make([]error, s.workers)
	)
	for i := range batch {
		f, done, err := b.worker(ctx, s, i)
		if err != nil {
			return 0, 0, err
		}
		defer done()
		batch[i] = f
	}
	begin := time.Now()
	end := begin.Add(d)
	for i, f := range batch {
		wg.Go(func() {
			// At least one batch: on a busy machine a worker may start after the end.
			for {
				if failed[i] = f(ctx, s.batch); failed[i] != nil {
					stop.Store(true)
					return
				}
				count.Add(int64(s.batch))
				if stop.Load() || !time.Now().Before(end) {
					return
				}
			}
		})
	}
	wg.Wait()
	took = time.Since(begin) // includes the last batches, which count as well
	if err := errors.Join(failed...); err != nil {
		return 0, 0, fmt.Errorf("store batches of %d rows, %d at once: %w", s.batch, s.workers, err)
	}
	return count.Load(), took, nil
}

// part is a conversation's part of a batch.
type part struct {
	conversation int // from 1
	rows         int
}

// spread divides a batch among the conversations of a worker. No two workers share a
// conversation, as with the strands of a server. Each batch continues after the
// conversation with which the previous one ended.
type spread struct {
	conversations []int
	next          int
}

func newSpread(o Options, s shape, worker int) *spread {
	var list []int
	for c := 1 + worker; c <= o.Conversations; c += s.workers {
		list = append(list, c)
	}
	return &spread{conversations: list}
}

// parts returns the parts of n rows, in increasing order of conversation.
func (s *spread) parts(n int, buf []part) []part {
	all := len(s.conversations)
	buf = buf[:0]
	for i, c := range s.conversations {
		rows := n / all
		if at := (i - s.next + all) % all; at < n%all {
			rows++
		}
		if rows > 0 {
			buf = append(buf, part{c, rows})
		}
	}
	s.next = (s.next + n%all) % all
	return buf
}
