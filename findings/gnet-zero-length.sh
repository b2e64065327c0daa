#!/bin/sh
# gnet: Next(0), Peek(0) and Discard(0) mean "all bytes", not "no bytes".
#
# Versions: Go 1.26.8, github.com/panjf2000/gnet/v2 v2.9.7, Linux.
# Situation: a protocol of a length and a body. The server reads the length n, then calls
#   Next(n) for the body. A heartbeat has no body, so n is 0. The client sends a heartbeat and
#   a frame with the body "hello" in one write.
# Expected: Next(0) returns no bytes, as (*bytes.Buffer).Next(0) does, and the frame after the
#   heartbeat stays in the buffer. The doc comment of Next names no other meaning of 0.
# Seen: Next(0) returns all 9 bytes of the frame that follows, and the buffer is empty. Peek(0)
#   returns them too, and Discard(0) drops them. No call returns an error.
# Way out: take the length and the body with one call, whose size is then never 0, or do not
#   call when n is 0.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='bytes.Buffer: Next(0) returned 0 bytes and left 9
gnet: Peek(0) returned 9 bytes, error <nil>
gnet: Next(0) returned 9 bytes and left 0, error <nil>
gnet: Discard(0) dropped 9 bytes and left 0, error <nil>'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off GNET_LOGGING_LEVEL=2 # errors only
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'EOF'
module finding

go 1.26

require github.com/panjf2000/gnet/v2 v2.9.7
EOF

cat >main.go <<'EOF'
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/panjf2000/gnet/v2"
)

// stream is a heartbeat (length 0) and a frame of 9 bytes: the length 5 and "hello".
var stream = append([]byte{0, 0, 0, 0, 0, 0, 0, 5}, "hello"...)

// server takes the length of the heartbeat from each connection, then calls read.
type server struct {
	gnet.BuiltinEventEngine
	booted chan gnet.Engine
	read   []func(gnet.Conn)
	done   chan struct{}
}

func (s *server) OnBoot(e gnet.Engine) gnet.Action {
	s.booted <- e
	return gnet.None
}

func (s *server) OnTraffic(c gnet.Conn) gnet.Action {
	if c.InboundBuffered() < len(stream) {
		return gnet.None // the rest is on its way
	}
	head, err := c.Next(4)
	if err != nil || binary.BigEndian.Uint32(head) != 0 {
		log.Fatalf("no heartbeat: %x, %v", head, err)
	}
	s.read[0](c)
	s.read = s.read[1:]
	s.done <- struct{}{}
	return gnet.Close
}

func main() {
	b := bytes.NewBuffer(stream[4:])
	got := b.Next(0)
	fmt.Printf("bytes.Buffer: Next(0) returned %d bytes and left %d\n", len(got), b.Len())

	path := filepath.Join(os.Args[1], "socket")
	s := &server{booted: make(chan gnet.Engine, 1), done: make(chan struct{}, 1)}
	s.read = []func(gnet.Conn){
		func(c gnet.Conn) {
			got, err := c.Peek(0)
			fmt.Printf("gnet: Peek(0) returned %d bytes, error %v\n", len(got), err)
		},
		func(c gnet.Conn) {
			got, err := c.Next(0)
			fmt.Printf("gnet: Next(0) returned %d bytes and left %d, error %v\n",
				len(got), c.InboundBuffered(), err)
		},
		func(c gnet.Conn) {
			n, err := c.Discard(0)
			fmt.Printf("gnet: Discard(0) dropped %d bytes and left %d, error %v\n",
				n, c.InboundBuffered(), err)
		},
	}
	ran := make(chan error, 1)
	go func() {
		ran <- gnet.Run(s, "unix://"+path, gnet.WithNumEventLoop(1))
	}()
	engine := <-s.booted
	for range len(s.read) {
		c, err := net.Dial("unix", path)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := c.Write(stream); err != nil {
			log.Fatal(err)
		}
		<-s.done
		c.Close()
	}
	if err := engine.Stop(context.Background()); err != nil {
		log.Fatal(err)
	}
	if err := <-ran; err != nil {
		log.Fatal(err)
	}
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/panjf2000/gnet/v2)"
seen=$(timeout 60 ./prog "$tmp" 2>&1) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
