package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// The deployment with Sentinels has a master with two replicas, and as many Sentinels as a
// majority needs after the loss of one.
const redisServers, sentinels = 3, 3

// masterName is the name of the master in the configuration of the Sentinels.
const masterName = "teamtalk"

// startSentinels starts Redis with Sentinels, and returns the settings of the servers that
// use it. No proxy leads to them: the Sentinels tell clients the addresses of the servers.
func (s *System) startSentinels(ctx context.Context) (settings []string, err error) {
	ports, err := s.ports.reserve(redisServers + sentinels)
	if err != nil {
		return nil, err
	}
	addrs, watchers := ports[:redisServers], ports[redisServers:]
	host, port, _ := net.SplitHostPort(addrs[0]) // reserve made the address
	for i, addr := range addrs {
		// A master that is cut off from its replicas refuses writes, which would be lost.
		options := []string{"min-replicas-to-write 1", "min-replicas-max-lag 10"}
		if i > 0 {
			options = append(options, fmt.Sprintf("replicaof %s %s", host, port))
		}
		err := s.addRedis(ctx, fmt.Sprint(redis, i+1), addr, pings(addr), options...)
		if err != nil {
			return nil, err
		}
	}
	for _, r := range s.OfKind(redis) { // Sentinels ask for replicas when they start
		r.ready = func(ctx context.Context) error { return s.inPlace(ctx, r) }
		if r.addr != addrs[0] {
			if err := r.AwaitReady(ctx); err != nil {
				return nil, err
			}
		}
	}
	for i, addr := range watchers {
		err := s.addRedisRole(ctx, sentinel, fmt.Sprint(sentinel, i+1), addr, pings(addr), []string{
			fmt.Sprintf("sentinel monitor %s %s %s %d", masterName, host, port, sentinels/2+1),
			fmt.Sprintf("sentinel down-after-milliseconds %s %d", masterName,
				nodeTimeout.Milliseconds()),
			fmt.Sprintf("sentinel failover-timeout %s 10000", masterName)})
		if err != nil {
			return nil, err
		}
	}
	return []string{"--redis.sentinels", strings.Join(watchers, ","), "--redis.master-name",
		masterName}, nil
}

// inPlace returns nil when a Redis is a replica that follows its master, or the master that
// the Sentinels name.
func (s *System) inPlace(ctx context.Context, r *Role) error {
	words, err := redisDo(ctx, r.addr, "INFO replication")
	if err != nil {
		return err
	}
	info := strings.Join(words, "\n")
	if !strings.Contains(info, "role:master") {
		if !strings.Contains(info, "master_link_status:up") {
			return fmt.Errorf("%s does not follow its master", r.Name)
		}
		return nil
	}
	master, err := s.redisMaster(ctx)
	if err == nil && master != r.addr {
		err = fmt.Errorf("the Sentinels name the master %s, and %s is one", master, r.addr)
	}
	return err
}

// redisMaster returns the address of the master that all Sentinels name. Those that do not
// answer are not asked.
func (s *System) redisMaster(ctx context.Context) (master string, err error) {
	err = errors.New("no Sentinel answers")
	for _, r := range s.OfKind(sentinel) {
		words, failed := redisDo(ctx, r.addr, "SENTINEL get-master-addr-by-name "+masterName)
		if failed != nil || len(words) != 2 {
			continue
		}
		addr := net.JoinHostPort(words[0], words[1])
		if master != "" && addr != master {
			return "", fmt.Errorf("the Sentinels name the masters %s and %s", master, addr)
		}
		master, err = addr, nil
	}
	return master, err
}

// FailRedis kills a master of Redis, and waits until a replica has taken its place and
// accepts writes. It returns the process, which the caller starts again.
func (s *System) FailRedis(ctx context.Context, choose func(n int) int) (*Role, error) {
	if s.opts.Redis == RedisCluster {
		return s.failNode(ctx, choose)
	}
	addr, err := s.redisMaster(ctx)
	if err != nil {
		return nil, err
	}
	old := s.at(addr)
	old.Kill()
	return old, await(ctx, func() error {
		next, err := s.redisMaster(ctx)
		if err != nil {
			return err
		}
		if next == addr {
			return errors.New("the Sentinels name the master that was killed")
		}
		_, err = redisDo(ctx, next, "SET faults_probe 1 PX 1")
		return err
	})
}

// at returns the role at an address.
func (s *System) at(addr string) *Role {
	for _, r := range s.Roles {
		if r.addr == addr {
			return r
		}
	}
	return nil
}

// await calls a function until it returns nil, or ctx ends.
func await(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(pollPause):
		}
	}
}
