// Package rediscluster makes clients of Redis Clusters for a store whose commands must not
// run twice, and whose other conversations must not wait for a master that is down. It
// changes three things of go-redis:
//
//   - A command is sent again only after a redirection, which says that it did not run. By
//     itself go-redis repeats a command whose connection broke, up to three times, whatever
//     MaxRetries says: an INCR whose answers were lost counted 4.
//   - The slot map is loaded again when a connection fails. By itself go-redis does so only
//     once a minute, or after a redirection, which a dead master does not send.
//   - While a node is down, its commands fail at once. A pipeline waits for all nodes that
//     it concerns, so one node that does not answer would delay the others.
package rediscluster

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/backoff"
	"teamtalk/sql/redisdial"
)

// ErrDown is the error of commands to a node that is down.
var ErrDown = errors.New("the Redis node is down")

// probePause is the time between two probes of a node that is down. The slot map is loaded
// as often, so this is about the time that the client takes to find a promoted replica.
const probePause = 100 * time.Millisecond

// probeTimeout bounds a probe.
const probeTimeout = time.Second

// Client is a client of a cluster.
type Client struct {
	*redis.ClusterClient

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	changed func(node string, up bool)
	reloads atomic.Uint64

	mu     sync.Mutex // guards closed, and that no probe begins after Close
	closed bool
	probes sync.WaitGroup
}

// New makes a client. It connects at its first use. o.MaxRetries has no effect. The client
// calls changed, from any goroutine, when a node is found to be down, and when it answers
// again.
func New(o *redis.ClusterOptions, changed func(node string, up bool)) *Client {
	o.MaxRetries = -1
	o.MinRetryBackoff = -1 // a redirection is followed at once
	c := &Client{ClusterClient: redis.NewClusterClient(o), changed: changed}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.AddHook(once{})
	c.OnNewNode(func(node *redis.Client) {
		node.AddHook(redisdial.Always{}) // first, so that the guard sees the errors of dials
		node.AddHook(&guard{client: c, node: node})
	})
	return c
}

// Close ends the probes and closes all connections.
func (c *Client) Close() error {
	c.stop()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.ClusterClient.Close()
	c.probes.Wait()
	return err
}

// Reloads returns how often the client has asked for a new slot map because of a failure.
func (c *Client) Reloads() uint64 { return c.reloads.Load() }

// reload loads the slot map in the background. A load that runs is not joined by more than
// one other.
func (c *Client) reload() {
	c.reloads.Add(1)
	c.ReloadState(c.ctx)
}

// once is a hook of the cluster's client that lets commands run once.
type once struct{}

// onceCmd is a command that go-redis does not repeat, except after a redirection.
type onceCmd struct{ redis.Cmder }

// NoRetry returns true.
func (onceCmd) NoRetry() bool { return true }

// DialHook changes nothing.
func (once) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook makes a command run once.
func (once) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return next(ctx, onceCmd{cmd}) }
}

// ProcessPipelineHook makes the commands of a pipeline run once.
func (once) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		list := make([]redis.Cmder, len(cmds))
		for i, cmd := range cmds {
			list[i] = onceCmd{cmd}
		}
		return next(ctx, list)
	}
}

// guard is a hook of the client of one node. It knows whether the node is down.
type guard struct {
	client *Client
	node   *redis.Client
	down   atomic.Bool
}

// probing marks the context of a probe, which passes a guard of a node that is down.
type probing struct{}

// refused returns ErrDown if the node is down.
func (g *guard) refused(ctx context.Context) error {
	if g.down.Load() && ctx.Value(probing{}) == nil {
		return ErrDown
	}
	return nil
}

// DialHook notices that the node accepts no connection.
func (g *guard) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil && !errors.Is(err, context.Canceled) {
			g.fail()
		}
		return conn, err
	}
}

// ProcessHook refuses a command while the node is down.
func (g *guard) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := g.refused(ctx); err != nil {
			return err
		}
		err := next(ctx, cmd)
		g.saw(err)
		return err
	}
}

// ProcessPipelineHook refuses commands while the node is down.
func (g *guard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := g.refused(ctx); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		err := next(ctx, cmds)
		g.saw(err)
		return err
	}
}

// saw looks at the error of a command. A connection that broke is a reason to load the slot
// map. A node that did not answer in time is down: a connection to a stopped process
// neither breaks nor answers.
func (g *guard) saw(err error) {
	var answer redis.Error
	if err == nil || errors.As(err, &answer) || errors.Is(err, context.Canceled) ||
		errors.Is(err, redis.ErrClosed) {
		return
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Timeout() {
		g.fail()
		return
	}
	g.client.reload()
}

// fail marks the node as down and begins to probe it.
func (g *guard) fail() {
	if !g.down.CompareAndSwap(false, true) {
		return
	}
	g.client.mu.Lock()
	defer g.client.mu.Unlock()
	if !g.client.closed {
		g.client.probes.Go(g.probe)
	}
}

// probe asks the node until it answers, is no longer part of the cluster, or the client is
// closed.
func (g *guard) probe() {
	node := g.node.Options().Addr
	g.client.changed(node, false)
	for !g.answers() {
		g.client.reload()
		if backoff.Sleep(g.client.ctx, probePause) != nil {
			return
		}
	}
	if g.client.ctx.Err() != nil { // Close ended the probe, the node may still be down
		return
	}
	g.down.Store(false)
	g.client.changed(node, true)
}

// answers reports whether the node answers, or was removed from the client. An error that
// the node sends is an answer.
func (g *guard) answers() bool {
	ctx, cancel := context.WithTimeout(context.WithValue(g.client.ctx, probing{}, true),
		probeTimeout)
	defer cancel()
	err := g.node.Ping(ctx).Err()
	var answer redis.Error
	return err == nil || errors.As(err, &answer) || errors.Is(err, redis.ErrClosed)
}
