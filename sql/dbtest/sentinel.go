package dbtest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// SentinelMaster is the name of the master that a RedisSentinel watches.
const SentinelMaster = "teamtalk"

// RedisSentinel is a Redis master with a replica, and a Sentinel that watches them.
type RedisSentinel struct {
	tb       testing.TB
	Servers  []*RedisServer // the first one is the master at the begin
	Sentinel *RedisServer
}

// RedisSentinelOf starts a master, a replica and a Sentinel. The Sentinel replaces no master
// that dies: the test calls Failover, so that nothing depends on a time-out.
func RedisSentinelOf(tb testing.TB) *RedisSentinel {
	tb.Helper()
	s := &RedisSentinel{tb: tb}
	master := newRedis(tb, false, "--repl-diskless-sync-delay", "0")
	replica := newRedis(tb, false, "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1",
		fmt.Sprint(master.port))
	s.Servers = []*RedisServer{master, replica}
	// A Sentinel asks for the replicas when it starts, and again after 10 s.
	s.Await("the replica to follow", s.follows)
	dir, err := tempDir("sentinel")
	if err != nil {
		tb.Fatal(err)
	}
	s.Sentinel = &RedisServer{tb: tb, dir: dir, watch: fmt.Sprintf(
		"sentinel monitor %s 127.0.0.1 %d 1\nsentinel down-after-milliseconds %[1]s 3600000\n",
		SentinelMaster, master.port)}
	s.Sentinel.begin()
	return s
}

// Await polls the servers until ok returns true.
func (s *RedisSentinel) Await(what string, ok func() bool) {
	s.tb.Helper()
	deadline := time.Now().Add(startTimeout)
	for !ok() {
		if time.Now().After(deadline) {
			s.tb.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond) // polls another process, which sends no event
	}
}

// replication returns what a server says of its role. It is empty at the moment at which
// the role changes, because the server then closes its connections.
func replication(r *RedisServer) string {
	info, _ := r.do("INFO replication")
	return info
}

// follows reports whether the replica has all that the master has.
func (s *RedisSentinel) follows() bool {
	offset := regexp.MustCompile(`(?:master|slave)_repl_offset:(\d+)`)
	of := func(info string) string {
		m := offset.FindStringSubmatch(info)
		if m == nil {
			return ""
		}
		return m[1]
	}
	master, replica := replication(s.Servers[0]), replication(s.Servers[1])
	return strings.Contains(replica, "master_link_status:up") && of(master) == of(replica)
}

// Failover makes the replica the master, and the master a replica, after the replica has all
// that the master has. The Sentinel lets the former master accept writes for some seconds
// more, which would be lost; the test ends that at once.
func (s *RedisSentinel) Failover() {
	s.tb.Helper()
	from, to := s.Servers[0], s.Servers[1]
	s.Await("the replica to follow", s.follows)
	s.Await("the Sentinel to begin a failover", func() bool {
		_, err := s.Sentinel.do("SENTINEL FAILOVER " + SentinelMaster)
		return err == nil
	})
	s.Await("the failover", func() bool {
		return strings.Contains(replication(to), "role:master")
	})
	s.Await("the former master to be a replica", func() bool {
		_, err := from.do(fmt.Sprintf("REPLICAOF 127.0.0.1 %d", to.peer()))
		return err == nil
	})
	s.Await("the Sentinel to name the new master", func() bool {
		info, _ := s.Sentinel.do("INFO sentinel")
		return strings.Contains(info, fmt.Sprintf("127.0.0.1:%d", to.peer()))
	})
	s.Servers[0], s.Servers[1] = to, from
}

// Promote makes the replica of a master that was stopped the master.
func (s *RedisSentinel) Promote() {
	s.tb.Helper()
	to := s.Servers[1]
	s.Await("the Sentinel to begin a failover", func() bool {
		_, err := s.Sentinel.do("SENTINEL FAILOVER " + SentinelMaster)
		return err == nil
	})
	s.Await("the promotion", func() bool {
		return strings.Contains(replication(to), "role:master")
	})
	s.Await("the Sentinel to name the new master", func() bool {
		info, _ := s.Sentinel.do("INFO sentinel")
		return strings.Contains(info, fmt.Sprintf("127.0.0.1:%d", to.peer()))
	})
}
