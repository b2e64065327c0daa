#!/bin/bash
# Measures what a text, a login with its logout (of a phone, and of a PC with twenty contacts online), and a
# text to a group (on all message servers, and on two of them) cost in processor time, with one
# message server and db_proxy and with several, and prints a table. RATE (texts), LOGINS and GROUP_TEXTS are
# rates a second of all together, so that no queue forms; with EACH=1 of each message server, so that as many
# texts share a batch, a write and a wake-up with several servers as with one. The time is that of all servers and databases, from /proc, in µs, without what they take
# when nobody is connected, which is the column idle, in ms a second. A second table shows what the processes
# of each kind take of it, with what they take when nobody is connected.
#
#	bench/cluster.sh redis 1 4 8     # message servers that find each other's users in Redis
#	bench/cluster.sh route 1 4 8     # with a route server
#	EACH=1 RATE=50 LOGINS=25 GROUP_TEXTS=3 bench/cluster.sh redis 1 8
#
# The script needs Go, MariaDB and Redis, which it starts itself in a temporary folder, Linux, an idle
# machine, and a limit of open files of 20,000 or more (ulimit -n).
set -eu
cd "$(dirname "$0")/.."
whereabouts=${1:?want redis or route}
shift
rate=${RATE:-400} logins=${LOGINS:-200} grouptexts=${GROUP_TEXTS:-20} each=${EACH:-}
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
"$t" user add --count 2000 --format u%05d --password pw "${store[@]}" >/dev/null 2>&1
# Each of the users 1001 to 1600, who log in, has 20 contacts among 401 to 1000, who are online.
mariadb --no-defaults --socket="$dir/sock" -u root teamtalk -e "
	insert into IMRelationShip (smallId, bigId, status, created, updated)
	select 401 + (a.seq + b.seq * 29) % 600, 1001 + a.seq, 0, unix_timestamp(), unix_timestamp()
	from seq_0_to_599 a join seq_1_to_20 b"

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
online() { # logs 600 PCs in, who stay until idlers is killed
	"$t" bench idle --connections 600 --first 401 --client windows --heartbeat 100s --hold 10m --addr "$addrs" \
		>"$dir/idle" 2>&1 &
	idlers=$!
	all+=($idlers)
	until [ "$(for admin in "${admins[@]}"; do curl -s "http://127.0.0.1:$admin/metrics"; done |
		awk '$1 == "teamtalk_msg_clients_online" { sum += $2 } END { print sum + 0 }')" -ge 600 ]; do
		kill -0 "$idlers" 2>/dev/null || { cat "$dir/idle" >&2; exit 1; }
		sleep 0.2
	done
}
printf '| servers | idle | text | phone | PC | group of 100 | the same on two servers |\n|---|---|---|---|---|---|---|\n'
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
	times=${each:+$n}
	times=${times:-1}
	text=$(measure $((rate * times)) single --pairs 200)
	note text
	login=$(measure $((logins * times)) connect --connections 600 --after close --first 1001 --client ios)
	note "login and logout of a phone"
	online
	pc=$(measure $((logins * times)) connect --connections 600 --after close --first 1001 --client windows)
	kill "$idlers" && wait "$idlers" || true
	note "login and logout of a PC"
	group=$(measure $((grouptexts * times)) group --groups 4 --members 100)
	note "text to a group of 100"
	two=$group
	if [ "$n" -gt 2 ]; then
		addrs=$(echo "$addrs" | cut -d, -f1,2)
		two=$(measure $((grouptexts * (times > 2 ? 2 : times))) group --groups 4 --members 100)
		note "the same on two servers"
	fi
	printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$n" $((idle / 1000)) "$text" "$login" "$pc" "$group" "$two"
	kill "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null || true
done
printf '\n| servers | of |'
printf ' %s |' "${kinds[@]}"
printf '\n|---|---|---|---|---|---|---|---|\n'
cat "$dir/kinds"
