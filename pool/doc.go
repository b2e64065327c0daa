// Package pool bounds the work that waits for a database, and orders it. It decides how
// many tasks run at once and which task is next.
//
// # One number
//
// All sizes follow from the number of workers (see SizesFor): the goroutines that run
// tasks, the open and idle MySQL connections, and the size of the Redis pool. With as
// many connections as workers no task waits for a connection, provided that two rules
// hold:
//
//   - No task takes a second connection while it holds one. (A transaction and a query
//     beside it are two.)
//   - No task waits for another task. A task that needs work afterwards posts that work
//     and returns.
//
// Code that breaks one of the rules hangs a pool of one worker. The tests run with such a
// pool.
//
// The first rule binds every method of a store as well. A method gives its connection
// back before it asks for the next one, and it runs everything that belongs together on
// one connection: locks, transactions and the queries within them. With 16 connections
// and 50 senders to one group, workers that each hold one connection and wait for a
// second one deadlock. The store on MySQL and Redis passes its whole contract, groups
// included, with a pool of one connection.
//
// # Strands and batchers
//
// A strand (Pool.Do) runs the tasks of one key one after the other, in the order in which
// they were posted. Different keys run in parallel. Keys are spread over a fixed number
// of strands. Two keys may share a strand and then wait for each other, which costs time
// and never correctness.
//
// A Batcher collects items while the previous batch is in flight and then hands them over
// together: group commit without a timer. The first item on an idle system is handed over
// at once. The busier the system, the larger the batches.
//
// Both are bounded. When a bound is reached the call fails at once with im.Busy, and the
// caller answers its client. Nothing blocks an event loop, and every drop is counted.
//
// # Fairness
//
// A flood of messages must not keep users from logging in. Batches hold at most
// Options.BatchWorkers of the workers at a time, by default half, so that the others are
// free for strands. When both kinds wait for a worker they take turns, so that a flood of
// reads does not keep messages from being stored. A strand gives its worker back after
// maxRun tasks or maxSlice, whichever is reached first. With a single worker only the
// turns remain.
//
// # Scheduling
//
// A strand or a batcher's shard that has work is runnable, and is queued in Pool once,
// however much work it has. A worker takes one runnable after the other until none is
// left. The bound on the number of workers is active, under the same lock as the queue.
//
// Nothing here reads a clock except for metrics and slices, so that a pool made inside a
// testing/synctest bubble works there. Close it before the bubble ends.
//
// # The carrier: ants
//
// A worker runs on a goroutine of github.com/panjf2000/ants. ants keeps the goroutines of
// workers that have ended, with the stacks that they have grown, and hands the next
// worker to one of them. It gives no order, no queue (a full ants pool refuses or blocks
// the caller) and no bound that this package relies on, because ants may still count a
// worker that has already left. When ants refuses, the worker starts on a new goroutine.
//
// It costs one dependency, and as many idle goroutines as were ever busy at once, at most
// Workers. A pool of ants also wakes the process twice a second. So core/carrier opens one when
// workers start often, and closes it after a second without. Otherwise a worker starts on a new
// goroutine.
//
// Time of a task that starts a worker on an idle pool, median of ten runs on two shared
// cores (Go 1.26), from
//
//	go test ./pool -run '^$' -bench Carrier -benchtime 200000x -count 10
//
//	                     ants      a new goroutine
//	empty task           750 ns    640 ns
//	16 KiB of stack      8.9 µs    12.7 µs
//
// So ants saves the growth of the stack, about 4 µs for each worker that starts, and
// costs 0.1 µs. A busy pool starts no workers. Beside a query, which takes 100 µs and
// more, neither shows.
package pool
