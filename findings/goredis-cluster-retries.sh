#!/bin/sh
# go-redis: a ClusterClient with MaxRetries -1 sends a command whose answer is lost four times.
#
# Versions: Go 1.26.8, github.com/redis/go-redis/v9 v9.22.0.
# Situation: an application counts with INCR in a Redis Cluster. A command in doubt must not be
#   repeated, so it sets MaxRetries to -1, which disables retries of a Client. The server runs
#   the command, and the connection breaks before the answer arrives.
# Expected: an error after one attempt. The doc comment of MaxRetries says "for ClusterClient,
#   retries are disabled by default (set to -1)".
# Seen: the command runs four times. The loop that follows redirections repeats commands after
#   network errors as well, and MaxRedirects, by default 3, is its bound. With MaxRedirects -1
#   it follows no redirection either.
# Way out: a hook that wraps each command in a type whose method NoRetry returns true. Then the
#   loop follows redirections and repeats nothing else.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='Client, MaxRetries -1: INCR ran 1 times, error EOF
ClusterClient, MaxRetries -1: INCR ran 4 times, error EOF
ClusterClient with NoRetry: INCR ran 1 times, error EOF'

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
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// node is a cluster of one node. It runs INCR and closes the connection instead of an answer.
type node struct {
	listener net.Listener
	ran      atomic.Int32
}

// serve answers the commands of one connection.
func (n *node) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		switch strings.ToLower(words[0]) {
		case "incr":
			n.ran.Add(1)
			return
		case "cluster": // SLOTS: all of them are here
			port := n.listener.Addr().(*net.TCPAddr).Port
			fmt.Fprintf(conn, "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$4\r\nnode\r\n",
				port)
		case "command": // the client knows the keys of INCR by itself
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

// once is a hook that lets commands run once.
type once struct{}

type onceCmd struct{ redis.Cmder }

func (onceCmd) NoRetry() bool                                 { return true }
func (once) DialHook(next redis.DialHook) redis.DialHook      { return next }
func (once) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next // a pipeline needs the same for its commands
}
func (once) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return next(ctx, onceCmd{cmd}) }
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	n := &node{listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go n.serve(conn)
		}
	}()
	off := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	cluster := func() *redis.ClusterClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{l.Addr().String()},
			MaxRetries: -1, Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: off})
	}
	guarded := cluster()
	guarded.AddHook(once{})
	for _, c := range []struct {
		name   string
		client redis.UniversalClient
	}{
		{"Client, MaxRetries -1", redis.NewClient(&redis.Options{Addr: l.Addr().String(),
			MaxRetries: -1, Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: off})},
		{"ClusterClient, MaxRetries -1", cluster()},
		{"ClusterClient with NoRetry", guarded},
	} {
		n.ran.Store(0)
		err := c.client.Incr(context.Background(), "counter").Err()
		fmt.Printf("%s: INCR ran %d times, error %v\n", c.name, n.ran.Load(), err)
	}
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/redis/go-redis/v9)"
seen=$(timeout 60 ./prog 2>/dev/null) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
