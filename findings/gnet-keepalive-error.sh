#!/bin/sh
# gnet: with WithTCPKeepAlive, Run does not say why it cannot listen.
#
# Versions: Go 1.26.8, github.com/panjf2000/gnet/v2 v2.9.7, Linux.
# Situation: a server for phones sets WithTCPKeepAlive. Its port is taken by another process, for
#   example by the server that it replaces, or its setting names a port that does not exist.
# Expected: the option changes accepted connections. The error of Run is the same without it,
#   "bind: address already in use", and errors.Is finds syscall.EADDRINUSE in it.
# Seen: gnet sets the option on the listener even if there is none. Run returns the error of that
#   call, "bad file descriptor", and the reason is lost. A program that waits until its predecessor
#   has left the port does not recognise the case.
# Way out: leave the option out, and call SetKeepAlive in OnOpen.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='port taken: bind: address already in use (EADDRINUSE: true)
port taken, with keep-alive: setsockopt: bad file descriptor (EADDRINUSE: false)
port 70000: address 70000: invalid port (EADDRINUSE: false)
port 70000, with keep-alive: setsockopt: socket operation on non-socket (EADDRINUSE: false)
free port, SetKeepAlive in OnOpen: <nil>, probes after 60 s'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off GNET_LOGGING_LEVEL=2 # errors only
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'MOD'
module finding

go 1.26

require github.com/panjf2000/gnet/v2 v2.9.7
MOD

cat >main.go <<'GO'
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// server sets keep-alive by itself.
type server struct {
	gnet.BuiltinEventEngine
	client net.Conn // to itself
}

func (s *server) OnBoot(e gnet.Engine) gnet.Action {
	fd, err := e.Dup()
	if err != nil {
		log.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	l, err := net.FileListener(f)
	if err != nil {
		log.Fatal(err)
	}
	f.Close()
	defer l.Close()
	if s.client, err = net.Dial("tcp4", l.Addr().String()); err != nil {
		log.Fatal(err)
	}
	return gnet.None
}

func (s *server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	err := c.SetKeepAlive(true, time.Minute, 12*time.Second, 5)
	idle, _ := syscall.GetsockoptInt(c.Fd(), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
	fmt.Printf("free port, SetKeepAlive in OnOpen: %v, probes after %d s\n", err, idle)
	return nil, gnet.Shutdown
}

func run(what, addr string, options ...gnet.Option) {
	err := gnet.Run(&gnet.BuiltinEventEngine{}, "tcp4://"+addr, options...)
	fmt.Printf("%s: %v (EADDRINUSE: %v)\n", what, err, errors.Is(err, syscall.EADDRINUSE))
}

func main() {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	keep := gnet.WithTCPKeepAlive(time.Minute)
	run("port taken", l.Addr().String())
	run("port taken, with keep-alive", l.Addr().String(), keep)
	run("port 70000", "127.0.0.1:70000")
	run("port 70000, with keep-alive", "127.0.0.1:70000", keep)
	s := &server{}
	if err := gnet.Run(s, "tcp4://127.0.0.1:0", gnet.WithNumEventLoop(1)); err != nil {
		log.Fatal(err)
	}
	s.client.Close()
}
GO

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/panjf2000/gnet/v2)"
seen=$(timeout 60 ./prog 2>/dev/null </dev/null) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
