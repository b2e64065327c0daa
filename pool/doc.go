// Package pool is the one decision about concurrency: how much work that waits (for a database, mostly) is under way at once, and in
// which order.
//
// # One number
//
// Everything follows from the number of workers, see SizesFor: the goroutines that run tasks, the open and idle MySQL connections, the
// size of the Redis pool. With as many connections as workers nobody ever waits for a connection, provided that two rules hold:
//
//   - No task takes a second connection while it holds one. (A transaction and a query beside it are two.)
//   - No task waits for another task. A task that needs something done afterwards posts it and returns.
//
// Whoever breaks one of them hangs a pool of one worker, which is what the tests use.
//
// The first rule binds every method of a store as well, however it is called: it gives its connection back before it asks for the next, and runs on that one
// connection what belongs together – locks, transactions, the queries within. With 16 connections and 50 senders to one group, workers that each hold one and
// wait for a second wait for ever. The store on MySQL and Redis passes its whole contract, groups included, with a pool of one connection.
//
// # Three ways in
//
// Strands (Pool.Do) run the tasks of one key one after the other, in the order they were posted, and different keys in parallel. Keys are
// spread over a fixed number of strands; two keys may share one and then wait for each other, which costs time and never correctness.
//
// A Batcher collects items while the batch before is under way and hands them over together: group commit without a timer. The first
// item on an idle system is handed over at once; the busier the system the larger the batches.
//
// Both are bounded. When a bound is reached the call fails at once with im.Busy, and the caller answers its client so; nothing blocks
// an event loop, and nothing is dropped without being counted.
//
// # Fairness
//
// A flood of messages must not keep people from logging in. Batches hold at most Options.BatchWorkers of the workers at a time, by
// default half, so that the rest is always there for strands; and when both are waiting for a worker they take turns, so that a flood of
// reads does not keep messages from being stored. A strand gives its worker back after maxRun tasks or maxSlice, whichever comes
// first. With a single worker only the turns are left.
//
// # The machinery
//
// A strand or a batcher's shard that has work is runnable, once, however much it has. Runnables queue in Pool; a worker is an ants task
// that takes one after the other until none is left. The bound on the number of workers is kept here, under the same lock as the queue,
// because an ants pool has no queue of its own: it refuses, or blocks the caller.
//
// Nothing here reads a clock for anything but metrics and slices, so that a pool made inside a testing/synctest bubble works there;
// close it before the bubble ends.
package pool
