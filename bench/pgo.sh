#!/bin/bash
# Makes a profile for the compiler (profile-guided optimization) from the harness: each scenario loads
# servers of each shape, and the processor profiles of all servers are merged.
#
#	bench/pgo.sh /tmp/servers.pgo && go build -pgo=/tmp/servers.pgo -o with ./cmd/teamtalk
#
# The shapes are one process with the embedded store, and five processes with MariaDB and Redis. The
# scenarios are those of most companies: texts at a rate and as fast as possible, a busy group, logins.
# TEAMTALK names a binary; without it the script builds one, without a profile. SECONDS_EACH is the time
# that is profiled of each scenario (20). The script needs MariaDB and Redis, which it starts itself, Linux
# and an idle machine.
set -eu
out=$(realpath "${1:?want the file to write}")
each=${SECONDS_EACH:-20}
t=${TEAMTALK:+$(realpath "$TEAMTALK")}
cd "$(dirname "$0")/.."
. bench/servers.bash
prepare -pgo=off
export TEAMTALK_ADMIN_PPROF=true

profile() { # SCENARIO FLAG…: profiles all servers while a scenario loads them
	local admin taker takers=()
	"$t" bench "$@" --addr "$addr" --warmup 3s --duration $((each + 5))s >"$dir/result" 2>&1 &
	local load=$!
	sleep 5
	for admin in "${admins[@]}"; do
		profiles=$((profiles + 1))
		curl -sf -o "$dir/$profiles.pgo" "http://127.0.0.1:$admin/debug/pprof/profile?seconds=$each" &
		takers+=($!)
	done
	for taker in "${takers[@]}"; do
		wait "$taker" || { echo "no profile of a server" >&2; exit 1; }
	done
	wait "$load" || { cat "$dir/result" >&2; exit 1; }
}
profiles=0
for shape in embedded five; do
	pids=() admins=()
	populate "$shape" 2000
	launch "$shape" "${store[@]}"
	ready
	profile single --pairs 200 --rate 400
	profile single --pairs 200 --rate 8000 --first 401
	profile single --pairs 200 --window 16 --first 801
	profile group --groups 4 --members 100 --rate 200 --first 1201
	profile connect --connections 400 --after close --rate 400 --first 1601
	kill "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null || true
	pids=()
	kill -9 "${stores[@]}" 2>/dev/null || true
done
go tool pprof -proto "$dir"/*.pgo >"$dir/merged"
mv "$dir/merged" "$out"
ls -l "$out"
