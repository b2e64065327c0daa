#!/bin/bash
# Measures the values of PERFORMANCE.md on this machine, and prints its tables.
#
#	bench/measure.sh one embedded                  # one process, the embedded store
#	bench/measure.sh one mysql                     # one process, MariaDB and Redis
#	bench/measure.sh separate mysql                # login, msg, route, dbproxy and file as processes of their own
#
# MYSQL (a DSN) and REDIS (host:port) name the databases. The messages in them are deleted. The
# script needs Go, a limit of open files of 20,000 or more (ulimit -n), an idle machine, and the
# default ports of a deployment.
set -eu
cd "$(dirname "$0")/.."
shape=${1:?want one or separate}
store=${2:?want embedded or mysql}
mysql=${MYSQL:-root@tcp(127.0.0.1:3306)/teamtalk}
redis=${REDIS:-127.0.0.1:6379}
users=20000
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
go build -o "$dir/teamtalk" ./cmd/teamtalk
t=$dir/teamtalk
export TEAMTALK_LOG_LEVEL=warn

if [ "$store" = mysql ]; then
	database=(--store mysql --mysql.master "$mysql" --redis.addrs "$redis")
	"$t" migrate --mysql.master "$mysql" >/dev/null
else
	database=(--data-dir "$dir/data")
fi
"$t" user add --count $users --format u%05d --password pw "${database[@]}" >/dev/null 2>&1 || true # they may exist already

servers=()
serve() {
	"$t" serve "$@" --msg.rate 0 --msg.ack stored >>"$dir/log" 2>&1 &
	servers+=($!)
}
ready() { # PORT…: waits until the admin ports report that the servers are ready
	for port; do
		until [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/readyz")" = 200 ]; do sleep 0.1; done
	done
}
start() {
	if [ "$shape" = one ]; then
		serve "${database[@]}"
		ready 9090
		return
	fi
	serve --roles dbproxy "${database[@]}" --dbproxy.listen 127.0.0.1:10600 --admin.listen 127.0.0.1:9091
	serve --roles route --route.listen 127.0.0.1:8200 --admin.listen 127.0.0.1:9092
	serve --roles login --login.server-listen 127.0.0.1:8100 --admin.listen 127.0.0.1:9093
	serve --roles file --data-dir "$dir/files" --file.server-listen 127.0.0.1:8601 --file.route 127.0.0.1:8200 --file.dbproxy 127.0.0.1:10600 --admin.listen 127.0.0.1:9094
	serve --roles msg --msg.dbproxy 127.0.0.1:10600 --msg.route 127.0.0.1:8200 --msg.login 127.0.0.1:8100 --msg.file 127.0.0.1:8601 --admin.listen 127.0.0.1:9095
	ready 9091 9092 9093 9094 9095
}
stop() {
	kill "${servers[@]}"
	wait "${servers[@]}" || true
	servers=()
}

# row LABEL TOTAL LATENCY ARGUMENT…: runs bench with the arguments and prints a row of the table.
row() {
	local label=$1 total=$2 latency=$3
	shift 3
	"$t" bench "$@" --duration 5s >"$dir/out" 2>/dev/null || true
	awk -v label="$label" -v total="$total" -v latency="$latency" '
		$1 == total && !rate { rate = $2 }
		$1 == latency && !p50 { p50 = $2; p99 = $4; p999 = $5 }
		/^clean/ { verdict = "none" }
		/NOT CLEAN/ { verdict = "**" $0 "**" }
		/memory per connection/ { memory = $0 }
		END { printf "| %s | %s | %s | %s | %s | %s |\n", label, rate, p50, p99, p999, verdict }' "$dir/out"
	last=$(awk -v total="$total" '$1 == total { gsub(",", "", $2); print int($2); exit }' "$dir/out")
}

echo "$shape, $store; $(git describe --always --dirty 2>/dev/null || true); $(date -u +%F)"
echo
echo "| what | a second | p50 ms | p99 ms | p99.9 ms | errors |"
echo "|---|---|---|---|---|---|"
start
row "1 pair, 20/s" acked ack single --pairs 1 --rate 20
row "200 pairs, 400/s" acked ack single --pairs 200 --rate 400
row "200 pairs, 16 in flight each" acked ack single --pairs 200
saturated=$last
row "200 pairs, 12,500/s" acked ack single --pairs 200 --rate 12500
row "200 pairs, half of saturated" acked ack single --pairs 200 --rate $((saturated / 2))
row "200 pairs, Poisson, 12,500/s" acked ack single --pairs 200 --rate 12500 --arrivals poisson
row "group of 200, 150/s: acks" acked ack group --members 200 --senders 50 --rate 150
row "group of 200, 20 senders, 8 in flight each: deliveries" delivered delivery group --members 200 --senders 20 --window 8
row "100 groups of 20, 5,000/s: acks" acked ack group --groups 100 --members 20 --senders 3 --rate 5000
row "logins, phones, 64 at once" logins login connect
row "logins, pcs, 64 at once, 2,000 online" logins login connect --client windows --online 2000
row "a company of 1,000, 500 actions/s: acks" acked ack mixed --population 1000 --groups 20 --members 50 --rate 500
stop
start
"$t" bench idle --connections 17000 --pid "${servers[-1]}" --settle 8s >"$dir/out" 2>/dev/null || true
echo
grep -E '^memory per connection|^still connected|clean|CLEAN' "$dir/out"
stop
start
echo
"$t" bench sweep single --pairs 200 --p99 20ms --from 5000 --to 100000 --duration 4s 2>/dev/null | grep Knee
