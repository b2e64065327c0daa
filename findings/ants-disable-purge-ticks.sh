#!/bin/sh
# ants: a pool whose idle workers are never purged still wakes the process twice a second.
#
# Versions: Go 1.26.8, github.com/panjf2000/ants/v2 v2.12.1, Linux.
# Situation: a server that is mostly idle makes pools with WithDisablePurge(true), because their
#   workers shall never end, and gives them no task. For 6 s the program counts how often the
#   scheduler of Go starts a goroutine that became ready, without a pool and with 80 pools.
#   The runtime counts one of eight such starts.
# Expected: nothing has to be done while no task comes and no worker is to be purged, so nothing
#   runs, and the process sleeps as deeply as without pools.
# Seen: each pool has a goroutine that keeps the time with a ticker of 500 ms, whatever the option
#   says, until the pool is released: two runs a second for each pool. On an idle server these
#   wake-ups can take most of the processor time.
# Way out: release pools that are not used for a while, and make them again.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='without a pool: fewer than 30 runs
with 80 pools: 80 runs or more
after Release: fewer than 30 runs'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'EOF'
module finding

go 1.26

require github.com/panjf2000/ants/v2 v2.12.1
EOF

cat >main.go <<'EOF'
package main

import (
	"fmt"
	"log"
	"runtime/metrics"
	"time"

	"github.com/panjf2000/ants/v2"
)

// runs returns how often the scheduler has started a goroutine that had become ready, as
// far as it counts them: one of eight.
func runs() (n uint64) {
	s := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(s)
	for _, c := range s[0].Value.Float64Histogram().Counts {
		n += c
	}
	return n
}

// count says how often goroutines run in 6 s in which the program does nothing.
func count(when string) {
	time.Sleep(time.Second)
	before := runs()
	time.Sleep(6 * time.Second)
	n := runs() - before
	log.Printf("%s: %d runs in 6 s", when, n)
	switch {
	case n < 30:
		fmt.Printf("%s: fewer than 30 runs\n", when)
	case n >= 80:
		fmt.Printf("%s: 80 runs or more\n", when)
	default:
		fmt.Printf("%s: %d runs\n", when, n)
	}
}

func main() {
	log.SetFlags(0)
	ants.Release() // the pool that the package itself makes
	count("without a pool")
	var pools []*ants.Pool
	for range 80 {
		p, err := ants.NewPool(100, ants.WithDisablePurge(true))
		if err != nil {
			log.Fatal(err)
		}
		pools = append(pools, p)
	}
	count("with 80 pools")
	for _, p := range pools {
		p.Release()
	}
	count("after Release")
}
EOF

go build -o finding . || exit 2
got=$(./finding 2>counts) || { cat counts >&2; exit 2; }
cat counts
echo "$got"
[ "$got" = "$want" ] || { echo "changed; it was:" >&2; echo "$want" >&2; exit 1; }
