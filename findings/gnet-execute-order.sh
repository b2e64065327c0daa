#!/bin/sh
# gnet: EventLoop.Execute of a busy loop runs tasks in another order than they were posted.
#
# Versions: Go 1.26.8, github.com/panjf2000/gnet/v2 v2.9.7, Linux.
# Situation: one goroutine hands tasks to one event loop with Execute, for example the messages
#   of one connection. The loop is busy, and 1,200 tasks wait for it. While the loop catches up,
#   the same goroutine posts one task more.
# Expected: the loop runs the tasks of one poster in the order of posting, as a channel or a
#   mutex and a slice would. The doc comment of Execute leaves open when a task runs, but warns
#   of no other order.
# Seen: the task posted last overtakes tasks posted before it. A poller has two queues. Execute
#   fills the urgent one while that holds fewer than 1,024 tasks, the other one after that, and
#   the loop empties the urgent one first.
# Way out: keep the items in a queue of your own, and let a task of Execute drain that queue.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='posted in the order 0 to 1200
tasks run: 1201
the task posted last ran before 175 tasks posted earlier'

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
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/panjf2000/gnet/v2"
)

const last = 1200 // the number of the task that is posted while the loop catches up

// server hands its event loop to main when a connection opens.
type server struct {
	gnet.BuiltinEventEngine
	booted chan gnet.Engine
	loop   chan gnet.EventLoop
}

func (s *server) OnBoot(e gnet.Engine) gnet.Action {
	s.booted <- e
	return gnet.None
}

func (s *server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	s.loop <- c.EventLoop()
	return nil, gnet.None
}

// run posts the tasks to the loop and returns their numbers in the order of their execution.
func run(loop gnet.EventLoop) []int {
	var order []int // of the loop until done is closed
	busy, posted := make(chan struct{}), make(chan struct{})
	halfway, postedLast := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	post := func(i int) {
		err := loop.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
			order = append(order, i)
			switch i {
			case 0: // the loop is busy until all tasks but one are posted
				close(busy)
				<-posted
			case last / 2: // the loop has run half of the tasks
				close(halfway)
				<-postedLast
			}
			if len(order) == last+1 {
				close(done)
			}
			return nil
		}))
		if err != nil {
			log.Fatal(err)
		}
	}
	post(0)
	<-busy
	for i := 1; i < last; i++ {
		post(i)
	}
	close(posted)
	<-halfway
	post(last)
	close(postedLast)
	<-done
	return order
}

func main() {
	path := filepath.Join(os.Args[1], "socket")
	s := &server{booted: make(chan gnet.Engine, 1), loop: make(chan gnet.EventLoop, 1)}
	ran := make(chan error, 1)
	go func() { ran <- gnet.Run(s, "unix://"+path, gnet.WithNumEventLoop(1)) }()
	engine := <-s.booted
	c, err := net.Dial("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	order := run(<-s.loop)
	fmt.Printf("posted in the order 0 to %d\ntasks run: %d\n", last, len(order))
	overtaken := 0
	for i, number := range order {
		if number == last {
			overtaken = len(order) - 1 - i
		}
	}
	fmt.Printf("the task posted last ran before %d tasks posted earlier\n", overtaken)
	c.Close()
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
