package deploy

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"teamtalk/core/dbprog"
)

// clusterNodes is the number of nodes of a Redis Cluster: three masters with a replica
// each.
const clusterNodes = 6

// nodeTimeout is the time after which the nodes of a cluster count one of them as dead.
const nodeTimeout = 2 * time.Second

// startCluster starts a Redis Cluster and returns the addresses of its nodes. No proxy
// leads to them: the nodes tell clients their own addresses.
func (s *System) startCluster(ctx context.Context) (string, error) {
	cli := dbprog.Find("redis-cli", "valkey-cli")
	if cli == "" {
		return "", errNoRedis
	}
	ports, err := s.ports.reserve(2 * clusterNodes)
	if err != nil {
		return "", err
	}
	addrs := ports[:clusterNodes]
	for i, addr := range addrs {
		_, bus, _ := net.SplitHostPort(ports[clusterNodes+i]) // reserve made the address
		ready := func(ctx context.Context) error { return redisAnswers(ctx, addr, "PING", "+PONG") }
		err := s.addRedis(ctx, fmt.Sprint(redis, i+1), addr, ready, "--cluster-enabled", "yes",
			"--cluster-port", bus, "--cluster-node-timeout", fmt.Sprint(nodeTimeout.Milliseconds()))
		if err != nil {
			return "", err
		}
	}
	err = runProgram(ctx, s.opts.Dir, cli, append(append([]string{"--cluster", "create"}, addrs...),
		"--cluster-replicas", "1", "--cluster-yes")...)
	if err != nil {
		return "", err
	}
	for i, r := range s.OfKind(redis) {
		addr := addrs[i]
		r.ready = func(ctx context.Context) error {
			return redisAnswers(ctx, addr, "CLUSTER INFO", "cluster_state:ok")
		}
		if err := r.AwaitReady(ctx); err != nil {
			return "", err
		}
	}
	return strings.Join(addrs, ","), nil
}
