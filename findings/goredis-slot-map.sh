#!/bin/sh
# go-redis: a ClusterClient does not look for the new master when the old one refuses connections.
#
# Versions: Go 1.26.8, github.com/redis/go-redis/v9 v9.22.0.
# Situation: a master of a Redis Cluster dies, and its replica takes over. The client has the
#   addresses of all nodes, and the other nodes know the new master at once. The application
#   repeats a command that the old master refuses.
# Expected: after errors the client asks another node for the slot map, and then the new master.
#   The doc comment of ClusterStateReloadInterval says that the interval, by default 60 s, "only
#   bounds how stale a topology can get without traffic errors".
# Seen: only redirections make the client load the map, and a dead master sends none. Every
#   command fails until the 60 s are over.
# Way out: call ReloadState after a network error, for example in a hook.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='asked for the slot map: 1 times
after the failover: 20 commands in 2 s, 20 refused; asked for the slot map: 0 times
after ReloadState: no error; asked for the slot map: 1 times'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
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
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// cluster has two nodes: the master of all slots, and its replica. Both know who is which.
type cluster struct {
	nodes  [2]net.Listener
	master atomic.Int32 // number of the master
	asked  atomic.Int32 // how often a node was asked for the slot map
}

// listen makes a node. A node that dies closes its listener and its connections.
func (c *cluster) listen(i int) (kill func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	c.nodes[i] = l
	conns := make(chan net.Conn, 100)
	go func() {
		defer close(conns)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns <- conn
			go c.serve(conn)
		}
	}()
	return func() {
		l.Close()
		for conn := range conns {
			conn.Close()
		}
	}
}

// serve answers the commands of one connection.
func (c *cluster) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		switch strings.ToLower(words[0]) {
		case "set":
			fmt.Fprint(conn, "+OK\r\n")
		case "cluster": // SLOTS
			c.asked.Add(1)
			m := c.master.Load()
			fmt.Fprint(conn, "*1\r\n*4\r\n:0\r\n:16383\r\n")
			for _, i := range []int32{m, 1 - m} {
				fmt.Fprintf(conn, "*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$5\r\nnode%d\r\n",
					c.nodes[i].Addr().(*net.TCPAddr).Port, i)
			}
		case "command":
			fmt.Fprint(conn, "*0\r\n")
		default:
			fmt.Fprint(conn, "-ERR unknown command\r\n")
		}
	}
}

// readCommand reads an array of strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	var count, size int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &count); err != nil {
		return nil, err
	}
	words := make([]string, count)
	for i := range words {
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:size])
	}
	return words, nil
}

func main() {
	ctx := context.Background()
	c := &cluster{}
	kill := c.listen(0)
	c.listen(1)
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{c.nodes[0].Addr().String(), c.nodes[1].Addr().String()}, Protocol: 2,
		DisableIdentity: true, DialerRetries: 1, MaxRedirects: -1,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled}})
	if err := client.Set(ctx, "key", 1, 0).Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("asked for the slot map: %d times\n", c.asked.Swap(0))

	kill()
	c.master.Store(1)
	client.Set(ctx, "key", 1, 0) // meets the broken connection
	refused := 0
	for range 20 {
		if err := client.Set(ctx, "key", 1, 0).Err(); errors.Is(err, syscall.ECONNREFUSED) {
			refused++
		}
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Printf("after the failover: 20 commands in 2 s, %d refused; asked for the slot map: %d times\n",
		refused, c.asked.Swap(0))

	client.ReloadState(ctx)
	err := errors.New("never served")
	for i := 0; err != nil && i < 300; i++ { // the map is loaded in the background
		time.Sleep(10 * time.Millisecond)
		err = client.Set(ctx, "key", 1, 0).Err()
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("after ReloadState: no error; asked for the slot map: %d times\n", c.asked.Load())
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/redis/go-redis/v9)"
seen=$(timeout 60 ./prog 2>/dev/null) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
