#!/bin/sh
# ants: a MultiPool with LeastTasks refuses tasks although half of its workers are idle.
#
# Versions: Go 1.26.8, github.com/panjf2000/ants/v2 v2.12.1.
# Situation: a non-blocking MultiPool of two pools with two workers each has run four tasks, and
#   all of them have ended. It keeps its workers (WithDisablePurge). Four other tasks arrive.
# Expected: Running is 0 and Free, "the number of available workers", is 4. LeastTasks "always
#   selects the pool with the least number of pending tasks", so each pool gets two of the tasks.
# Seen: Running is 4 and Free is 0, because Running counts workers that wait for a task as well.
#   LeastTasks compares Running. Both pools have 2, so it always takes the first one, and the third
#   task gets ErrPoolOverload while the second pool is idle. Without WithNonblocking the task would
#   wait for the first pool. Without WithDisablePurge it lasts until the pool has ended its idle
#   workers, after WithExpiryDuration.
# Way out: RoundRobin, or one Pool. Let the tasks count how many of them run.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='LeastTasks: new: 4 of 4 tasks accepted; all ended: running 4, free 0; again: 2 of 4 tasks accepted
RoundRobin: new: 4 of 4 tasks accepted; all ended: running 4, free 0; again: 4 of 4 tasks accepted
one Pool: new: 4 of 4 tasks accepted; all ended: running 4, free 0; again: 4 of 4 tasks accepted'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'MOD'
module finding

go 1.26

require github.com/panjf2000/ants/v2 v2.12.1
MOD

cat >main.go <<'GO'
package main

import (
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/panjf2000/ants/v2"
)

const tasks = 4

// pool is what a Pool and a MultiPool have in common.
type pool interface {
	Submit(func()) error
	Running() int
	Free() int
}

// accepted submits tasks that run until the returned function is called, which waits for their
// end. A worker is free a moment after the end of its task, so a refused task is tried again for
// two seconds.
func accepted(p pool) (n int, end func()) {
	gate := make(chan struct{})
	var ended sync.WaitGroup
	for range tasks {
		ended.Add(1)
		task := func() {
			<-gate
			ended.Done()
		}
		err := p.Submit(task)
		for until := time.Now().Add(2 * time.Second); err != nil && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
			err = p.Submit(task)
		}
		if err == nil {
			n++
			continue
		}
		ended.Done()
		if !errors.Is(err, ants.ErrPoolOverload) {
			log.Fatal(err)
		}
	}
	return n, func() {
		close(gate)
		ended.Wait()
	}
}

func show(name string, p pool, err error) {
	if err != nil {
		log.Fatal(err)
	}
	first, end := accepted(p)
	end()
	running, free := p.Running(), p.Free()
	second, end := accepted(p)
	end()
	fmt.Printf("%s: new: %d of %d tasks accepted; all ended: running %d, free %d; "+
		"again: %d of %d tasks accepted\n", name, first, tasks, running, free, second, tasks)
}

func main() {
	options := []ants.Option{ants.WithNonblocking(true), ants.WithDisablePurge(true)}
	least, err := ants.NewMultiPool(2, 2, ants.LeastTasks, options...)
	show("LeastTasks", least, err)
	round, err := ants.NewMultiPool(2, 2, ants.RoundRobin, options...)
	show("RoundRobin", round, err)
	one, err := ants.NewPool(4, options...)
	show("one Pool", one, err)
}
GO

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m github.com/panjf2000/ants/v2)"
seen=$(timeout 60 ./prog 2>&1) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
