// Package rediswhereabouts keeps in Redis on which message servers the devices of users are
// connected, and which of them have a member of a group: in a server, a master with Sentinels, or
// a Redis Cluster. It is a whereabouts.Store.
//
// Each user has a hash with a field for each message server. A login is one script on one key: it
// writes the field of its message server and returns those of the others. All updates of a call
// are sent in one pipeline, and each has its own error.
//
// Redis may lose what it held. Watch notices that, so that each process writes again what it has.
// DESIGN.md says what happens in each failure.
package rediswhereabouts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/obs"
	"teamtalk/core/opt"
	"teamtalk/core/whereabouts"
	"teamtalk/sql/redishealth"
	"teamtalk/sql/store/redisconn"
)

// Options configures a Store. Timeout and Poll are required.
type Options struct {
	// Redis must be the instance of the unread counts: db_proxy reads the whereabouts there.
	Redis redisconn.Instance
	// Timeout bounds each pipeline.
	Timeout time.Duration
	// Poll is the time between two looks for a loss.
	Poll time.Duration
	// Connections is the largest number of connections to each server. Default: 8.
	Connections int
	// Log gets a line when Redis goes away, when it is back, and when it has lost entries.
	// Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Store is a whereabouts.Store in Redis. Any goroutine.
type Store struct {
	opt     Options
	client  redis.UniversalClient
	health  redishealth.Health
	metrics *metrics
	often   obs.Often     // bounds the log of values that are no entries
	seen    atomic.Uint64 // the largest version that this process has been given
	settle  time.Duration // settleTime; tests set it
}

var _ whereabouts.Store = (*Store)(nil)

// Open makes a store. It connects to Redis at its first use.
func Open(o Options) *Store {
	opt.Require("Timeout", o.Timeout)
	opt.Require("Poll", o.Poll)
	opt.Default(&o.Connections, 8)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{opt: o, client: redisconn.Connect(o.Redis, o.Connections), settle: settleTime}
	s.health.Starting(opWatch, errStarting)
	s.metrics = newMetrics(o, s)
	return s
}

// Close closes the connections to Redis.
func (s *Store) Close() error { return s.client.Close() }

// Apply writes updates of one node; see whereabouts.Store. The Err of an update by a process
// whose node a later process has is a *whereabouts.ReplacedError.
func (s *Store) Apply(ctx context.Context, by whereabouts.Node,
	updates []whereabouts.Update) []whereabouts.Result {
	results := make([]whereabouts.Result, len(updates))
	for first := 0; first < len(updates); first += redisconn.PipelineSize {
		end := min(len(updates), first+redisconn.PipelineSize)
		s.applyPart(ctx, by, updates[first:end], results[first:end])
	}
	return results
}

// applyPart writes the updates of one pipeline.
func (s *Store) applyPart(ctx context.Context, by whereabouts.Node, updates []whereabouts.Update,
	results []whereabouts.Result) {
	seen := s.seen.Load()
	runs := make([]*redisconn.Run, len(updates))
	for i, u := range updates {
		value := ""
		if len(u.Devices) > 0 {
			value = whereabouts.Encode(by.Epoch, u.Devices)
		}
		runs[i] = &redisconn.Run{Script: update, Keys: []string{Key(u.User)},
			Args: updateArgs(by.Name, by.Epoch, value, seen)}
	}
	c := s.begin(ctx, opApply)
	redisconn.RunAll(c.ctx, s.client, runs)
	for i, u := range updates {
		answer, err := runs[i].Answer.StringSlice()
		if err != nil {
			results[i].Err = c.failed(Key(u.User), err)
			continue
		}
		results[i] = resultOf(by, Key(u.User), answer, &c.refused)
		s.saw(results[i].Version)
		c.judge(results[i].Err)
	}
	c.end(len(updates))
}

// saw notes a version that this process was given.
func (s *Store) saw(version uint64) {
	for {
		seen := s.seen.Load()
		if version <= seen || s.seen.CompareAndSwap(seen, version) {
			return
		}
	}
}

// Lookup returns what is known of users; see whereabouts.Store.
func (s *Store) Lookup(ctx context.Context, users []uint32) []whereabouts.Found {
	found, _ := s.LookupAll(ctx, users, nil)
	return found
}

// lookupPart looks up the users and groups of one pipeline.
func (s *Store) lookupPart(ctx context.Context, users []uint32, found []whereabouts.Found,
	groups []uint32, of []whereabouts.Group) {
	c := s.begin(ctx, opLookup)
	asked, askedGroups := make([]Asked, len(users)), make([]*redis.ScanCmd, len(groups))
	// The error of the pipeline is that of its first failed command. Each command has its own.
	_, _ = s.client.Pipelined(c.ctx, func(p redis.Pipeliner) error {
		for i, u := range users {
			asked[i] = Ask(c.ctx, p, u)
		}
		for i, g := range groups {
			askedGroups[i] = p.HScan(c.ctx, GroupKey(g), 0, "", maxFields)
		}
		return nil
	})
	for i, u := range users {
		if err := asked[i].answer.Err(); err != nil {
			found[i].Err = c.failed(Key(u), err)
			continue
		}
		found[i] = asked[i].Found(&c.refused)
		c.judge(found[i].Err)
	}
	for i, g := range groups {
		if err := askedGroups[i].Err(); err != nil {
			of[i].Err = c.failed(GroupKey(g), err)
			continue
		}
		of[i] = groupFound(GroupKey(g), askedGroups[i], &c.refused)
		c.judge(of[i].Err)
	}
	c.end(len(users) + len(groups))
}

// Remove removes entries of a user whose process has ended; see whereabouts.Store.
func (s *Store) Remove(ctx context.Context, user uint32, ended []whereabouts.Node) error {
	if len(ended) == 0 {
		return nil
	}
	args := make([]any, 0, 2*len(ended))
	for _, n := range ended {
		args = append(args, n.Name, strconv.FormatUint(n.Epoch, 10))
	}
	c := s.begin(ctx, opRemove)
	err := remove.Run(c.ctx, s.client, []string{Key(user)}, args...).Err()
	if err != nil {
		err = c.failed(Key(user), err)
	}
	c.end(1)
	return err
}

// call is a pipeline of an operation.
type call struct {
	s         *Store
	operation string
	began     time.Time
	caller    context.Context
	ctx       context.Context // bounded by Timeout
	cancel    context.CancelFunc
	refused   Refused
	failures  int
	err       error // a failure that is not of one user alone
}

// begin begins a pipeline, which end ends.
func (s *Store) begin(ctx context.Context, operation string) *call {
	c := &call{s: s, operation: operation, began: time.Now(), caller: ctx}
	c.ctx, c.cancel = context.WithTimeout(ctx, s.opt.Timeout)
	return c
}

// failed notes the error of the command for a key, and explains it.
func (c *call) failed(key string, err error) error {
	c.failures++
	switch {
	case redisconn.WrongType(err): // of this key alone
		return explain(key, err)
	case errors.Is(err, context.DeadlineExceeded) && c.caller.Err() == nil:
		err = fmt.Errorf("no answer of Redis within %v: %w", c.s.opt.Timeout, err)
	}
	if c.caller.Err() == nil {
		c.err = err
	}
	return err
}

// judge counts an error that an answer stands for.
func (c *call) judge(err error) {
	if err != nil {
		c.failures++
	}
}

// end ends a pipeline for some users and groups: it measures, counts and logs.
func (c *call) end(keys int) {
	c.cancel()
	m := c.s.metrics
	m.seconds.WithLabelValues(c.operation).Observe(time.Since(c.began).Seconds())
	m.users.WithLabelValues(c.operation).Add(float64(keys))
	m.failures.WithLabelValues(c.operation).Add(float64(c.failures))
	c.s.refuse(c.refused)
	if c.caller.Err() == nil {
		c.s.note(c.operation, c.err)
	}
}

// refuse counts the values that are no entries, and logs one of them, at most once a second.
func (s *Store) refuse(r Refused) {
	if r.Why == nil {
		return
	}
	s.metrics.refused.WithLabelValues("too_long").Add(float64(r.Long))
	s.metrics.refused.WithLabelValues("malformed").Add(float64(r.Malformed))
	s.often.Warn(s.opt.Log, time.Now(), "the whereabouts in Redis hold values that are none, they "+
		"are ignored", "too_long", r.Long, "malformed", r.Malformed, "err", r.Why)
}
