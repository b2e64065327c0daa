#!/bin/sh
# InnoDB: a full-text search for a word with a hyphen finds the rows that do not have this word.
#
# Versions: MariaDB 10.11.19 of Debian 12.
# Situation: messages have a FULLTEXT index. A user looks for "server-side", and the server asks with
#   MATCH ... AGAINST ('server-side' IN BOOLEAN MODE), or with + before each word.
# Expected: the hyphen divides the word into "server" and "side", as in the index, and as with
#   Aria and MyISAM. Only a - before a word excludes it: the manual of MySQL speaks of characters
#   "at the beginning or end of words". So the message with "server-side" is found first of all.
# Seen: the second part is excluded, as if the search were 'server -side'. Messages that have
#   "server" alone are found, those with "server-side" are not. Names of files, dates and numbers
#   with hyphens have the same fate.
# Way out: put each word with a hyphen into double quotes, which find both parts side by side.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='InnoDB, server-side: the server is down
Aria, server-side: a server-side error, the server is down, the other side
InnoDB, +server-side +error: nothing
Aria, +server-side +error: a server-side error
InnoDB, report-2026.pdf: the report of carol
Aria, report-2026.pdf: see report-2026.pdf, the report of carol
InnoDB, "server-side": a server-side error
InnoDB, +"server-side" +error: a server-side error
InnoDB, "report-2026.pdf": see report-2026.pdf'

PATH=$PATH:/usr/sbin
for program in mariadbd mariadb mariadb-install-db; do
	command -v $program >/dev/null || { echo "needs $program: Debian 12 with MariaDB" >&2; exit 2; }
done
mariadbd --version | grep -q 10.11.19 || { echo "needs MariaDB 10.11.19" >&2; exit 2; }
tmp=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; wait; rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

ask() { mariadb --no-defaults --socket="$tmp/sock" -u root -N -e "$1"; }
mariadb-install-db --no-defaults --datadir="$tmp/data" --auth-root-authentication-method=normal \
	--skip-test-db >log 2>&1 || { cat log >&2; exit 2; }
mariadbd --no-defaults --user="$(id -un)" --datadir="$tmp/data" --socket="$tmp/sock" --skip-networking \
	>log 2>&1 &
pid=$!
for _ in $(seq 600); do
	ask 'SELECT 1' >/dev/null 2>&1 && break
	sleep 0.1
done
ask 'SELECT 1' >/dev/null 2>&1 || { cat log >&2; exit 2; }

ask 'CREATE DATABASE d'
for engine in InnoDB Aria; do
	ask "CREATE TABLE d.$engine (id INT PRIMARY KEY, text VARCHAR(100), FULLTEXT (text)) ENGINE=$engine;
		INSERT INTO d.$engine VALUES (1, 'a server-side error'), (2, 'the server is down'),
			(3, 'the other side'), (4, 'see report-2026.pdf'), (5, 'the report of carol')"
done
find() { # ENGINE WORDS: prints the messages that have the words
	printf '%s, %s: %s\n' "$1" "$2" "$(ask "SELECT IFNULL(GROUP_CONCAT(text ORDER BY id SEPARATOR ', '), 'nothing')
		FROM d.$1 WHERE MATCH (text) AGAINST ('$2' IN BOOLEAN MODE)")"
}
got=$(
	for words in server-side '+server-side +error' report-2026.pdf; do
		find InnoDB "$words"
		find Aria "$words"
	done
	for words in '"server-side"' '+"server-side" +error' '"report-2026.pdf"'; do
		find InnoDB "$words"
	done
)
printf '\nThis run: %s\n%s\n' "$(mariadbd --version)" "$got"
[ "$got" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
