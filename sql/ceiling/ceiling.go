// Package ceiling measures what the databases alone make of the rows of messages: as many as they take, in batches, with no servers, no clients, no
// order to keep and nothing to look up. It is what a store's rate is held against: "so much of what this machine's databases can do".
//
// MySQL measures MariaDB or MySQL with Redis, Embedded measures SQLite; both use the real schema, in a database of their own that is gone afterwards, and the durability
// of the real one: a batch counts once it is committed. How many batches run at once, and how large they are, is found by a short search.
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
)

// Options say what is stored. Zero values mean the defaults.
type Options struct {
	// Duration is how long is counted. Default 3 s. The search before takes about 2 s more.
	Duration time.Duration
	// Search is how long each shape of batches is tried. Default 300 ms.
	Search time.Duration
	// Size is the length of each text in bytes, 1 to 4,096. Default 64.
	Size int
	// Conversations is how many the messages belong to. Default 200, at least 16.
	Conversations int
	// Groups says that they are messages to groups, not between two users: their tables have fewer indexes, and of unread messages one number is kept.
	Groups bool
}

func (o *Options) defaults() error {
	if o.Duration <= 0 {
		o.Duration = 3 * time.Second
	}
	if o.Search <= 0 {
		o.Search = 300 * time.Millisecond
	}
	if o.Size == 0 {
		o.Size = 64
	}
	if o.Size < 1 || o.Size > im.MaxContent {
		return im.Errorf(im.Invalid, "texts of %d bytes: 1 to %d can be stored", o.Size,
			im.MaxContent)
	}
	if o.Conversations <= 0 {
		o.Conversations = 200
	}
	o.Conversations = max(o.Conversations, 16)
	return nil
}

func (o *Options) text() string { return strings.Repeat("x", o.Size) }

// Result is what was found.
type Result struct {
	Rate     float64 // rows a second
	Rows     int64   // that were counted
	Workers  int     // batches under way at once
	Batch    int     // rows of a batch
	Database string  // what stored them, in words
}

// shape is a way to cut the rows into batches.
type shape struct{ workers, batch int }

// bed is a database that takes batches.
type bed interface {
	// worker returns a function that stores one batch of a shape. Each belongs to one goroutine; close frees what it holds.
	worker(ctx context.Context, s shape, n int) (batch func(context.Context) error, close func(),
		err error)
}

// run finds the best of shapes and measures it. The first ones are steps of one row: the search goes on in the next row with the best of the last.
func run(ctx context.Context, b bed, o Options, workers, batches []int) (Result, error) {
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

// measure stores batches for d, and returns how many rows were committed in how long.
func measure(ctx context.Context, b bed, s shape, d time.Duration) (rows int64, took time.Duration,
	err error) {
	var (
		wg     sync.WaitGroup
		count  atomic.Int64
		stop   atomic.Bool
		batch  = make([]func(context.Context) error, s.workers)
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
			for !stop.Load() && time.Now().Before(end) {
				if failed[i] = f(ctx); failed[i] != nil {
					stop.Store(true)
					return
				}
				count.Add(int64(s.batch))
			}
		})
	}
	wg.Wait()
	took = time.Since(begin) // the last batches count with the time they took
	if err := errors.Join(failed...); err != nil {
		return 0, 0, fmt.Errorf("store batches of %d rows, %d at once: %w", s.batch, s.workers, err)
	}
	return count.Load(), took, nil
}

// part is a conversation's share of a batch.
type part struct {
	conversation int // from 1 on
	rows         int
}

// spread shares a batch out over the conversations of a worker: each has its own, as strands see to it in a server. The batches go on where the last one
// ended.
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

// parts returns the shares of n rows, in increasing order of conversation.
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
