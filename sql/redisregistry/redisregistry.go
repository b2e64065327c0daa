// Package redisregistry keeps the registry of a deployment's servers in Redis: a server, a master
// with Sentinels, or a Redis Cluster.
//
// A process registers its nodes under a lease and renews it. Everybody reads the nodes whose
// leases have not ended, in one round trip a second, and keeps what it knew while Redis is away.
// Redis alone judges leases, by a clock that stands while no process reaches Redis (see
// scripts.go), so neither the clocks of machines nor an outage of Redis end one.
//
// Of two processes with one role and one name the one with the larger epoch, which registered
// later, has the node. The other learns it at its next renewal, and must end. DESIGN.md says what
// happens in each failure.
package redisregistry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/opt"
	"teamtalk/core/registry"
	"teamtalk/sql/redishealth"
	"teamtalk/sql/store/redisconn"
)

// Options configures a Registry. Lease, Renew and Poll are required.
type Options struct {
	Redis redisconn.Instance
	// Lease is the time after the last renewal for which a node counts as alive. It must be
	// at least three times Renew and Poll.
	Lease time.Duration
	// Renew is the longest time between two renewals. It bounds each call to Redis, too.
	Renew time.Duration
	// Poll is the time between two readings of the other nodes.
	Poll time.Duration
	// Roles are the roles whose nodes the metrics count.
	Roles []string
	// Ordered is called when the nodes of this process that shall drain change, with their keys,
	// from one goroutine of Run. It must not wait. Default: nobody is told.
	Ordered func(drain []registry.Key)
	// Log gets a line when Redis goes away and when it is back. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Registry is the registry in Redis, as one process sees it.
type Registry struct {
	opt     Options
	client  redis.UniversalClient
	view    *registry.View
	process string        // random number of this process
	timeout time.Duration // of a call to Redis
	health  redishealth.Health
	metrics *metrics

	epoch     atomic.Uint64 // 0: not registered yet
	lapses    atomic.Uint64
	nodes     atomic.Pointer[[]string]
	malformed bool // the log has a line about values that are no servers; used by Watch
	// drains are the keys of the nodes that shall drain. Used by one goroutine of Run.
	drains []string
	// refresh holds a token when Run shall renew the leases now.
	refresh chan struct{}
}

// Open makes a registry. It connects to Redis at its first use.
func Open(o Options) *Registry {
	opt.Require("Lease", o.Lease)
	opt.Require("Renew", o.Renew)
	opt.Require("Poll", o.Poll)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Ordered == nil {
		o.Ordered = func([]registry.Key) {}
	}
	var random [8]byte
	rand.Read(random[:])
	r := &Registry{opt: o, client: redisconn.Connect(o.Redis, connections),
		refresh: make(chan struct{}, 1),
		view:    registry.NewView(), process: hex.EncodeToString(random[:]), timeout: o.Renew}
	r.metrics = newMetrics(o, r)
	return r
}

// connections is the number of connections to each server: a renewal and a reading at a time.
const connections = 2

// Close closes the connections to Redis.
func (r *Registry) Close() error { return r.client.Close() }

// View returns what is known of all nodes, those of this process included. Watch keeps it up
// to date.
func (r *Registry) View() *registry.View { return r.view }

// Epoch returns the epoch of this process; 0 before it is registered.
func (r *Registry) Epoch() uint64 { return r.epoch.Load() }

// Lapses returns how often this process has registered again because its lease had ended, or Redis
// had lost it. Others may have counted it as gone before.
func (r *Registry) Lapses() uint64 { return r.lapses.Load() }

// ReplacedError is the error of a process whose node another process has registered.
type ReplacedError struct {
	Node  string // role/name
	Epoch uint64 // of this process
	// By is the epoch of the other process, and Addr its address for servers, or for clients if
	// it has none; it may be empty.
	By   uint64
	Addr string
}

// Error says which node it is, and that names must differ.
func (e *ReplacedError) Error() string {
	at := ""
	if e.Addr != "" {
		at = " at " + e.Addr
	}
	return fmt.Sprintf("another process%s has registered as %s with epoch %d, later than this one "+
		"with epoch %d: give each process with this role a name of its own", at, e.Node, e.By,
		e.Epoch)
}

// Watch reads the nodes of all processes into the View until ctx ends, from the first attempt
// on, also while this process is not registered. Errors of Redis do not end it, State tells
// them.
func (r *Registry) Watch(ctx context.Context) {
	_ = every(ctx, r.opt.Poll, nil, func() (bool, error) { return false, r.poll(ctx) })
}

// Run registers the nodes that self returns, and renews their leases, until ctx ends. It calls
// self before each renewal, from one goroutine; role and name of the nodes must stay the same.
// Errors of Redis do not end it, State tells them. Run returns a *ReplacedError when another
// process has one of the nodes, an error when a node is not valid, and nil after the end of
// ctx.
func (r *Registry) Run(ctx context.Context, self func() []registry.Node) error {
	return every(ctx, r.opt.Renew, r.refresh,
		func() (bool, error) { return r.renew(ctx, self()) })
}

// Refresh makes Run renew the leases now, because what self returns has changed. Any goroutine.
func (r *Registry) Refresh() {
	select {
	case r.refresh <- struct{}{}:
	default: // it will
	}
}

// retries is the number of attempts within one period when Redis is away, so that it is found
// soon when it is back.
const retries = 4

// every calls do until ctx ends, or until do returns that its error is final. The pauses are
// between 80 and 100 % of period, so that processes that start together spread.
func every(ctx context.Context, period time.Duration, early <-chan struct{},
	do func() (final bool, err error)) error {
	for {
		final, err := do()
		if final || ctx.Err() != nil {
			return err
		}
		pause := period
		if err != nil {
			pause = period / retries
		}
		pause -= time.Duration(0.2 * mathrand.Float64() * float64(pause))
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-early:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// renew registers nodes or renews their leases. final says that the error ends the process.
func (r *Registry) renew(ctx context.Context, nodes []registry.Node) (final bool, err error) {
	args := []any{r.clockStep(), r.process, strconv.FormatUint(r.epoch.Load(), 10),
		r.opt.Lease.Milliseconds(), maxFields}
	keys := make([]string, 0, len(nodes))
	for _, n := range nodes {
		record, err := registry.Encode(n)
		if err != nil {
			return true, err
		}
		keys = append(keys, n.Key().String())
		drains := 0
		if slices.Contains(r.drains, n.Key().String()) {
			drains = 1
		}
		args = append(args, n.Key().String(), record, drains)
	}
	r.nodes.Store(&keys)
	answer, err := r.run(ctx, keep, args)
	if ctx.Err() != nil {
		return false, nil // Run ends
	}
	replaced := new(ReplacedError)
	if err == nil {
		err = r.renewed(answer, nodes)
	}
	if errors.As(err, &replaced) {
		return true, err
	}
	r.note("renew", err)
	return false, err
}

// renewed looks at the answer of the script keep for nodes.
func (r *Registry) renewed(answer []string, nodes []registry.Node) error {
	switch {
	case len(answer) == 2 && answer[0] == "full":
		return fullError(answer[1])
	case len(answer) == 4 && answer[0] == "replaced":
		by, _ := strconv.ParseUint(answer[2], 10, 64)
		return &ReplacedError{Node: answer[1], Epoch: r.epoch.Load(), By: by,
			Addr: address(answer[1], answer[3])}
	case len(answer) < 4 || answer[0] != "ok":
		return errAnswer
	}
	epoch, err := strconv.ParseUint(answer[1], 10, 64)
	missing, err2 := strconv.Atoi(answer[2])
	drains, err3 := strconv.Atoi(answer[3])
	answer = answer[4:]
	if errors.Join(err, err2, err3) != nil || epoch == 0 || epoch > registry.MaxEpoch ||
		drains < 0 || drains > len(answer) {
		return errAnswer
	}
	r.ordered(answer[:drains], nodes)
	if r.epoch.Swap(epoch) == 0 {
		r.opt.Log.Info("registered", "epoch", epoch, "nodes", *r.nodes.Load())
		r.tellFormer(answer[drains:], nodes)
	} else if missing > 0 {
		r.metrics.lapses.Add(float64(missing))
		r.lapses.Add(1)
		r.opt.Log.Warn("registered again: the lease had ended, or Redis has lost it, so other "+
			"servers may have counted this one as gone", "epoch", epoch, "nodes", missing)
	}
	return nil
}

// ordered takes the keys of the nodes that shall drain.
func (r *Registry) ordered(keys []string, nodes []registry.Node) {
	if slices.Equal(keys, r.drains) {
		return
	}
	r.drains = keys
	drain := []registry.Key{}
	for _, n := range nodes {
		if slices.Contains(keys, n.Key().String()) {
			drain = append(drain, n.Key())
		}
	}
	r.opt.Ordered(drain)
}

// ErrUnknown is the error for nodes that are not registered.
var ErrUnknown = errors.New("not registered")

// Order tells the processes of nodes to drain them, or to serve again. They learn it at their
// next renewal. An order ends with the process: another one that takes its place serves. The
// error is an ErrUnknown with the keys of nodes that are not registered. Then no order is given.
func (r *Registry) Order(ctx context.Context, nodes []registry.Key, drain bool) error {
	args := []any{r.clockStep(), 0, maxFields}
	if drain {
		args[1] = 1
	}
	for _, k := range nodes {
		args = append(args, k.String())
	}
	answer, err := r.run(ctx, order, args)
	switch {
	case err != nil:
		return err
	case len(answer) == 2 && answer[0] == "full":
		return fullError(answer[1])
	case len(answer) == 0 || answer[0] != "ok":
		return errAnswer
	case len(answer) > 1:
		return fmt.Errorf("%w: %s", ErrUnknown, strings.Join(answer[1:], ", "))
	}
	return nil
}

// tellFormer logs which processes had the nodes of this one, by the keys and records in former. A
// process with the same address has died, and this one takes its place.
func (r *Registry) tellFormer(former []string, nodes []registry.Node) {
	for i := 0; i+1 < len(former); i += 2 {
		key, was := former[i], address(former[i], former[i+1])
		level := slog.LevelWarn
		for _, n := range nodes {
			if n.Key().String() == key && at(n) == was {
				level = slog.LevelInfo
			}
		}
		r.opt.Log.Log(context.Background(), level, "another process has had this node until now: "+
			"if it is still running it ends, because each process needs a name of its own "+
			"(setting node.name)", "node", key, "addr", was)
	}
}

// address returns the address in the record of a key, for people; empty if it has none.
func address(key, record string) string {
	n, err := registry.Decode(key, record)
	if err != nil {
		return ""
	}
	return at(n)
}

// at returns the address of a node for servers, or that for clients if it has no other.
func at(n registry.Node) string {
	if n.Addr == "" && len(n.Clients) > 0 {
		return n.Clients[0]
	}
	return n.Addr
}

// poll reads the nodes into the view.
func (r *Registry) poll(ctx context.Context) error {
	c, err := r.read(ctx, read)
	if ctx.Err() != nil {
		return nil // Watch ends
	}
	r.note("poll", err)
	if err != nil {
		return err
	}
	r.metrics.refused.WithLabelValues("too_long").Add(float64(c.long))
	r.metrics.refused.WithLabelValues("malformed").Add(float64(c.malformed))
	r.tellMalformed(c)
	nodes := make([]registry.Node, len(c.entries))
	for i, e := range c.entries {
		nodes[i] = e.Node
		nodes[i].Late = e.late()
	}
	// A registry that was emptied has all nodes again once each had the time to renew.
	r.view.Update(nodes, c.clock >= r.opt.Lease)
	return nil
}

// List reads the live nodes once, sorted by role and name. It writes nothing: Redis may be full,
// or a replica.
func (r *Registry) List(ctx context.Context) ([]Entry, error) {
	c, err := r.read(ctx, look)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(c.entries, func(a, b Entry) int { return registry.Compare(a.Node, b.Node) })
	return c.entries, nil
}

// read reads the live nodes by the script read or look.
func (r *Registry) read(ctx context.Context, script *redis.Script) (contents, error) {
	answer, err := r.run(ctx, script, []any{r.clockStep(), maxRead, maxValue, maxField})
	if err != nil {
		return contents{}, err
	}
	return parse(answer)
}

// Leave removes the nodes of this process, so that others need not wait for the end of the
// lease. It must not be called while Run runs. When Redis is away the lease ends by itself.
func (r *Registry) Leave(ctx context.Context) error {
	keys := r.nodes.Load()
	if keys == nil {
		return nil
	}
	args := []any{r.process}
	for _, k := range *keys {
		args = append(args, k)
	}
	_, err := r.run(ctx, leave, args)
	return err
}

// clockStep returns by how many ms a script may advance the registry's clock. All waits between
// two scripts of a process are shorter.
func (r *Registry) clockStep() int64 { return (r.opt.Lease / 3).Milliseconds() }

// run runs a script and returns its answer.
func (r *Registry) run(ctx context.Context, script *redis.Script, args []any) ([]string, error) {
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	answer := script.Run(limited, r.client, []string{Key}, args...)
	err := answer.Err()
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return nil, fmt.Errorf("another program has written the key %s: delete it: %w", Key, err)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil, fmt.Errorf("no answer within %v (registry.renew): %w", r.timeout, err)
	case err != nil || script == leave:
		return nil, err
	}
	return answer.StringSlice()
}
