package main

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/registry"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/redisregistry"
	"teamtalk/sql/store"
)

// register registers nodes in Redis until the end of the test.
func register(t *testing.T, redis *dbtest.RedisServer, nodes ...registry.Node) {
	t.Helper()
	registerAs(t, redis, func() []registry.Node { return nodes }, nil)
}

// registerAs registers the nodes that self returns until the end of the test, and passes orders
// on.
func registerAs(t *testing.T, redis *dbtest.RedisServer, self func() []registry.Node,
	ordered func([]registry.Key)) {
	t.Helper()
	r := redisregistry.Open(redisregistry.Options{Lease: time.Minute, Ordered: ordered,
		Renew: 200 * time.Millisecond, Poll: 20 * time.Second,
		Redis: store.Instance{Addrs: []string{redis.Addr()}}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, self) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		r.Close()
	})
	deadline := time.Now().Add(time.Minute)
	for r.Epoch() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the nodes are not registered")
		}
		time.Sleep(time.Millisecond) // polls another goroutine, which sends no event
	}
}

// TestClusterCommand lists servers as a table and as JSON.
func TestClusterCommand(t *testing.T) {
	redis := dbtest.Redis(t)
	on := []string{"--registry.enabled", "--redis.addrs", redis.Addr()}
	list := func(more ...string) result {
		return command(t, "", append(append([]string{"cluster"}, on...), more...)...)
	}
	list().want(t, cli.ExitOK, "ROLE  NAME  STATE  SERVERS", "teamtalk: no server is registered\n")
	list("--json").want(t, cli.ExitOK, "", "no server is registered")
	register(t, redis, registry.Node{Role: "msg", Name: "m1", Capacity: 100000, Version: "v1.2.3",
		Clients: []string{"203.0.113.1:8000", "198.51.100.1:8000"},
		Load:    registry.Load{Connections: 12, Users: 9}},
		registry.Node{Role: "route", Name: "m1", Addr: "10.0.0.5:8200"})
	table := list()
	table.want(t, cli.ExitOK, "", "")
	row := regexp.MustCompile(`\d+(\.\d)?m?s ago`).ReplaceAllString(table.out, "now")
	row = regexp.MustCompile(`  +`).ReplaceAllString(row, "  ")
	equal(t, "the table", row, lines(
		"ROLE  NAME  STATE  SERVERS  CLIENTS  CONNECTIONS  CAPACITY  USERS  EPOCH  RENEWED  "+
			"VERSION",
		"msg  m1  serves  -  203.0.113.1:8000,198.51.100.1:8000  12  100000  9  1  now  v1.2.3",
		"route  m1  serves  10.0.0.5:8200  -  0  -  0  1  now  -"))

	var nodes []nodeJSON
	for line := range strings.Lines(list("--json").out) {
		var n nodeJSON
		if err := json.Unmarshal([]byte(line), &n); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		nodes = append(nodes, n)
	}
	if len(nodes) != 2 || nodes[0].Users != 9 || nodes[0].Epoch != 1 || nodes[0].LeaseLeft <= 0 ||
		nodes[1].Addr != "10.0.0.5:8200" || nodes[1].Clients == nil {
		t.Errorf("%+v", nodes)
	}
}

// TestClusterCommandFails runs the command without a registry, and without Redis.
func TestClusterCommandFails(t *testing.T) {
	command(t, "", "cluster").want(t, cli.ExitUsage, "",
		"teamtalk: the registry is off: set registry.enabled = true")
	command(t, "", "cluster", "--registry.enabled", "--redis.addrs", "127.0.0.1:1").want(t,
		cli.ExitFailure, "", "read the registry in Redis at 127.0.0.1:1: connect")
	command(t, "", "cluster", "--registry.enabled", "--registry.redis", "rediss://127.0.0.1:1",
		"--redis.ca", "/none").want(t, cli.ExitUsage, "", "redis.ca")
	command(t, "", "cluster", "list").want(t, cli.ExitUsage, "", "want no arguments")
}

// TestClusterDrain orders the servers of a process to drain, and to serve again. The process of
// the test confirms orders as a process of the deployment does.
func TestClusterDrain(t *testing.T) {
	redis := dbtest.Redis(t)
	var mu sync.Mutex
	drains := map[registry.Key]bool{}
	nodes := []registry.Node{{Role: "msg", Name: "m1", Load: registry.Load{Connections: 3}},
		{Role: "dbproxy", Name: "m1"}}
	registerAs(t, redis, func() []registry.Node {
		mu.Lock()
		defer mu.Unlock()
		for i := range nodes {
			nodes[i].Draining = drains[nodes[i].Key()]
		}
		return slices.Clone(nodes)
	}, func(keys []registry.Key) {
		mu.Lock()
		defer mu.Unlock()
		clear(drains)
		for _, k := range keys {
			drains[k] = true
		}
	})
	run := func(args ...string) result {
		return command(t, "", append([]string{"cluster", "--registry.enabled", "--redis.addrs",
			redis.Addr()}, args...)...)
	}
	run("drain", "m1", "--role", "dbproxy").want(t, cli.ExitOK, "dbproxy/m1 is drained\n",
		"teamtalk: warning: no other db_proxy serves: message servers use m1 all the same\n")
	run().want(t, cli.ExitOK, "dbproxy  m1    drains", "")
	run("drain", "m1", "--wait", "3s").want(t, cli.ExitFailure, "dbproxy/m1 is drained\n",
		"teamtalk: not drained within 3s, the order stays: msg/m1 has 3 connections")
	mu.Lock()
	nodes[0].Load.Connections = 0
	mu.Unlock()
	run("drain", "m1", "--role", "msg").want(t, cli.ExitOK, "msg/m1 is drained\n", "teamtalk: "+
		"warning: no other message server serves: clients are refused until one does, or until "+
		"\"teamtalk cluster serve m1\"\n")
	run("serve", "m1").want(t, cli.ExitOK, "ordered to serve again: dbproxy/m1, msg/m1\n", "")
	run("drain", "m1", "--wait", "0s").want(t, cli.ExitOK,
		"ordered to drain: dbproxy/m1, msg/m1\n", "")

	run("drain", "m1", "--wait", "-1s").want(t, cli.ExitUsage, "",
		"--wait -1s: must not be negative")
	run("drain", "m2").want(t, cli.ExitUsage, "", `no server with the name "m2" is registered`)
	run("drain", "m1", "--role", "push").want(t, cli.ExitUsage, "", "push/m1 is not registered")
	run("drain", "m1", "--role", "mail").want(t, cli.ExitUsage, "", "--role mail: no such role")
	run("drain").want(t, cli.ExitUsage, "", "want the NAME of a process, got 0 arguments")
}

// TestClusterDrainBesideOthers drains a message server beside one that serves, and then that one.
// Only the second drain has a warning. It is drained once login servers have read it.
func TestClusterDrainBesideOthers(t *testing.T) {
	redis := dbtest.Redis(t)
	for _, name := range []string{"m1", "m2"} {
		drains := new(atomic.Bool)
		registerAs(t, redis, func() []registry.Node {
			return []registry.Node{{Role: "msg", Name: name, Draining: drains.Load()}}
		}, func(keys []registry.Key) { drains.Store(len(keys) > 0) })
	}
	drain := func(name, warning string) {
		began := time.Now()
		r := command(t, "", "cluster", "drain", name, "--registry.enabled", "--redis.addrs",
			redis.Addr())
		r.want(t, cli.ExitOK, "msg/"+name+" is drained\n", warning)
		if warning == "" && r.err != "" {
			t.Errorf("drain of one of two: %s", r.err)
		}
		if took := time.Since(began); took < time.Second { // registry.poll
			t.Errorf("%s counts as drained after %v", name, took)
		}
	}
	drain("m1", "")
	drain("m2", "no other message server serves")
}
