#!/bin/sh
# MariaDB's Spider engine: an aggregate with GROUP BY over no rows answers with a row of NULL.
#
# Versions: MariaDB 10.11.19 of Debian 12, mariadb-plugin-spider 1:10.11.19-0+deb12u1.
# Situation: a table of messages is a Spider table on one MariaDB, its rows are on another one. A query
#   asks for the highest number of each of some conversations, of which none has a message.
# Expected: no row, as InnoDB answers, and as Spider answers itself when one of the conversations has
#   a message.
# Seen: one row, with 0 in the column of the group and NULL as the maximum. COUNT(*) gives a row with
#   0. A program that reads the maximum into a number gets an error for new conversations only.
# Way out: filter with HAVING MAX(n) IS NOT NULL.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='innodb, none: ""
spider, none: "0 NULL"
spider, none, count: "0 0"
spider, none, having: ""
spider, one of two: "7 3"'

PATH=$PATH:/usr/sbin
for program in mariadbd mariadb mariadb-install-db apt-get dpkg-deb; do
	command -v $program >/dev/null || { echo "needs $program: Debian 12 with MariaDB" >&2; exit 2; }
done
tmp=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null; wait; rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

apt-get download -qq mariadb-plugin-spider=1:10.11.19-0+deb12u1 >/dev/null 2>&1 ||
	{ echo "mariadb-plugin-spider 10.11.19 cannot be had: try apt-get update" >&2; exit 2; }
dpkg-deb -x mariadb-plugin-spider_*.deb plugin
mariadbd --version | grep -q 10.11.19 || { echo "needs MariaDB 10.11.19" >&2; exit 2; }

start() { # NAME [FLAG…]: starts a server that listens on a socket alone
	name=$1
	shift
	mariadb-install-db --no-defaults --datadir="$tmp/$name" --auth-root-authentication-method=normal \
		--skip-test-db >/dev/null 2>&1
	mariadbd --no-defaults --user="$(id -un)" --datadir="$tmp/$name" --socket="$tmp/$name.sock" --skip-networking \
		"$@" >"$name.log" 2>&1 &
	pids="$pids $!"
	for _ in $(seq 600); do
		mariadb --no-defaults --socket="$tmp/$name.sock" -u root -e 'SELECT 1' >/dev/null 2>&1 && return
		sleep 0.1
	done
	cat "$name.log" >&2
	exit 2
}

ask() { mariadb --no-defaults --socket="$tmp/$1.sock" -u root -N -e "$2" | tr '\t\n' '  ' | sed 's/ *$//'; }

start rows
start front --plugin-dir="$tmp/plugin/usr/lib/mysql/plugin" --plugin-load-add=ha_spider
table='talk INT UNSIGNED NOT NULL, n INT UNSIGNED NOT NULL, PRIMARY KEY (talk, n)'
ask rows "CREATE DATABASE d; CREATE TABLE d.message ($table); INSERT INTO d.message VALUES (7, 1), (7, 3)"
ask front "CREATE DATABASE d; CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (SOCKET '$tmp/rows.sock',
	HOST 'localhost', DATABASE 'd', USER 'root');
	CREATE TABLE d.message ($table) ENGINE=SPIDER COMMENT='wrapper \"mysql\", srv \"s\", table \"message\"'"
query='FROM d.message WHERE talk IN (8) GROUP BY talk'
got=$(
	printf 'innodb, none: "%s"\n' "$(ask rows "SELECT talk, MAX(n) $query")"
	printf 'spider, none: "%s"\n' "$(ask front "SELECT talk, MAX(n) $query")"
	printf 'spider, none, count: "%s"\n' "$(ask front "SELECT talk, COUNT(*) $query")"
	printf 'spider, none, having: "%s"\n' "$(ask front "SELECT talk, MAX(n) $query HAVING MAX(n) IS NOT NULL")"
	printf 'spider, one of two: "%s"\n' "$(ask front "SELECT talk, MAX(n) FROM d.message
		WHERE talk IN (7, 8) GROUP BY talk")"
)
echo
echo "$got"
[ "$got" = "$want" ] || { echo "The behaviour has changed. It was:" >&2; echo "$want" >&2; exit 1; }
