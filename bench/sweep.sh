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
. bench/servers.bash
prepare
knees=()
for shape in "${shapes[@]}"; do
	pids=() admins=()
	populate "$shape" 20000
	launch "$shape" "${store[@]}"
	ready
	keep=()
	[ -z "$out" ] || keep=(--json "$out/$shape.json" --html "$out/$shape.html")
	echo "== $shape"
	"$t" bench sweep "${sweep[@]}" --addr "$addr" "${keep[@]}" 2>/dev/null | tee "$dir/curve"
	sync=$(synctime)
	knees+=("| $shape | $(sed -n 's/^Knee: //p' "$dir/curve") | $sync |")
	kill "${pids[@]}" "${stores[@]}"
	wait "${pids[@]}" "${stores[@]}" 2>/dev/null || true
	pids=() stores=()
done
echo
printf '| shape | knee | disk sync, ms |\n|---|---|---|\n'
printf '%s\n' "${knees[@]}"
