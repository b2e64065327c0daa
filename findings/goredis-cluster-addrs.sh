#!/bin/sh
# go-redis: a ClusterClient writes the nodes that it finds into the array of ClusterOptions.Addrs.
#
# Versions: Go 1.26.8, github.com/redis/go-redis/v9 v9.22.0.
# Situation: one list has the addresses of two clusters. The first address is for one client, and
#   the rest for another: list[:1] and list[1:].
# Expected: a client reads its options. It keeps the nodes that it finds in a slice of its own.
# Seen: the client appends them to Addrs. The slice list[:1] has room, so the node that the first
#   client finds replaces the address of the second cluster. Two clients with one slice that has
#   room race in the same way.
# Way out: give each client a copy, slices.Clone(addrs).
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='before: cluster-1 cluster-2
after the first command: cluster-1 found-by-client-1'

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
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// serve answers the commands of one connection. It says that node has all slots.
func serve(conn net.Conn, node net.Addr) {
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
			fmt.Fprintf(conn, "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$4\r\nnode\r\n",
				node.(*net.TCPAddr).Port)
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

// listen makes a node that names node, or itself, as the master of all slots.
func listen(node net.Addr) net.Addr {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	if node == nil {
		node = l.Addr()
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn, node)
		}
	}()
	return l.Addr()
}

func main() {
	found := listen(nil)
	first := listen(found)
	second := listen(nil)
	names := strings.NewReplacer(first.String(), "cluster-1", second.String(), "cluster-2",
		found.String(), "found-by-client-1")

	list := []string{first.String(), second.String()}
	fmt.Println("before:", names.Replace(strings.Join(list, " ")))
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: list[:1], Protocol: 2,
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled}})
	if err := client.Set(context.Background(), "key", 1, 0).Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("after the first command:", names.Replace(strings.Join(list, " ")))
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/redis/go-redis/v9)"
seen=$(timeout 60 ./prog 2>/dev/null) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
