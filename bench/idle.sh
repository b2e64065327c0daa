#!/bin/bash
# Measures what servers take while nobody uses them, and prints a table: the processor time of each
# process as a part of one core, from the scheduler's counts of all its threads, and how often a second
# one of them began to wait.
#
#	bench/idle.sh fresh touched five          # shapes, see below
#	OLD=./teamtalk-before bench/idle.sh five  # the same of another build, alternately
#	CLIENTS=15000 bench/idle.sh clients       # clients that send a heartbeat every 30 s
#
# Each measurement begins SETTLE (25) seconds after the servers are ready, when the collections and the
# connections of the start are over, and lasts SECONDS_EACH (30). ROUNDS (1) is the number of rounds.
#
# fresh is one process on the embedded store. touched is the same after each of its ports has had a
# connection. five is login, route, dbproxy, file and msg on MariaDB and Redis. clients is five with
# CLIENTS clients that are logged in and send a heartbeat every BEAT (30) seconds; it settles for three of
# their heartbeats. "teamtalk bench idle" says what memory they take. WAKERS=1 prints below each row which
# goroutines of a process woke how often a second, from Go's execution tracer, in a second measurement.
#
# The script needs Linux, Go, curl, MariaDB and Redis, which it starts itself in a temporary folder. The
# machine must have no other work: beside it Go's watchdog polls less, and the shares are too low. The
# counts hold on any machine, and so do the ratios of two builds over several rounds.
set -eu
cd "$(dirname "$0")/.."
seconds=${SECONDS_EACH:-30} settle=${SETTLE:-25} rounds=${ROUNDS:-1} clients=${CLIENTS:-15000} beat=${BEAT:-30}
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
	"$binary" serve --admin.listen "127.0.0.1:$port" ${WAKERS:+--admin.pprof} --msg.rate 0 --msg.ack stored "$@" >>"$dir/$name.log" 2>&1 &
	pids+=($!) names+=("$name") admins+=($port)
	all+=($!)
}
stop() {
	kill "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null || true
}
counts() { # PID: nanoseconds of all threads, and how often they began to wait
	cat "/proc/$1"/task/*/schedstat "/proc/$1"/task/*/status 2>/dev/null |
		awk '/^[0-9]/ { ns += $1 } /^voluntary/ { n += $2 } END { printf "%.0f %.0f\n", ns, n }'
}
wakers() { # NAME ADMIN: what woke the process how often a second
	curl -s "http://127.0.0.1:$2/debug/pprof/trace?seconds=$seconds" >"$dir/trace"
	printf '\n%s, a second: goroutines that became ready, and system calls\n\n' "$1"
	# A trace of a process that is loaded may have a gap, and tells of the time before it.
	go tool trace -d=parsed "$dir/trace" 2>/dev/null | awk '
		function name(i, other) { # the first function of a stack that belongs to no part of Go
			for (i = 1; i <= depth; i++) {
				if (stack[i] ~ /^teamtalk\//) return stack[i]
				if (other == "" && stack[i] !~ /^(runtime|time|sync|internal|net|os|syscall|context)[.\/]/) other = stack[i]
			}
			if (other == "") other = stack[depth]
			return other == "" ? "(waited since before the trace)" : other
		}
		function count() {
			if (to == "Waiting") last[id] = name()
			if (from == "Waiting" && to == "Runnable") n[last[id]]++
			if (to == "Syscall") n[name() " (system call)"]++
			from = to = ""
			depth = on = 0
		}
		/^M=/ {
			count()
			match($0, / Time=[0-9]+/)
			at = substr($0, RSTART + 6, RLENGTH - 6)
			if (!began) began = at
			if ($4 == "StateTransition" && $6 ~ /^GoID=/) { id = $6; split($7, t, "->"); from = t[1]; to = t[2] }
		}
		/^(Transition)?Stack=/ { on = 1; depth = 0 }
		on && /^\t[^\t]/ { stack[++depth] = $1 }
		END { count(); for (w in n) if (w !~ /^runtime\.(\(\*)?trace/) printf "    %8.2f  %s\n", n[w] * 1e9 / (at - began), w }' | sort -rn
	echo
}
report() { # BUILD SHAPE: measures the processes
	local i before=() began a b
	for i in "${!pids[@]}"; do before[i]=$(counts "${pids[i]}"); done
	began=$(date +%s%N)
	sleep "$seconds"
	for i in "${!pids[@]}"; do
		a=(${before[i]}) b=($(counts "${pids[i]}"))
		awk -v b="$1" -v s="$2" -v n="${names[i]}" -v ns=$((b[0] - a[0])) -v w=$((b[1] - a[1])) -v t=$(($(date +%s%N) - began)) \
			'BEGIN { printf "| %s | %s | %s | %.3f %% | %.1f |\n", s, n, b, 100 * ns / t, w * 1e9 / t }'
	done
	[ -z "${WAKERS:-}" ] || for i in "${!pids[@]}"; do wakers "${names[i]}" "${admins[i]}"; done
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
}

printf '| shape | process | build | of a core | wake-ups a second |\n|---|---|---|---|---|\n'
for ((round = 0; round < rounds; round++)); do
	for shape; do
		for build in ${OLD:+old} new; do
			binary=$new
			[ $build = new ] || binary=$OLD
			case $shape in
			fresh) one "$binary" ;;
			touched) one "$binary"; touched ;;
			five) stored 0; five "$binary" ;;
			clients)
				stored "$clients"
				five "$binary"
				"$new" bench idle --addr "$addr" --connections "$clients" --settle 5s --heartbeat "${beat}s" --hold 1h >"$dir/clients.log" 2>&1 &
				generator=$!
				all+=($generator)
				until curl -s "http://127.0.0.1:${admins[4]}/metrics" | awk '/^teamtalk_session_open/ { n += $2 } END { exit n < '"$clients"' }'; do
					kill -0 $generator || { cat "$dir/clients.log" >&2; exit 1; }
					sleep 1
				done
				sleep $((3 * beat))
				;;
			*) echo "unknown shape $shape" >&2; exit 1 ;;
			esac
			sleep "$settle"
			report $build "$shape"
			[ "$shape" != clients ] || kill $generator
			stop
		done
	done
done
