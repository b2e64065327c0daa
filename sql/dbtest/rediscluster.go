package dbtest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// RedisShards is a Redis Cluster of three masters, each with a third of the slots. The last
// master has a replica.
type RedisShards struct {
	tb      testing.TB
	Masters []*RedisServer
	Replica *RedisServer // of the last master
}

// shardSlots are the slots of the masters.
var shardSlots = []string{"0 5461", "5462 10922", "10923 16383"}

// RedisShardsOf starts a Redis Cluster of three masters and a replica. The masters serve
// their slots while others are not served. A master that dies is not replaced by itself:
// the test calls Promote, so that nothing depends on the cluster's time-outs.
func RedisShardsOf(tb testing.TB) *RedisShards {
	tb.Helper()
	options := []string{"--cluster-require-full-coverage", "no", "--cluster-node-timeout",
		"60000", "--cluster-replica-no-failover", "yes", "--repl-diskless-sync-delay", "0"}
	c := &RedisShards{tb: tb}
	for i, slots := range shardSlots {
		r := newRedis(tb, true, options...)
		r.Do("CLUSTER ADDSLOTSRANGE " + slots)
		r.Do(fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1))
		c.Masters = append(c.Masters, r)
	}
	c.Replica = newRedis(tb, true, options...)
	for i, r := range c.nodes() {
		for _, other := range c.nodes()[:i] {
			r.Do(fmt.Sprintf("CLUSTER MEET 127.0.0.1 %d", other.port))
		}
	}
	for _, r := range c.nodes() {
		c.Await("the nodes to know each other", func() bool {
			nodes, info := r.Do("CLUSTER NODES"), r.Do("CLUSTER INFO")
			return strings.Count(nodes, " connected") == 4 &&
				!strings.Contains(nodes, "handshake") &&
				strings.Contains(info, "cluster_slots_assigned:16384") &&
				strings.Contains(info, "cluster_state:ok")
		})
	}
	c.Replica.Do("CLUSTER REPLICATE " + c.Masters[2].ID())
	for _, r := range c.nodes() {
		c.Await("the replica to follow", func() bool {
			return strings.Contains(c.Replica.Do("INFO replication"), "master_link_status:up") &&
				strings.Contains(r.Do("CLUSTER NODES"), "slave")
		})
	}
	return c
}

// nodes returns all nodes.
func (c *RedisShards) nodes() []*RedisServer {
	if c.Replica == nil {
		return c.Masters
	}
	return append(c.Masters[:len(c.Masters):len(c.Masters)], c.Replica)
}

// Addrs returns the addresses of the masters.
func (c *RedisShards) Addrs() []string {
	var list []string
	for _, r := range c.Masters {
		list = append(list, r.Addr())
	}
	return list
}

// Await polls the cluster until ok returns true.
func (c *RedisShards) Await(what string, ok func() bool) {
	c.tb.Helper()
	deadline := time.Now().Add(startTimeout)
	for !ok() {
		if time.Now().After(deadline) {
			c.tb.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond) // polls another process, which sends no event
	}
}

// Promote makes the replica the master of the slots of the last master, which the test has
// stopped, and waits until the others know it.
func (c *RedisShards) Promote() {
	c.tb.Helper()
	id := c.Replica.ID()
	c.Replica.Do("CLUSTER FAILOVER TAKEOVER")
	for _, r := range append(c.Masters[:2:2], c.Replica) {
		c.Await("the promotion", func() bool {
			for line := range strings.Lines(r.Do("CLUSTER NODES")) {
				if strings.HasPrefix(line, id) {
					return strings.Contains(line, "10923-16383")
				}
			}
			return false
		})
	}
}

// ID returns the id of a node of a cluster.
func (r *RedisServer) ID() string {
	r.tb.Helper()
	return r.Do("CLUSTER MYID")
}

// OpenSlot begins to move a slot between two nodes of a cluster, and stops there, as an
// interrupted reshard does: keys that exist stay, keys that do not exist belong to the
// other node.
func OpenSlot(from, to *RedisServer, slot string) {
	from.tb.Helper()
	to.Do("CLUSTER SETSLOT " + slot + " IMPORTING " + from.ID())
	from.Do("CLUSTER SETSLOT " + slot + " MIGRATING " + to.ID())
}
