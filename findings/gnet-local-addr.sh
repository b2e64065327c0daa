#!/bin/sh
# gnet: LocalAddr of an accepted connection is the address of the listener, not that of the connection.
#
# Versions: Go 1.26.8, github.com/panjf2000/gnet/v2 v2.9.7, Linux.
# Situation: a server listens on all addresses of its machine, tcp://0.0.0.0:PORT. It needs the one
#   that a client dialled: to announce it to this client as the address of the next server, to tell
#   networks or tenants apart, or for the head of the PROXY protocol.
# Expected: 127.0.0.2 after a dial to 127.0.0.2, as package net answers. The doc comment says that
#   LocalAddr is "the connection's local socket address".
# Seen: 0.0.0.0, the address of the listener, for each accepted connection. All of them share one
#   *net.TCPAddr, so a change of it through one connection shows in the others.
# Way out: in OnOpen ask the kernel, syscall.Getsockname(c.Fd()).
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='dialled 127.0.0.1: net 127.0.0.1, gnet 0.0.0.0, Getsockname 127.0.0.1
dialled 127.0.0.2: net 127.0.0.2, gnet 0.0.0.0, Getsockname 127.0.0.2
gnet gave both connections the same *net.TCPAddr: true'

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
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/panjf2000/gnet/v2"
)

// opened is what OnOpen saw of a connection.
type opened struct {
	addr   *net.TCPAddr
	kernel netip.Addr
}

type server struct {
	gnet.BuiltinEventEngine
	booted chan booted
	open   chan opened
}

// booted is the engine and the port on which it listens.
type booted struct {
	engine gnet.Engine
	port   int
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
	s.booted <- booted{e, l.Addr().(*net.TCPAddr).Port}
	l.Close()
	f.Close()
	return gnet.None
}

func (s *server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	name, err := syscall.Getsockname(c.Fd())
	if err != nil {
		log.Fatal(err)
	}
	s.open <- opened{c.LocalAddr().(*net.TCPAddr), netip.AddrFrom4(name.(*syscall.SockaddrInet4).Addr)}
	return nil, gnet.None
}

// local returns what package net says of a connection that it accepts, dialled at host.
func local(host string) net.IP {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	defer dial(host, l.Addr().(*net.TCPAddr).Port).Close()
	c, err := l.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.TCPAddr).IP
}

func dial(host string, port int) net.Conn {
	c, err := net.Dial("tcp4", fmt.Sprintf("%s:%d", host, port))
	if err != nil {
		log.Fatal(err)
	}
	return c
}

func main() {
	s := &server{booted: make(chan booted, 1), open: make(chan opened, 1)}
	ran := make(chan error, 1)
	go func() {
		ran <- gnet.Run(s, "tcp4://0.0.0.0:0", gnet.WithNumEventLoop(1))
	}()
	b := <-s.booted
	var seen []*net.TCPAddr
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		defer dial(host, b.port).Close()
		o := <-s.open
		fmt.Printf("dialled %s: net %v, gnet %v, Getsockname %v\n", host, local(host), o.addr.IP, o.kernel)
		seen = append(seen, o.addr)
	}
	fmt.Println("gnet gave both connections the same *net.TCPAddr:", seen[0] == seen[1])
	if err := b.engine.Stop(context.Background()); err != nil {
		log.Fatal(err)
	}
	if err := <-ran; err != nil {
		log.Fatal(err)
	}
}
GO

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/panjf2000/gnet/v2)"
seen=$(timeout 60 ./prog 2>&1) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
