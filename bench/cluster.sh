#!/bin/bash
# Measures what a text, a login with its logout, and a text to a group cost in processor time, with one
# message server and db_proxy and with several, and prints a table. Rates are the same for all, so that
# no queue forms. The time is that of all servers and databases, from /proc, in µs, without what they take
# when nobody is connected, which is the column idle, in ms a second. A second table shows what the processes
# of each kind take of it, with what they take when nobody is connected.
#
#	bench/cluster.sh redis 1 4 8     # message servers that find each other's users in Redis
#	bench/cluster.sh route 1 4 8     # with a route server
#
# The script needs Go, MariaDB and Redis, which it starts itself in a temporary folder, Linux, an idle
# machine, and a limit of open files of 20,000 or more (ulimit -n).
set -eu
cd "$(dirname "$0")/.."
whereabouts=${1:?want redis or route}
shift
rate=${RATE:-400}
duration=${DURATION:-10s}
dir=$(mktemp -d)
all=()
finish() {
	[ ${#all[@]} -eq 0 ] || kill -9 "${all[@]}" 2>/dev/null || true
	wait 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT
go build -o "$dir/teamtalk" ./cmd/teamtalk
t=$dir/teamtalk
export TEAMTALK_LOG_LEVEL=warn
. bench/servers.bash
databases
all+=($mariadb $cache)
"$t" migrate --mysql.master "root@tcp($mysql)/teamtalk" >/dev/null
"$t" user add --count 2000 --format u%05d --password pw "${store[@]}" >/dev/null

serve() { # NAME FLAG…: starts a server and waits until it is ready
	local name=$1
	shift
	next
	"$t" serve --admin.listen "127.0.0.1:$port" --registry.enabled --node.name "$name" --redis.addrs "$redis" \
		--msg.whereabouts "$whereabouts" --msg.presence contacts --msg.rate 0 --msg.ack stored --strangers.rate 0 \
		--dbproxy.group-creations 0 --dbproxy.group-adds 0 --dbproxy.group-gains 0 "$@" >>"$dir/$name.log" 2>&1 &
	pids+=($!)
	watch+=(--watch "$name=$!")
	admins+=($port)
}
used() { # the processor time that all servers and databases have used, in µs
	cat $(printf '/proc/%s/stat ' "${pids[@]}" $mariadb $cache) | awk '{ sum += $14 + $15 } END { print sum * 10000 }'
}
measure() { # RATE FLAG…: runs a scenario, and prints the processor time of one operation
	local rate=$1
	shift
	"$t" bench "$@" --rate "$rate" --addr "$addrs" --warmup 3s --duration "$duration" --json "$dir/result.json" "${watch[@]}" \
		--watch "mariadb=$mariadb" --watch "redis=$cache" >"$dir/result" 2>&1 || { cat "$dir/result" >&2; exit 1; }
	awk '$2 ~ /^[0-9]+$/ && $1 != "generator" && /%/ { for (i = 1; i <= NF; i++) if ($i == "%") {
			gsub(",", "", $(i + 1)); sum += $(i + 1); kind = $1; sub(/[0-9]+$/, "", kind); of[kind] += $(i + 1) } }
		END { printf "%d", sum - idle / rate
			for (kind in of) printf "%s %d\n", kind, of[kind] >details }' details="$dir/details" "idle=$idle" "rate=$rate" "$dir/result"
}

kinds=(msg dbproxy route login mariadb redis)
note() { # WHAT: keeps the times of a scenario by kind
	local kind
	printf '| %s | %s |' "$n" "$1" >>"$dir/kinds"
	for kind in "${kinds[@]}"; do
		awk -v kind="$kind" '$1 == kind { n = $2 } END { printf " %d |", n }' "$dir/details" >>"$dir/kinds"
	done
	echo >>"$dir/kinds"
}
printf '| servers | idle | text | login and logout | text to a group of 100 |\n|---|---|---|---|---|\n'
for n; do
	pids=() watch=() admins=() addrs=
	if [ "$whereabouts" = route ]; then
		next
		serve route --roles route --route.listen "127.0.0.1:$port"
	fi
	next
	a=$port
	next
	serve login --roles login --login.server-listen "127.0.0.1:$a" --login.client-listen off --login.http-listen "127.0.0.1:$port"
	for i in $(seq "$n"); do
		next
		serve "dbproxy$i" --roles dbproxy --dbproxy.listen "127.0.0.1:$port" "${store[@]}"
	done
	for i in $(seq "$n"); do
		next
		a=$port
		next
		serve "msg$i" --roles msg --msg.listen "127.0.0.1:$a" --msg.server-listen "127.0.0.1:$port"
		addrs=$addrs${addrs:+,}127.0.0.1:$a
	done
	ready
	sleep 3 # all know all
	before=$(used)
	sleep 10
	idle=$((($(used) - before) / 10))
	text=$(measure "$rate" single --pairs 200)
	note text
	login=$(measure 200 connect --connections 600 --after close --first 1001 --client ios)
	note "login and logout"
	group=$(measure 20 group --groups 4 --members 100)
	note "text to a group of 100"
	printf '| %s | %s | %s | %s | %s |\n' "$n" $((idle / 1000)) "$text" "$login" "$group"
	kill "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null || true
done
printf '\n| servers | of |'
printf ' %s |' "${kinds[@]}"
printf '\n|---|---|---|---|---|---|---|---|\n'
cat "$dir/kinds"
