#!/bin/sh
# go-redis: after as many failed dials as the pool is large, commands get an old error without a dial.
#
# Versions: Go 1.26.8, github.com/redis/go-redis/v9 v9.22.0.
# Situation: a Redis restarts, or a replica is promoted and Sentinel names it. Meanwhile the
#   application has tried again, so some dials have failed. Then the server accepts connections.
# Expected: a command that needs a connection dials, and the first one after that succeeds. No
#   doc comment of Options or FailoverOptions names another rule.
# Seen: the pool counts the dials that fail. From PoolSize of them on, it answers each command
#   with the error of the last dial. A goroutine dials once a second, and only a dial of it that
#   succeeds ends that. So for up to a second all commands say "connection refused" while the
#   server listens, and no option changes the second. The client of Sentinels does the same, and
#   does not ask the Sentinels meanwhile.
# Way out: a DialHook that returns, instead of an error, a net.Conn whose Read and Write fail with
#   it. The handshake fails with the same error, and the pool counts none.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='by itself: 2 dials failed; the server listens: connection refused, 0 dials
with the hook: 2 dials failed; the server listens: no error, 1 dials'

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
	"log"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// serve answers the commands of one connection. A line that begins with a letter is a word.
func serve(conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewScanner(conn); in.Scan(); {
		switch strings.ToLower(in.Text()) {
		case "hello":
			fmt.Fprint(conn, "-ERR unknown command\r\n")
		case "ping":
			fmt.Fprint(conn, "+PONG\r\n")
		}
	}
}

// broken is a connection that could not be dialled.
type broken struct {
	net.Conn // nil
	err      error
}

func (b broken) Read([]byte) (int, error)         { return 0, b.err }
func (b broken) Write([]byte) (int, error)        { return 0, b.err }
func (b broken) Close() error                     { return nil }
func (b broken) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (b broken) SetDeadline(time.Time) error      { return nil }
func (b broken) SetReadDeadline(time.Time) error  { return nil }
func (b broken) SetWriteDeadline(time.Time) error { return nil }

// hook is the way out.
type hook struct{}

func (hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return broken{err: err}, nil
		}
		return conn, nil
	}
}
func (hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook                         { return next }
func (hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook { return next }

// run lets two dials fail, starts the server, and sends a command.
func run(name string, hooks ...redis.Hook) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	client := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, PoolSize: 2, MaxRetries: -1,
		DialerRetries: 1, DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled}})
	defer client.Close()
	for _, h := range hooks {
		client.AddHook(h)
	}
	failed := 0
	for range 2 {
		if errors.Is(client.Ping(context.Background()).Err(), syscall.ECONNREFUSED) {
			failed++
		}
	}
	time.Sleep(100 * time.Millisecond) // the goroutine that dials has failed, too
	if l, err = net.Listen("tcp", addr); err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	var dials atomic.Int32
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			go serve(conn)
		}
	}()
	what := "no error"
	if err := client.Ping(context.Background()).Err(); errors.Is(err, syscall.ECONNREFUSED) {
		what = "connection refused"
	} else if err != nil {
		what = err.Error()
	}
	fmt.Printf("%s: %d dials failed; the server listens: %s, %d dials\n", name, failed, what,
		dials.Load())
}

func main() {
	run("by itself")
	run("with the hook", hook{})
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/redis/go-redis/v9)"
seen=$(timeout 60 ./prog 2>/dev/null) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
