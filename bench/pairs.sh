#!/bin/bash
# Compares two builds in one run, in pairs: starts each in turn on databases of its own, measures the
# same scenario, and prints medians with their spread, new divided by old.
#
#	bench/pairs.sh OLD NEW five                                      # five processes, MariaDB and Redis
#	bench/pairs.sh OLD NEW mysql single --pairs 200 --rate 12500     # one process, MariaDB and Redis
#	bench/pairs.sh OLD NEW embedded single --pairs 1 --window 1      # one process, the embedded store
#
# OLD and NEW are binaries. The default scenario is single --pairs 200 --rate 400. RUNS is the number
# of runs of each build (3), DURATION the time of a run (10s). The processor time is that of each
# server and database while the scenario counts, divided by the texts acked in that time. Switches are
# voluntary switches of threads for each text, those of the logins before included. The last column is the time of a sync
# of a block to the disk of the temporary folder (TMPDIR), right after the run. With KEEP=FOLDER the
# results of all runs are kept there, in old and new, and "NEW bench compare FOLDER/old FOLDER/new"
# follows, which tells a difference from chance with four runs and more.
#
# The script needs MariaDB and Redis, which it starts itself, jq, and Linux. Ratios hold on a
# machine that does other work too, times do not.
set -eu
here=$(realpath "$(dirname "$0")")
old=$(realpath "${1:?want OLD NEW SHAPE}") new=$(realpath "${2:?want NEW}") shape=${3:?want five, mysql or embedded}
shift 3
[ $# -gt 0 ] || set -- single --pairs 200 --rate 400
runs=${RUNS:-3} duration=${DURATION:-10s} keep=${KEEP:-}
if [ -n "$keep" ]; then
	mkdir -p "$keep/old" "$keep/new"
	keep=$(realpath "$keep")
fi
# Each run has users of its own. Clients number their messages from 1 again, so those of a run shortly
# before would have to be told apart from repeats.
pairs=200 flag=
for word in "$@"; do
	[ "$flag" != --pairs ] || pairs=$word
	flag=$word
done
users=$((2 * pairs * runs))
dir=$(mktemp -d)
cd "$dir" # for folders of older builds
databases=()
servers=() names=()
. "$here/servers.bash"
export TEAMTALK_LOG_LEVEL=warn
finish() {
	[ ${#servers[@]} -eq 0 ] || kill -9 "${servers[@]}" 2>/dev/null || true
	[ ${#databases[@]} -eq 0 ] || kill -9 "${databases[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

database() { # BUILD: starts the databases of a build, and makes its users
	local t=${!1}
	if [ "$shape" = embedded ]; then
		"$t" user add --count "$users" --format u%05d --password pw --data-dir "$dir/$1.data" >/dev/null 2>&1
		return
	fi
	next
	local sql=$port
	next
	local redis=$port
	mkdir "$dir/$1.db"
	mariadb-install-db --no-defaults --datadir="$dir/$1.db" --auth-root-authentication-method=normal --skip-test-db >/dev/null 2>&1
	mariadbd --no-defaults --user=root --datadir="$dir/$1.db" --socket="$dir/$1.sock" --bind-address=127.0.0.1 \
		--port="$sql" >"$dir/$1.mariadb.log" 2>&1 &
	eval "$1_mariadb=$!"
	databases+=($!)
	redis-server --port "$redis" --save '' --dir "$dir" >"$dir/$1.redis.log" 2>&1 &
	eval "$1_redis=$!"
	databases+=($!)
	until mariadb --no-defaults --socket="$dir/$1.sock" -u root -e 'create database if not exists teamtalk' 2>/dev/null; do sleep 0.2; done
	eval "$1_store=(--store mysql --mysql.master 'root@tcp(127.0.0.1:$sql)/teamtalk' --redis.addrs 127.0.0.1:$redis)"
	local store="$1_store[@]"
	"$t" migrate --mysql.master "root@tcp(127.0.0.1:$sql)/teamtalk" >/dev/null
	"$t" user add --count "$users" --format u%05d --password pw "${!store}" >/dev/null 2>&1
}
serve() { # NAME FLAG…
	local name=$1
	shift
	next
	"$t" serve --admin.listen "127.0.0.1:$port" --msg.rate 0 --msg.ack stored "${extra[@]}" "$@" >>"$dir/$name.log" 2>&1 &
	servers+=($!)
	names+=("$name")
	admins+=("$port")
}
take() { # prints for each process: name, voluntary switches
	local i
	for i in "${!servers[@]}"; do
		echo "${names[i]}" "$(cat /proc/"${servers[i]}"/task/*/status 2>/dev/null | awk '/^voluntary/ { n += $2 } END { print n }')"
	done
}
start() { # BUILD: starts its servers and waits until they are ready
	t=${!1} servers=() names=() admins=() extra=()
	local store="$1_store[@]"
	# Older builds do not have the setting.
	if "$t" serve --help | grep -q -- --strangers.rate; then extra=(--strangers.rate 0); fi
	if [ "$shape" = embedded ]; then launch "$shape" --data-dir "$dir/$1.data"; else launch "$shape" "${!store}"; fi
	pids=("${servers[@]}")
	ready
}
measure() { # BUILD SCENARIO FLAG…: appends the values of a run to a file
	local build=$1 stopped=("${servers[@]}") db sync n i watch=()
	shift
	if [ "$shape" != embedded ]; then
		db=${build}_mariadb
		servers+=("${!db}") names+=(mariadb)
		db=${build}_redis
		servers+=("${!db}") names+=(redis)
	fi
	for i in "${!servers[@]}"; do watch+=(--watch "${names[i]}=${servers[i]}"); done
	take >"$dir/before"
	"$new" bench "$1" --first $((2 * pairs * (run - 1) + 1)) --warmup 5s --duration "$duration" --addr "$addr" --json "$dir/result.json" "${watch[@]}" "${@:2}" >/dev/null 2>"$dir/err" ||
		{ [ -s "$dir/result.json" ] || { cat "$dir/err" >&2; exit 1; }; }
	take >"$dir/after"
	[ -z "$keep" ] || cp "$dir/result.json" "$keep/$build/$run.json"
	sync=$(synctime)
	n=$(jq '.totals.acked' "$dir/result.json")
	{
		paste -d' ' "$dir/before" "$dir/after" | awk -v n="$n" '{ s = ($4 - $2) / n; all += s; print "switches." $1, s }
			END { print "switches.all", all }'
		jq -r '[.seconds, .totals.acked] as [$s, $n] | [.processes[] | select(.name | IN("generator", "machine", "all watched") | not) |
			{name, us: (.cpu * $s * 1e6 / $n)}] | (.[] | "cpu." + .name, .us), "cpu.all", ([.[].us] | add)' "$dir/result.json" | paste -d' ' - -
		jq -r '"acked", .totals.acked / .seconds, "p50", .latencies.ack.p50, "p99", .latencies.ack.p99,
			"errors", ([.checks | to_entries[] | select(.key != "behind") | .value] | add)' "$dir/result.json" | paste -d' ' - -
		echo "sync $sync"
	} >>"$dir/$build.values"
	kill "${stopped[@]}"
	wait "${stopped[@]}" 2>/dev/null || true
	servers=()
}

database old
database new
for run in $(seq "$runs"); do
	order="old new"
	[ $((run % 2)) -eq 1 ] || order="new old"
	for build in $order; do
		start "$build"
		measure "$build" "$@"
	done
done

echo "$shape: bench $* --duration $duration, $runs runs of each build in turn"
echo
echo "| what | old: median (spread) | new: median (spread) | new / old |"
echo "|---|---|---|---|"
summary() { # BUILD: name, median, lowest, highest
	sort -k1,1 -k2,2g "$dir/$1.values" | awk 'function out() { m = c % 2 ? v[(c + 1) / 2] : (v[c / 2] + v[c / 2 + 1]) / 2; print k, m, v[1], v[c] }
		$1 != k { if (c) out(); k = $1; c = 0 } { v[++c] = $2 } END { out() }'
}
join <(summary old) <(summary new) | awk '
	function label(k) {
		if (sub(/^cpu\./, "", k)) return "µs of " k " a text"
		if (sub(/^switches\./, "", k)) return "switches of " k " a text"
		if (k == "acked") return "texts acked a second"
		if (k == "sync") return "disk sync, ms"
		return k == "errors" ? k : k " of acks, ms"
	}
	{ printf "| %s | %.4g (%.4g–%.4g) | %.4g (%.4g–%.4g) | %s |\n", label($1), $2, $3, $4, $5, $6, $7, $2 ? sprintf("%.2f", $5 / $2) : "–" }'
[ -z "$keep" ] || {
	echo
	"$new" bench compare "$keep/old" "$keep/new" --markdown
}
