#!/bin/sh
# gnet: a program that imports gnet can no longer use the default pool of ants.
#
# Versions: Go 1.26.8, github.com/panjf2000/gnet/v2 v2.9.7, github.com/panjf2000/ants/v2 v2.12.1.
# Situation: a program, or a package that it imports, runs tasks with ants.Submit, the pool that
#   ants makes by itself. The program then starts to import gnet. It need not call gnet.
# Expected: the import changes nothing for users of ants. The README of gnet says only that
#   gnet has a goroutine pool powered by ants.
# Seen: ants.Submit returns "this pool has been closed" from the first call on, and the task
#   never runs. An init function below gnet closes the pool of the whole process. A caller that
#   drops the error of Submit loses its tasks without a trace.
# Way out: make a pool with ants.NewPool, in libraries too.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='ants alone: Submit returned <nil>, the task ran: true
ants and gnet: Submit returned this pool has been closed, the task ran: false
ants and gnet, pool of NewPool: Submit returned <nil>, the task ran: true'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"
mkdir alone both

cat >go.mod <<'EOF'
module finding

go 1.26

require (
	github.com/panjf2000/ants/v2 v2.12.1
	github.com/panjf2000/gnet/v2 v2.9.7
)
EOF

# The two programs differ in the import of gnet and in the last task.
cat >alone/main.go <<'EOF'
package main

import (
	"fmt"

	"github.com/panjf2000/ants/v2"
)

// try submits a task and waits for it, if submit took it.
func try(name string, submit func(func()) error) {
	done := make(chan struct{})
	err := submit(func() { close(done) })
	if err == nil {
		<-done
	}
	fmt.Printf("%s: Submit returned %v, the task ran: %v\n", name, err, err == nil)
}

func main() {
	try("ants alone", ants.Submit)
}
EOF
sed -e 's,"github.com/panjf2000/ants/v2",&\
	_ "github.com/panjf2000/gnet/v2",' \
	-e 's/ants alone/ants and gnet/' \
	-e '/^	try(/a\
	own, err := ants.NewPool(1)\
	if err != nil {\
		panic(err)\
	}\
	try("ants and gnet, pool of NewPool", own.Submit)' alone/main.go >both/main.go

go build -o alone/prog ./alone && go build -o both/prog ./both ||
	{ echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s, %s\n' "$(go version)" \
	"$(go list -m github.com/panjf2000/gnet/v2)" "$(go list -m github.com/panjf2000/ants/v2)"
seen=$(timeout 60 ./alone/prog 2>&1; timeout 60 ./both/prog 2>&1) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
