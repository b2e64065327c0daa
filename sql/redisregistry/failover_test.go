package redisregistry

import (
	"strings"
	"testing"

	"teamtalk/core/registry"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/redisconn"
)

// TestSentinelFailover lets a Sentinel make the replica the master. Nodes stay registered.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := dbtest.RedisSentinelOf(t)
	i := redisconn.Instance{Addrs: []string{s.Sentinel.Addr()}, MasterName: dbtest.SentinelMaster}
	a, reader := open(t, options(i)), open(t, options(i))
	renew(t, a, msg("a"))
	want(t, reader, "before", "a@1")
	s.Failover()
	s.Await("a renewal at the new master", func() bool {
		_, err := a.renew(t.Context(), []registry.Node{msg("a")})
		return err == nil && reader.poll(t.Context()) == nil &&
			s.Servers[0].Do("HEXISTS "+Key+" msg/a") == "1"
	})
	want(t, reader, "after", "a@1")
	later := open(t, options(i))
	renew(t, later, msg("a"))
	if later.Epoch() != 2 {
		t.Errorf("epoch %d after a failover", later.Epoch())
	}
}

// TestClusterFailover moves the slot of the registry to another master, and kills that one. A slot
// that moves disturbs nothing. While the master is away the nodes are known, and the replica that
// is promoted has them.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := dbtest.RedisShardsOf(t)
	i := redisconn.Instance{Addrs: c.Addrs(), Cluster: true}
	a, reader := open(t, options(i)), open(t, options(i))
	slot := c.Masters[0].Do("CLUSTER KEYSLOT " + Key)
	from, to := c.Masters[0], c.Masters[2] // the slot is 5162
	dbtest.OpenSlot(from, to, slot)
	renew(t, a, msg("a")) // the key does not exist, so it belongs to the other master
	want(t, reader, "in an open slot", "a@1")
	for _, m := range []*dbtest.RedisServer{to, from} {
		m.Do("CLUSTER SETSLOT " + slot + " NODE " + to.ID())
	}
	renew(t, a, msg("a"))
	want(t, reader, "after the move", "a@1")

	c.Await("the replica to have the registry", func() bool {
		return strings.Contains(c.Replica.Do("INFO keyspace"), "db0:keys=1")
	})
	to.Stop()
	if err := reader.poll(t.Context()); err == nil || names(reader) != "a@1" {
		t.Errorf("without a master: %v, known %q", err, names(reader))
	}
	c.Promote()
	c.Await("the promoted replica", func() bool { return reader.poll(t.Context()) == nil })
	want(t, reader, "after the promotion", "a@1")
	c.Await("a renewal", func() bool {
		_, err := a.renew(t.Context(), []registry.Node{msg("a")})
		return err == nil
	})
	later := open(t, options(i))
	c.Await("a registration", func() bool {
		_, err := later.renew(t.Context(), []registry.Node{msg("b")})
		return err == nil
	})
	want(t, reader, "one more", "a@1 b@2")
}
