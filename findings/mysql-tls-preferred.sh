#!/bin/sh
# go-sql-driver/mysql: with tls=preferred, one connection without TLS turns TLS off for all later ones.
#
# Versions: Go 1.26.8, github.com/go-sql-driver/mysql v1.10.1.
# Situation: the DSN has tls=preferred. The server has TLS, except for a moment: it was started
#   without its certificate, or one connection led to another server behind the same name.
# Expected: each connection is encrypted when the server that it reaches offers TLS. The README
#   says so: "use TLS only when advertised by the server".
# Seen: the first connection that is not offered TLS sets TLS to nil in the configuration, which
#   all connections of the pool share. No later connection uses TLS, until the process ends.
#   Nothing tells so. Two connections at a time race for the field.
# Way out: the option BeforeConnect, with a function that does nothing. The driver then gives each
#   connection a copy of the configuration.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='by itself: TLS offered: asked for TLS; not offered: plain; offered again: plain
with BeforeConnect: TLS offered: asked for TLS; not offered: plain; offered again: asked for TLS'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'MOD'
module finding

go 1.26

require github.com/go-sql-driver/mysql v1.10.1
MOD

cat >main.go <<'GO'
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// The capabilities of the server that matter here.
const (
	protocol41       = 1 << 9
	ssl              = 1 << 11
	secureConnection = 1 << 15
	pluginAuth       = 1 << 19
)

// greeting is the first packet of a server, with or without an offer of TLS.
func greeting(offersTLS bool) []byte {
	flags := uint32(1 | protocol41 | secureConnection | pluginAuth)
	if offersTLS {
		flags |= ssl
	}
	b := append([]byte{10}, "8.0.0\x00"...)
	b = binary.LittleEndian.AppendUint32(b, 1) // connection
	b = append(b, "12345678\x00"...)
	b = binary.LittleEndian.AppendUint16(b, uint16(flags))
	b = append(b, 45, 2, 0) // character set, status
	b = binary.LittleEndian.AppendUint16(b, uint16(flags>>16))
	b = append(b, 21)
	b = append(b, make([]byte, 10)...)
	b = append(b, "123456789012\x00"...)
	b = append(b, "mysql_native_password\x00"...)
	return append([]byte{byte(len(b)), byte(len(b) >> 8), 0, 0}, b...)
}

// answer greets a client, and returns what it does then. It closes the connection.
func answer(conn net.Conn, offersTLS bool) string {
	defer conn.Close()
	head := make([]byte, 4)
	if _, err := conn.Write(greeting(offersTLS)); err != nil {
		return err.Error()
	}
	if _, err := io.ReadFull(conn, head); err != nil {
		return err.Error()
	}
	body := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	if _, err := io.ReadFull(conn, body); err != nil {
		return err.Error()
	}
	if binary.LittleEndian.Uint32(body)&ssl != 0 {
		return "asked for TLS"
	}
	return "plain"
}

func run(name string, options ...mysql.Option) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	cfg, err := mysql.ParseDSN("user@tcp(" + l.Addr().String() + ")/db?tls=preferred")
	if err != nil {
		log.Fatal(err)
	}
	cfg.Logger = &mysql.NopLogger{}
	if err := cfg.Apply(options...); err != nil {
		log.Fatal(err)
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		log.Fatal(err)
	}
	var list []string
	for _, c := range []struct {
		what string
		tls  bool
	}{{"TLS offered", true}, {"not offered", false}, {"offered again", true}} {
		did := make(chan string)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				log.Fatal(err)
			}
			did <- answer(conn, c.tls)
		}()
		go connector.Connect(context.Background()) // the connection is closed, so it fails
		list = append(list, c.what+": "+<-did)
	}
	fmt.Printf("%s: %s\n", name, strings.Join(list, "; "))
}

func main() {
	run("by itself")
	run("with BeforeConnect",
		mysql.BeforeConnect(func(context.Context, *mysql.Config) error { return nil }))
}
GO

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/go-sql-driver/mysql)"
seen=$(timeout 60 ./prog 2>/dev/null) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
