package redisconn

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/rediscluster"
	"teamtalk/sql/redissentinel"
)

// This file looks at the Redis servers behind the instances: whether they answer, whether
// they accept writes, and whether they are set to drop keys.

// EachServer calls do for the server of a client, or at once for all masters of a cluster,
// and returns the errors.
func EachServer(ctx context.Context, c redis.UniversalClient,
	do func(context.Context, *redis.Client) error) (servers int, errs []error) {
	nodes, ok := c.(*rediscluster.Client)
	if !ok {
		if err := do(ctx, serverOf(c)); err != nil {
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

// serverOf returns the client of one server.
func serverOf(c redis.UniversalClient) *redis.Client {
	if master, ok := c.(*redissentinel.Client); ok {
		return master.Client
	}
	return c.(*redis.Client)
}

// serves calls do for the servers of every instance. It returns an error for an instance
// without a server for which do succeeds. A cluster with a master that is down serves the
// conversations of the other masters, and no other process could serve those of that one.
func (in *Clients) serves(ctx context.Context, doing string,
	do func(context.Context, *redis.Client) error) error {
	for i, c := range in.All {
		if servers, errs := EachServer(ctx, c, do); len(errs) == servers {
			return im.WithKind(im.Unavailable, doing+" at "+in.at[i], errors.Join(errs...))
		}
	}
	return nil
}

// Ping pings every instance.
func (in *Clients) Ping(ctx context.Context) error {
	return in.serves(ctx, "Redis", func(ctx context.Context, server *redis.Client) error {
		return server.Ping(ctx).Err()
	})
}

// probeKey is the key that writable writes, with a number behind it in a cluster.
const probeKey = "teamtalk_probe"

// probeTTL is the lifetime of the key that writable writes.
const probeTTL = time.Second

// Writable writes a key to every instance. A server that is out of memory, a replica, or
// one that cannot save its data answers PING, and refuses writes.
func (in *Clients) Writable(ctx context.Context) error {
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
