package database

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/mono"
	"teamtalk/sql/store/redisconn"
)

// eviction is the knowledge about the maxmemory-policy of the servers.
type eviction struct {
	epoch  uint64            // in which the servers were asked
	at     int64             // when they were asked, by mono.Of; 0: never
	policy map[string]string // by address
}

// EvictionInterval is the time after which the servers are asked again although no
// connection has failed: an operator may have changed the setting.
const EvictionInterval = time.Minute

var (
	policyLine = regexp.MustCompile(`(?m)^maxmemory_policy:(\S+)`)
	memoryLine = regexp.MustCompile(`(?m)^maxmemory:(\d+)`)
)

// CheckEviction asks the servers for their maxmemory-policy after a connection has failed,
// and otherwise once a minute. It logs a setting that lets a server drop what is stored
// nowhere else: with allkeys-… unread counts, push tokens and the groups' push settings,
// with volatile-… the marks of unread counts, without which a batch may count twice. Only
// the housekeeping calls it.
func (s *DB) CheckEviction(ctx context.Context) {
	epoch, now := s.Epoch.Now(), mono.Of(s.ProcessTime())
	if s.eviction.at != 0 && s.eviction.epoch == epoch &&
		now-s.eviction.at < int64(EvictionInterval) {
		return
	}
	s.eviction.epoch, s.eviction.at = epoch, now
	var mu sync.Mutex
	found := map[string]policy{} // by address; the databases of a server are several instances
	for _, c := range s.Redis.All {
		counts := c == s.Redis.Unread
		if !counts && c != s.Redis.Token && c != s.Redis.GroupSet {
			continue // sync marks and the copy of the members are made again
		}
		// A server that does not answer is asked again in the next epoch.
		_, _ = redisconn.EachServer(ctx, c, func(ctx context.Context, server *redis.Client) error {
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
func (s *DB) sawPolicy(server string, p policy) {
	if s.eviction.policy == nil {
		s.eviction.policy = map[string]string{}
	}
	before := s.eviction.policy[server]
	s.eviction.policy[server] = p.name
	if !p.wrong {
		s.Metrics.evicts.WithLabelValues(server).Set(0)
		return
	}
	s.Metrics.evicts.WithLabelValues(server).Set(1)
	if p.name != before {
		s.Log.Warn("Redis may drop data that is stored nowhere else: set maxmemory-policy to "+
			"noeviction", "server", server, "maxmemory-policy", p.name, "maxmemory", p.limit)
	}
}
