#!/bin/sh
# HAProxy: an agent that answers 75% takes its server out, unless the server's weight is configured.
#
# Versions: HAProxy 2.6.12 of Debian 12, Go 1.26.8 for the servers.
# Situation: two message servers. One has a higher load than the other one, and answers "75%" to the
#   agent-check of HAProxy. The settings of the servers do not name a weight, so both have the same.
# Expected: the answer sets "the weight proportional to the initial weight", so the server gets three
#   new connections for four of the other one. Only 0% means that it gets none.
# Seen: the default weight is 1, and three quarters of 1 are rounded down to 0, as is each answer
#   below 100%. The server gets no new connections. If both servers answer 99%, HAProxy refuses all
#   clients. 199% changes nothing. The command "set server l/a weight 75%" rounds in the same way.
# Way out: the option weight 100 for each server that has agent-check.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='no weight, 75%: weight 0, new connections: no
no weight, 99%: weight 0, new connections: no
no weight, 199%: weight 1, new connections: yes
weight 100, 75%: weight 75, new connections: yes
no weight, both 99%: clients served: no'

PATH=$PATH:/usr/sbin
for program in go haproxy; do
	command -v $program >/dev/null || { echo "needs Go 1.26 or newer and HAProxy 2.6.12" >&2; exit 2; }
done
haproxy -v | grep -q 'version 2\.6\.12-' || { echo "needs HAProxy 2.6.12" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'MOD'
module finding

go 1.26
MOD

cat >main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// listen serves each connection with f, then closes it, and returns the port.
func listen(f func(net.Conn)) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c)
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// server listens as a server that says its name.
func server(name string) int {
	return listen(func(c net.Conn) { io.WriteString(c, name) })
}

// agent listens as an agent that gives answer, and tells of each answer.
func agent(answer string) (port int, asked chan struct{}) {
	asked = make(chan struct{}, 1000)
	return listen(func(c net.Conn) {
		io.WriteString(c, answer+"\n")
		asked <- struct{}{}
	}), asked
}

// ask sends text to a socket and returns the answer, which ends with the connection.
func ask(path, text string) string {
	c, err := net.Dial("unix", path)
	if err != nil {
		return ""
	}
	defer c.Close()
	io.WriteString(c, text)
	b, _ := io.ReadAll(c)
	return string(b)
}

// run starts HAProxy for two servers with settings. The first has an agent that gives answer, and
// so has the second if both is set. It returns the weight of the first, and how many of 40
// connections each server got.
func run(dir, settings, answer string, both bool) (weight string, got map[string]int) {
	dir, err := os.MkdirTemp(dir, "")
	if err != nil {
		log.Fatal(err)
	}
	front, admin := filepath.Join(dir, "front"), filepath.Join(dir, "admin")
	agents := []string{answer, "100%"}
	if both {
		agents[1] = answer
	}
	config := "global\n stats socket " + admin + "\n nbthread 1\ndefaults\n mode tcp\n timeout connect 30s\n" +
		" timeout client 30s\n timeout server 30s\nlisten l\n bind unix@" + front + "\n balance roundrobin\n"
	var asked []chan struct{}
	for i, name := range []string{"a", "b"} {
		port, c := agent(agents[i])
		asked = append(asked, c)
		config += fmt.Sprintf(" server %s 127.0.0.1:%d %s agent-check agent-inter 50ms agent-port %d\n",
			name, server(name), settings, port)
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		log.Fatal(err)
	}
	proxy := exec.Command("haproxy", "-db", "-f", file)
	proxy.Stderr = os.Stderr
	if err := proxy.Start(); err != nil {
		log.Fatal(err)
	}
	defer proxy.Wait()
	defer proxy.Process.Kill()
	for _, c := range asked { // HAProxy asks again only after it has taken the first answer
		for range 2 {
			select {
			case <-c:
			case <-time.After(30 * time.Second):
				log.Fatal("no question for an agent")
			}
		}
	}
	weight, _, _ = strings.Cut(ask(admin, "get weight l/a\n"), " ")
	got = map[string]int{}
	for range 40 {
		got[ask(front, "")]++
	}
	return weight, got
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func main() {
	dir := os.Args[1]
	for _, c := range []struct{ name, settings, answer string }{
		{"no weight", "", "75%"},
		{"no weight", "", "99%"},
		{"no weight", "", "199%"},
		{"weight 100", "weight 100", "75%"},
	} {
		weight, got := run(dir, c.settings, c.answer, false)
		if got["b"] == 0 {
			log.Fatal("no connection reached the other server: ", got)
		}
		fmt.Printf("%s, %s: weight %s, new connections: %s\n", c.name, c.answer, weight, yes(got["a"] > 0))
	}
	_, got := run(dir, "", "99%", true)
	fmt.Println("no weight, both 99%: clients served:", yes(got["a"]+got["b"] > 0))
}
GO

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(haproxy -v | head -n 1)"
seen=$(timeout 120 ./prog "$tmp" 2>log) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { cat log >&2; printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
