#!/bin/bash
# Measures what a text costs, and the parts of that which no server of this kind can leave out, each alone
# and at the same rate: a bare gnet process that reads a frame and writes one, and a row stored as durably.
# Prints a table of processor time (µs) and of p50 / p99 (ms), with the sum of the parts.
#
#	bench/limits.sh 400 12500          # texts a second
#
# A text has its frames read five times with five processes (by msg the text, the answer of dbproxy, and
# the receiver's ack; by dbproxy the text; by route the copy for other message servers), and twice in one
# process (the text, and the ack). The sum is that many echoes and a row. It leaves out the work itself,
# the delivery to the receiver, and every hand-over between the threads of a process.
#
# DURATION is the time of each measurement (10s). The last column is the time of a sync of a block to the
# disk of the temporary folder (TMPDIR). TEAMTALK names a binary; without it the script builds one. It needs
# MariaDB and Redis, which it starts itself, jq, Linux, and an idle machine.
set -eu
[ $# -gt 0 ] || { echo "want rates, such as 400 12500" >&2; exit 1; }
t=${TEAMTALK:+$(realpath "$TEAMTALK")}
duration=${DURATION:-10s}
cd "$(dirname "$0")/.."
. bench/servers.bash
prepare
printf '| shape | texts/s | text | echo | row | echoes and row | part of the text | p50 / p99: text | echo | row | sync |\n'
printf '|---|---|---|---|---|---|---|---|---|---|---|\n'
for shape in five embedded; do
	reads=2
	[ "$shape" != five ] || reads=5
	# Each run has users of its own: clients number their messages from 1 again, and would be told apart
	# from repeats.
	populate "$shape" $((400 * $#))
	first=1
	for rate; do
		pids=() admins=()
		launch "$shape" "${store[@]}"
		ready
		"$t" bench single --pairs 200 --rate "$rate" --duration "$duration" --addr "$addr" --first $first \
			--json "$dir/text" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; exit 1; }
		first=$((first + 400))
		kill "${pids[@]}"
		wait "${pids[@]}" 2>/dev/null || true
		"$t" bench ceiling --rate "$rate" --ceiling-duration "$duration" --json "${store[@]}" >"$dir/parts" 2>/dev/null
		sync=$(synctime)
		jq -rs --arg shape "$shape" --arg rate "$rate" --arg sync "$sync" --argjson reads $reads '
			def tenth: . * 10 | round / 10; def times: "\(.p50 | tenth) / \(.p99 | tenth)";
			.[0] as $run | .[1] as [$echo, $row]
			| ([$run.processes[] | select(.pid > 0 and (.generator | not)) | .cpu] | add * $run.seconds * 1e6 / $run.totals.acked) as $text
			| ([$echo.each[]] | add) as $frame | ([$row.each[]] | add) as $stored | ($reads * $frame + $stored) as $sum
			| "| \($shape) | \($rate) | \($text | round) | \($frame | round) | \($stored | round) | \($sum | round) | " +
				"\($sum / $text * 100 | round) % | \($run.latencies.ack | times) | \($echo | times) | \($row | times) | \($sync) |"
			' "$dir/text" "$dir/parts"
	done
	[ ${#stores[@]} -eq 0 ] || { kill "${stores[@]}"; wait "${stores[@]}" 2>/dev/null || true; }
	stores=()
done
