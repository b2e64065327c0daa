package store

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/sql/rediscluster"
)

// This file looks at the Redis servers behind the instances: whether they answer, whether
// they accept writes, and whether they are set to drop keys.

// eachServer calls do for the server of a client, or at once for all masters of a cluster,
// and returns the errors.
func eachServer(ctx context.Context, c redis.UniversalClient,
	do func(context.Context, *redis.Client) error) (servers int, errs []error) {
	nodes, ok := c.(*rediscluster.Client)
	if !ok {
		if err := do(ctx, c.(*redis.Client)); err != nil {
			errs = append(errs, err)
		}
		return 1, errs
	}
	var mu sync.Mutex
	err := nodes.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		err := do(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		servers++
		if err != nil {
			errs = append(errs, err)
		}
		return nil
	})
	if err != nil { // there is no slot map
		return 1, []error{err}
	}
	return servers, errs
}

// serves calls do for the servers of every instance. It returns an error for an instance
// without a server for which do succeeds. A cluster with a master that is down serves the
// conversations of the other masters, and no other process could serve those of that one.
func (in *instances) serves(ctx context.Context, doing string,
	do func(context.Context, *redis.Client) error) error {
	for _, c := range in.all {
		if servers, errs := eachServer(ctx, c, do); len(errs) == servers {
			return im.WithKind(im.Unavailable, doing, errors.Join(errs...))
		}
	}
	return nil
}

// ping pings every instance.
func (in *instances) ping(ctx context.Context) error {
	return in.serves(ctx, "Redis", func(ctx context.Context, server *redis.Client) error {
		return server.Ping(ctx).Err()
	})
}

// probeKey is the key that writable writes, with a number behind it in a cluster.
const probeKey = "teamtalk_probe"

// probeTTL is the lifetime of the key that writable writes.
const probeTTL = time.Second

// writable writes a key to every instance. A server that is out of memory, a replica, or
// one that cannot save its data answers PING, and refuses writes.
func (in *instances) writable(ctx context.Context) error {
	return in.serves(ctx, "write to Redis", writableServer)
}

// probeTries bounds the keys that writableServer tries. A master of n accepts one key of n,
// and of 100 masters each accepts one of these with a probability of 99.99 %.
const probeTries = 1000

// writableServer writes a key to a server. A master of a cluster without slots accepts
// none, and passes.
func writableServer(ctx context.Context, server *redis.Client) error {
	for i := range probeTries {
		err := server.Set(ctx, probeKey+strconv.Itoa(i), 1, probeTTL).Err()
		if !redis.HasErrorPrefix(err, "MOVED") && !redis.HasErrorPrefix(err, "ASK") {
			return err
		}
	}
	return nil
}

// eviction is the knowledge about the maxmemory-policy of the servers.
type eviction struct {
	epoch  uint64            // in which the servers were asked
	at     int64             // when they were asked, by mono.Of; 0: never
	policy map[string]string // by address
}

// evictionInterval is the time after which the servers are asked again although no
// connection has failed: an operator may have changed the setting.
const evictionInterval = time.Minute

var (
	policyLine = regexp.MustCompile(`(?m)^maxmemory_policy:(\S+)`)
	memoryLine = regexp.MustCompile(`(?m)^maxmemory:(\d+)`)
)

// checkEviction asks the servers for their maxmemory-policy after a connection has failed,
// and otherwise once a minute. It logs a setting that lets a server drop what is stored
// nowhere else: with allkeys-… unread counts, push tokens and the groups' push settings,
// with volatile-… the marks of unread counts, without which a batch may count twice. Only
// the housekeeping calls it.
func (s *databases) checkEviction(ctx context.Context) {
	epoch, now := s.epoch.now(), mono.Of(s.now())
	if s.eviction.at != 0 && s.eviction.epoch == epoch &&
		now-s.eviction.at < int64(evictionInterval) {
		return
	}
	s.eviction.epoch, s.eviction.at = epoch, now
	var mu sync.Mutex
	found := map[string]policy{} // by address; the databases of a server are several instances
	for _, c := range s.redis.all {
		counts := c == s.redis.unread
		if !counts && c != s.redis.token && c != s.redis.groupSet {
			continue // sync marks and the copy of the members are made again
		}
		// A server that does not answer is asked again in the next epoch.
		_, _ = eachServer(ctx, c, func(ctx context.Context, server *redis.Client) error {
			info, err := server.Info(ctx, "memory").Result()
			name := policyLine.FindStringSubmatch(info)
			if err != nil || name == nil {
				return err
			}
			p := policy{name: name[1], limit: "0"}
			if m := memoryLine.FindStringSubmatch(info); m != nil {
				p.limit = m[1]
			}
			mu.Lock()
			defer mu.Unlock()
			addr := server.Options().Addr
			p.wrong = found[addr].wrong || strings.HasPrefix(p.name, "allkeys-") ||
				counts && p.name != "noeviction"
			found[addr] = p
			return nil
		})
	}
	for server, p := range found {
		s.sawPolicy(server, p)
	}
}

// policy is the maxmemory-policy of a server.
type policy struct {
	name  string
	limit string // maxmemory
	wrong bool   // lets the server drop what is stored nowhere else
}

// sawPolicy logs a setting that is wrong, once for each change of it.
func (s *databases) sawPolicy(server string, p policy) {
	if s.eviction.policy == nil {
		s.eviction.policy = map[string]string{}
	}
	before := s.eviction.policy[server]
	s.eviction.policy[server] = p.name
	if !p.wrong {
		s.m.evicts.WithLabelValues(server).Set(0)
		return
	}
	s.m.evicts.WithLabelValues(server).Set(1)
	if p.name != before {
		s.log.Warn("Redis may drop data that is stored nowhere else: set maxmemory-policy to "+
			"noeviction", "server", server, "maxmemory-policy", p.name, "maxmemory", p.limit)
	}
}
