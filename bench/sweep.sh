#!/bin/bash
# Finds the knee of several shapes of a deployment, one after the other on databases of its own, and
# prints each curve and then all knees.
#
#	bench/sweep.sh five mysql embedded                       # single --pairs 200 --p99 20ms
#	bench/sweep.sh embedded -- connect --connections 5000 --p99 500ms --from 200 --to 20000
#
# The shapes are five processes with MariaDB and Redis, one process with both, and one process with the
# embedded store. What follows -- is what "teamtalk bench sweep" gets. OUT=FOLDER keeps the results and a
# page with charts of each shape. Beside each knee is the time of a sync of a block to the disk of the
# temporary folder (TMPDIR), after the sweep. TEAMTALK names a binary; without it the script builds one.
# It needs MariaDB and Redis, which it starts itself, Linux, and an idle machine.
set -eu
shapes=() sweep=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	shapes+=("$1")
	shift
done
[ ${#shapes[@]} -gt 0 ] || { echo "want five, mysql or embedded" >&2; exit 1; }
if [ $# -gt 1 ]; then
	shift
	sweep=("$@")
else
	sweep=(single --pairs 200 --p99 20ms --from 1000 --to 100000)
fi
out=${OUT:-}
[ -z "$out" ] || { mkdir -p "$out"; out=$(realpath "$out"); }
t=${TEAMTALK:+$(realpath "$TEAMTALK")}
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
pids=() admins=() stores=()
finish() {
	kill -9 "${pids[@]}" "${stores[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP
[ -n "$t" ] || { t=$dir/teamtalk; go build -o "$t" ./cmd/teamtalk; }
export TEAMTALK_LOG_LEVEL=warn
. bench/servers.bash

serve() { # FLAG…
	next
	"$t" serve --admin.listen "127.0.0.1:$port" --msg.rate 0 --msg.ack stored --strangers.rate 0 "$@" >>"$dir/log" 2>&1 &
	pids+=($!)
	admins+=("$port")
}
start() { # SHAPE: starts its servers, and sets addr to the address for clients
	local i p
	pids=() admins=()
	for i in 1 2 3 4 5 6 7; do next; eval "local p$i=127.0.0.1:$port"; done
	addr=$p1
	local public=(--msg.listen "$addr" --file.listen "$p2" --msfs.listen "$p3" --login.client-listen off --login.http-listen "$p4" --http.listen "$p5")
	case $1 in
	embedded) serve --data-dir "$dir/data" "${public[@]}" ;;
	mysql) serve "${store[@]}" --data-dir "$dir/files" "${public[@]}" ;;
	five)
		serve --roles dbproxy "${store[@]}" --dbproxy.listen "$p2"
		serve --roles route --route.listen "$p3"
		serve --roles login --login.server-listen "$p4" --login.client-listen off --login.http-listen "$p5"
		serve --roles file --data-dir "$dir/files" --file.listen "$p6" --file.server-listen "$p7" --file.route "$p3" --file.dbproxy "$p2"
		serve --roles msg --msg.listen "$addr" --msg.dbproxy "$p2" --msg.route "$p3" --msg.login "$p4" --msg.file "$p7"
		;;
	*) echo "$1 is no shape: want five, mysql or embedded" >&2; exit 1 ;;
	esac
	ready
}

knees=()
for shape in "${shapes[@]}"; do
	rm -rf "$dir/db" "$dir/data"
	store=(--data-dir "$dir/data") stores=()
	if [ "$shape" != embedded ]; then
		databases
		stores=("$mariadb" "$cache")
		"$t" migrate --mysql.master "root@tcp($mysql)/teamtalk" >/dev/null
	fi
	"$t" user add --count 20000 --format u%05d --password pw "${store[@]}" >/dev/null 2>&1
	start "$shape"
	keep=()
	[ -z "$out" ] || keep=(--json "$out/$shape.json" --html "$out/$shape.html")
	echo "== $shape"
	"$t" bench sweep "${sweep[@]}" --addr "$addr" "${keep[@]}" 2>/dev/null | tee "$dir/curve"
	sync=$( { dd if=/dev/zero of="$dir/block" bs=4k count=50 oflag=dsync 2>&1 || true; } | awk -F, '/copied/ { printf "%.2f", $(NF - 1) * 1000 / 50 }')
	knees+=("| $shape | $(sed -n 's/^Knee: //p' "$dir/curve") | $sync |")
	kill "${pids[@]}" "${stores[@]}"
	wait "${pids[@]}" "${stores[@]}" 2>/dev/null || true
	pids=() stores=()
done
echo
printf '| shape | knee | disk sync, ms |\n|---|---|---|\n'
printf '%s\n' "${knees[@]}"
