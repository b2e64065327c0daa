#!/bin/bash
# Measures what servers take while nobody uses them, and prints a table: the processor time of each
# process as a part of one core, from the scheduler's counts of all its threads, and how often a
# second one of them was woken.
#
#	bench/idle.sh fresh touched five          # shapes, see below
#	OLD=./teamtalk-before bench/idle.sh five  # the same of another build, alternately
#	CLIENTS=15000 bench/idle.sh clients       # clients that send a heartbeat every 30 s
#
# fresh is one process on the embedded store. touched is the same after each of its ports has had a
# connection. five is login, route, dbproxy, file and msg on MariaDB and Redis. clients is five with
# CLIENTS clients that are logged in; "teamtalk bench idle" says what memory they take. SECONDS_EACH (30)
# is the duration of each measurement, ROUNDS (1) the number of rounds.
#
# The script needs Linux, Go, curl, MariaDB and Redis, which it starts itself in a temporary folder. The
# machine must have no other work: beside it Go's watchdog polls less, and the values are too low.
set -eu
cd "$(dirname "$0")/.."
seconds=${SECONDS_EACH:-30} rounds=${ROUNDS:-1} clients=${CLIENTS:-15000}
dir=$(mktemp -d)
all=()
finish() {
	[ ${#all[@]} -eq 0 ] || kill -9 "${all[@]}" 2>/dev/null || true
	wait 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT
new=${NEW:-$dir/teamtalk}
[ -n "${NEW:-}" ] || go build -o "$new" ./cmd/teamtalk
export TEAMTALK_LOG_LEVEL=warn
. bench/servers.bash

stored() { # USERS: starts the databases once, with so many users
	[ -z "${store:-}" ] || return 0
	databases
	all+=($mariadb $cache)
	"$new" migrate --mysql.master "root@tcp($mysql)/teamtalk" >/dev/null
	[ "$1" = 0 ] || "$new" user add --count "$1" --format u%05d --password pw --password.kdf md5 "${store[@]}" >/dev/null
}
serve() { # BINARY NAME FLAG…: starts a server
	local binary=$1 name=$2
	shift 2
	next
	"$binary" serve --admin.listen "127.0.0.1:$port" --msg.rate 0 --msg.ack stored "$@" >>"$dir/$name.log" 2>&1 &
	pids+=($!) names+=("$name") admins+=($port)
	all+=($!)
}
stop() {
	kill "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null || true
}
counts() { # PID: nanoseconds of all threads, and how often they began to run
	cat "/proc/$1"/task/*/schedstat 2>/dev/null | awk '{ ns += $1; n += $3 } END { printf "%.0f %.0f\n", ns, n }'
}
report() { # BUILD SHAPE: measures the processes
	local i before=() began a b
	for i in "${!pids[@]}"; do before[i]=$(counts "${pids[i]}"); done
	began=$(date +%s%N)
	sleep "$seconds"
	for i in "${!pids[@]}"; do
		a=(${before[i]}) b=($(counts "${pids[i]}"))
		awk -v b="$1" -v s="$2" -v n="${names[i]}" -v ns=$((b[0] - a[0])) -v w=$((b[1] - a[1])) -v t=$(($(date +%s%N) - began)) \
			'BEGIN { printf "| %s | %s | %s | %.3f %% | %.0f |\n", s, n, b, 100 * ns / t, w * 1e9 / t }'
	done
}
one() { # BINARY
	pids=() names=() admins=() ports=()
	local p flags=()
	for p in msg.listen login.client-listen login.http-listen file.listen msfs.listen; do
		next
		ports+=($port)
		flags+=("--$p" "127.0.0.1:$port")
	done
	rm -rf "$dir/data"
	serve "$1" all --data-dir "$dir/data" "${flags[@]}"
	ready
}
touched() {
	local p
	for p in "${ports[@]}"; do
		(exec 3<>"/dev/tcp/127.0.0.1/$p" && sleep 0.2) 2>/dev/null || echo "nothing listens on port $p" >&2
	done
}
five() { # BINARY
	pids=() names=() admins=()
	local route db login file
	next; route=127.0.0.1:$port
	next; db=127.0.0.1:$port
	next; login=127.0.0.1:$port
	next; file=127.0.0.1:$port
	serve "$1" dbproxy --roles dbproxy "${store[@]}" --dbproxy.listen "$db"
	serve "$1" route --roles route --route.listen "$route"
	serve "$1" login --roles login --login.server-listen "$login" --login.client-listen off --login.http-listen off
	serve "$1" file --roles file --data-dir "$dir/files" --file.listen off --file.server-listen "$file" --file.route "$route" --file.dbproxy "$db"
	next; addr=127.0.0.1:$port
	serve "$1" msg --roles msg --msg.listen "$addr" --msg.dbproxy "$db" --msg.route "$route" --msg.login "$login" --msg.file "$file"
	ready
	sleep 5
}

printf '| shape | process | build | of a core | wake-ups a second |\n|---|---|---|---|---|\n'
for ((round = 0; round < rounds; round++)); do
	for shape; do
		for build in ${OLD:+old} new; do
			binary=$new
			[ $build = new ] || binary=$OLD
			case $shape in
			fresh) one "$binary" ;;
			touched) one "$binary"; touched; sleep 5 ;;
			five) stored 0; five "$binary" ;;
			clients)
				stored "$clients"
				five "$binary"
				"$new" bench idle --addr "$addr" --connections "$clients" --settle 5s --hold $((seconds + 30))s >"$dir/clients.log" 2>&1 &
				generator=$!
				all+=($generator)
				until curl -s "http://127.0.0.1:${admins[4]}/metrics" | awk '/^teamtalk_session_open/ { n += $2 } END { exit n < '"$clients"' }'; do
					kill -0 $generator || { cat "$dir/clients.log" >&2; exit 1; }
					sleep 1
				done
				sleep 10
				;;
			*) echo "unknown shape $shape" >&2; exit 1 ;;
			esac
			report $build "$shape"
			[ "$shape" != clients ] || kill $generator
			stop
		done
	done
done
