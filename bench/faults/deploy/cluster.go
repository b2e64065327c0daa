package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"teamtalk/core/dbprog"
)

// clusterNodes is the number of nodes of a Redis Cluster: three masters with a replica
// each.
const clusterNodes = 6

// nodeTimeout is the time after which the nodes of a cluster, and Sentinels, count a server
// as dead.
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
		err := s.addRedis(ctx, fmt.Sprint(redis, i+1), addr, pings(addr), "cluster-enabled yes",
			"cluster-port "+bus, fmt.Sprint("cluster-node-timeout ", nodeTimeout.Milliseconds()),
			"cluster-require-full-coverage no")
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
		r.ready = func(ctx context.Context) error { return paired(ctx, addr) }
		if err := r.AwaitReady(ctx); err != nil {
			return "", err
		}
	}
	return strings.Join(addrs, ","), nil
}

// joined returns nil when a node knows a server for each slot.
func joined(ctx context.Context, addr string) error {
	for _, want := range []string{"cluster_state:ok", "cluster_slots_ok:16384"} {
		if err := redisHas(ctx, addr, "CLUSTER INFO", want); err != nil {
			return err
		}
	}
	return nil
}

// paired returns nil when a node knows a server for each slot, and follows its master, or has
// a replica that follows it. A node that was killed is a master when it starts again, until
// it hears of its successor. The successor must not be killed before that node has its data.
func paired(ctx context.Context, addr string) error {
	if err := joined(ctx, addr); err != nil {
		return err
	}
	if redisHas(ctx, addr, "INFO replication", "role:master") == nil {
		return redisHas(ctx, addr, "INFO replication", "state=online")
	}
	return redisHas(ctx, addr, "INFO replication", "master_link_status:up")
}

// clusterNode is a node of a cluster as the nodes describe it.
type clusterNode struct {
	id, addr string
	master   bool
	slots    bool // it serves slots
}

// clusterView returns the nodes as one of them sees them.
func clusterView(ctx context.Context, addr string) ([]clusterNode, error) {
	words, err := redisDo(ctx, addr, "CLUSTER NODES")
	if err != nil {
		return nil, err
	}
	var nodes []clusterNode
	for line := range strings.Lines(strings.Join(words, "\n")) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		at, _, _ := strings.Cut(f[1], "@")
		nodes = append(nodes, clusterNode{id: f[0], addr: at,
			master: strings.Contains(f[2], "master"), slots: len(f) > 8})
	}
	return nodes, nil
}

// masters returns the nodes that serve slots, as the first node sees them that runs.
func (s *System) masters(ctx context.Context) (list []clusterNode, err error) {
	err = errors.New("no node of the Redis Cluster runs")
	for _, r := range s.OfKind(redis) {
		if !r.Running() {
			continue
		}
		var all []clusterNode
		if all, err = clusterView(ctx, r.addr); err != nil {
			continue
		}
		for _, n := range all {
			if n.master && n.slots {
				list = append(list, n)
			}
		}
		return list, nil
	}
	return nil, err
}

// failNode kills a master of the cluster, and waits until all other nodes know a master for
// each of its slots.
func (s *System) failNode(ctx context.Context, choose func(n int) int) (*Role, error) {
	list, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	dead := list[choose(len(list))]
	old := s.at(dead.addr)
	old.Kill()
	return old, await(ctx, func() error {
		for _, r := range s.OfKind(redis) {
			if r == old {
				continue
			}
			all, err := clusterView(ctx, r.addr)
			if err != nil {
				return err
			}
			for _, n := range all {
				if n.id == dead.id && n.slots {
					return fmt.Errorf("%s waits for a node that was killed", r.Name)
				}
			}
			if err := joined(ctx, r.addr); err != nil {
				return err
			}
		}
		return nil
	})
}

// Reshard moves slots with keys of one master of the Redis Cluster to another, one after the
// other. The last one stays open half-way for a time, as after a reshard that was
// interrupted: half of its keys have moved, and new ones belong to the other node.
func (s *System) Reshard(ctx context.Context, choose func(n int) int, open time.Duration) error {
	list, err := s.masters(ctx)
	if err != nil {
		return err
	}
	if len(list) < 2 {
		return fmt.Errorf("the Redis Cluster has %d masters", len(list))
	}
	i := choose(len(list))
	from, to := list[i], list[(i+1+choose(len(list)-1))%len(list)]
	keys, err := redisDo(ctx, from.addr, "KEYS *[0-9]*")
	if err != nil {
		return err
	}
	const slots = 4
	for n := range min(slots, len(keys)) {
		slot, err := redisDo(ctx, from.addr, "CLUSTER KEYSLOT "+keys[choose(len(keys))])
		if err != nil {
			return err
		}
		pause := time.Duration(0)
		if n == slots-1 {
			pause = open
		}
		if err := moveSlot(ctx, from, to, list, slot[0], pause); err != nil {
			return err
		}
	}
	return nil
}

// moveSlot moves a slot with its keys from one node to another. It waits for a pause when
// half of the keys have moved.
func moveSlot(ctx context.Context, from, to clusterNode, all []clusterNode, slot string,
	pause time.Duration) error {
	owned, err := redisDo(ctx, from.addr, "CLUSTER GETKEYSINSLOT "+slot+" 100000")
	if err != nil || len(owned) == 0 {
		return err // it has moved already
	}
	for _, step := range []struct{ addr, command string }{
		{to.addr, "CLUSTER SETSLOT " + slot + " IMPORTING " + from.id},
		{from.addr, "CLUSTER SETSLOT " + slot + " MIGRATING " + to.id}} {
		if _, err := redisDo(ctx, step.addr, step.command); err != nil {
			return err
		}
	}
	host, port, _ := net.SplitHostPort(to.addr)
	migrate := func(keys []string) error {
		for _, key := range keys {
			command := fmt.Sprintf("MIGRATE %s %s %s 0 5000", host, port, key)
			if _, err := redisDo(ctx, from.addr, command); err != nil {
				return err
			}
		}
		return nil
	}
	if err := migrate(owned[:len(owned)/2]); err != nil {
		return err
	}
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	// Keys that were added since then are on the other node.
	owned, err = redisDo(ctx, from.addr, "CLUSTER GETKEYSINSLOT "+slot+" 100000")
	if err != nil {
		return err
	}
	if err := migrate(owned); err != nil {
		return err
	}
	for _, n := range append([]clusterNode{to, from}, all...) {
		if _, err := redisDo(ctx, n.addr, "CLUSTER SETSLOT "+slot+" NODE "+to.id); err != nil {
			return err
		}
	}
	return nil
}
