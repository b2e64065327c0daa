#!/bin/sh
# go-redis: a sharded subscription ends without an error when its slot moves to another node.
#
# Versions: Go 1.26.8, github.com/redis/go-redis/v9 v9.22.0, Redis 7.0.15 of Debian 12.
# Situation: message servers publish to a room with SPublish, and others listen with
#   ClusterClient.SSubscribe and PubSub.Channel. A server adds rooms to its PubSub with PubSub.SSubscribe.
#   An operator moves slots to a new node of the Redis Cluster.
# Expected: a ClusterClient follows redirections and PubSub subscribes again after it loses a connection,
#   so a subscription follows its slot too. SSubscribe with a channel of another node opens a connection
#   to this node, or returns an error.
# Seen: the old node of a moved slot ends the subscription and keeps the connection, so go-redis does
#   nothing. Channel stays open and empty, and another SSubscribe of this PubSub returns no error and has
#   no effect. Nor does an SSubscribe that adds a channel of another node: it goes to the node of the
#   first channel, whose answer MOVED is dropped. PubSub.String names both channels.
# Way out: a PubSub for each channel, with ChannelWithSubscriptions. After a Subscription of the kind
#   sunsubscribe close it and open another one, and read again what may have been missed.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='room2 subscribed: SPublish reaches 1, Channel has it
room0, on the other node, added: SSubscribe <nil>, SPublish reaches 0, nothing
slot of room2 moved: SPublish reaches 0, nothing
room2 added again: SSubscribe <nil>, SPublish reaches 0, nothing
channels of the PubSub: room0, room2
with ChannelWithSubscriptions: ssubscribe room2, sunsubscribe room2
a new PubSub: SPublish reaches 1, Channel has it'

for program in go redis-server; do
	command -v $program >/dev/null || { echo "needs Go 1.26 or newer and Redis 7.0.15" >&2; exit 2; }
done
redis-server --version | grep -q 'v=7\.0\.15 ' || { echo "needs Redis 7.0.15" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'EOF'
module finding

go 1.26

require github.com/redis/go-redis/v9 v9.22.0
EOF

cat >main.go <<'EOF'
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var ctx = context.Background()

func must(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// until waits for a state of the cluster.
func until(ok func() bool) {
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			log.Panic("the cluster is not ready")
		}
	}
}

// freePorts returns n ports on which nothing listens.
func freePorts(n int) (ports []string) {
	for range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

// start starts a node, and returns a client of it and how to end it.
func start(dir, port, bus string) (*redis.Client, func()) {
	dir, err := os.MkdirTemp(dir, "")
	must(err)
	server := exec.Command("redis-server", "--port", port, "--cluster-port", bus, "--bind", "127.0.0.1",
		"--cluster-enabled", "yes", "--save", "", "--dir", dir)
	must(server.Start())
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	until(func() bool { return c.Ping(ctx).Err() == nil })
	return c, func() { server.Process.Kill(); server.Wait() }
}

// publish sends a message to a room and says whether it arrives.
func publish(c *redis.ClusterClient, room string, from <-chan *redis.Message) string {
	n, err := c.SPublish(ctx, room, "hello").Result()
	must(err)
	wait := 2 * time.Second
	if n > 0 {
		wait = time.Minute
	}
	select {
	case <-from:
		return fmt.Sprintf("SPublish reaches %d, Channel has it", n)
	case <-time.After(wait):
		return fmt.Sprintf("SPublish reaches %d, nothing", n)
	}
}

func main() {
	ports := freePorts(4)
	a, end := start(os.Args[1], ports[0], ports[2])
	defer end()
	b, end := start(os.Args[1], ports[1], ports[3])
	defer end()
	must(a.ClusterAddSlotsRange(ctx, 0, 8191).Err())
	must(b.ClusterAddSlotsRange(ctx, 8192, 16383).Err())
	must(a.Do(ctx, "cluster", "set-config-epoch", 1).Err())
	must(b.Do(ctx, "cluster", "set-config-epoch", 2).Err())
	must(a.Do(ctx, "cluster", "meet", "127.0.0.1", ports[1], ports[3]).Err())
	for _, c := range []*redis.Client{a, b} {
		until(func() bool {
			slots, _ := c.ClusterSlots(ctx).Result()
			return len(slots) == 2 && strings.Contains(c.ClusterInfo(ctx).Val(), "cluster_state:ok")
		})
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:" + ports[0]}})

	// The first room belongs to node a, the second to node b.
	const first, second = "room2", "room0"
	slot := a.ClusterKeySlot(ctx, first).Val()
	if slot > 8191 || a.ClusterKeySlot(ctx, second).Val() < 8192 {
		log.Panic("rooms of one node")
	}
	sub := c.SSubscribe(ctx, first)
	_, err := sub.Receive(ctx) // the confirmation
	must(err)
	messages := sub.Channel()
	fmt.Printf("%s subscribed: %s\n", first, publish(c, first, messages))
	err = sub.SSubscribe(ctx, second)
	must(sub.Ping(ctx))
	fmt.Printf("%s, on the other node, added: SSubscribe %v, %s\n", second, err, publish(c, second, messages))

	other := c.SSubscribe(ctx, first)
	events := other.ChannelWithSubscriptions()
	kinds := []string{fmt.Sprint((<-events).(*redis.Subscription).Kind, " ", first)}

	id := b.Do(ctx, "cluster", "myid").Val()
	must(b.Do(ctx, "cluster", "setslot", slot, "node", id).Err())
	must(a.Do(ctx, "cluster", "setslot", slot, "node", id).Err())
	event := (<-events).(*redis.Subscription)
	kinds = append(kinds, event.Kind+" "+event.Channel)
	fmt.Printf("slot of %s moved: %s\n", first, publish(c, first, messages))
	err = sub.SSubscribe(ctx, first)
	must(sub.Ping(ctx))
	fmt.Printf("%s added again: SSubscribe %v, %s\n", first, err, publish(c, first, messages))
	names := strings.Split(strings.Trim(strings.TrimPrefix(sub.String(), "PubSub"), "()"), ", ")
	slices.Sort(names)
	fmt.Println("channels of the PubSub:", strings.Join(names, ", "))
	fmt.Println("with ChannelWithSubscriptions:", strings.Join(kinds, ", "))

	fresh := c.SSubscribe(ctx, first)
	_, err = fresh.Receive(ctx)
	must(err)
	fmt.Println("a new PubSub:", publish(c, first, fresh.Channel()))
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n%s\n' "$(go version)" "$(go list -m github.com/redis/go-redis/v9)" \
	"$(redis-server --version)"
seen=$(timeout 180 ./prog "$tmp" 2>log) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { cat log >&2; printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
