#!/bin/sh
# net/http: after a timeout, requests of HTTP/2 stay on the dead connection until it has no stream left.
#
# Versions: Go 1.26.8.
# Situation: a push server sends to APNs or FCM with an http.Client that has a Timeout. A firewall forgets
#   the connection, or the machine behind it is lost: no packet of it arrives any more. New connections
#   work.
# Expected: one request fails. Its connection has not answered within the Timeout, so the next
#   request opens another connection, as with HTTP/1.1. The documentation of Client.Timeout and of
#   Transport names no difference.
# Seen: the following requests use the same connection and fail, one after the other. The transport
#   resets the stream of each failed request, but counts it until the server confirms it. So as
#   many requests fail as the server allows streams at once, here 20 and 50. RFC 9113 recommends at
#   least 100: with 10 s for each request, one after the other, that is 17 minutes.
# Way out: HTTP2Config.SendPingTimeout and PingTimeout in the Transport, together shorter than a
#   request may take. The first is off unless set, also in http.DefaultTransport.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='HTTP/1.1: requests that fail: 1
HTTP/2, 20 streams: requests that fail: about 20
HTTP/2, 50 streams: requests that fail: about 50
HTTP/2, 50 streams, pings: requests that fail: 1'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'EOF'
module finding

go 1.26
EOF

cat >main.go <<'EOF'
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"
)

// way stands for the network between client and server.
type way struct {
	net.Listener
	server string
	conns  atomic.Int32
	lost   atomic.Bool // the first connection carries nothing more
}

func (w *way) run() {
	for {
		client, err := w.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.server)
		if err != nil {
			log.Fatal(err)
		}
		first := w.conns.Add(1) == 1
		go w.carry(client, server, first)
		go w.carry(server, client, first)
	}
}

func (w *way) carry(from, to net.Conn, first bool) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if !first || !w.lost.Load() {
			to.Write(b[:n])
		}
	}
}

// try sends requests before and after the first connection is lost.
func try(name string, h2 bool, streams int, timeout, ping time.Duration) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.ProtoMajor)
	}))
	s.EnableHTTP2 = h2
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	s.StartTLS()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	w := &way{Listener: l, server: s.Listener.Addr().String()}
	go w.run()

	t := s.Client().Transport.(*http.Transport).Clone()
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	}
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: ping}
	send := func(timeout time.Duration) error {
		c := &http.Client{Transport: t, Timeout: timeout}
		rsp, err := c.Post(s.URL, "application/json", nil)
		if err != nil {
			return err
		}
		defer rsp.Body.Close()
		body, err := io.ReadAll(rsp.Body)
		if h2 != (string(body) == "2") {
			log.Fatalf("HTTP/%s", body)
		}
		return err
	}
	const plenty = 30 * time.Second
	for range 2 {
		if err := send(plenty); err != nil {
			log.Fatal(err)
		}
	}
	w.lost.Store(true)
	failed := 0 // requests that the first connection got
	for failed < 1000 {
		if err := send(timeout); err == nil || w.conns.Load() > 1 {
			break
		}
		failed++
	}
	if err := send(plenty); err != nil {
		log.Fatal(err)
	}
	number := fmt.Sprint(failed)
	if streams-1 <= failed && failed <= streams+1 { // one is a matter of timing
		number = fmt.Sprint("about ", streams)
	}
	fmt.Printf("%s: requests that fail: %s\n", name, number)
}

func main() {
	const limit = 100 * time.Millisecond
	try("HTTP/1.1", false, 100, limit, 0)
	try("HTTP/2, 20 streams", true, 20, limit, 0)
	try("HTTP/2, 50 streams", true, 50, limit, 0)
	try("HTTP/2, 50 streams, pings", true, 50, 30*time.Second, time.Second)
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s\n' "$(go version)"
seen=$(timeout 120 ./prog 2>log) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { cat log >&2; printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
