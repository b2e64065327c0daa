#!/bin/sh
# modernc.org/sqlite: a commit calls fsync, where the SQLite of Debian calls fdatasync.
#
# Versions: Go 1.26.8, modernc.org/sqlite v1.61.1 (SQLite 3.54.1), Debian 12 with sqlite3 3.40.1,
#   strace 6.1.
# Situation: 100 transactions of one row each, with journal_mode=WAL and synchronous=FULL, on
#   Linux. strace counts the synchronising calls for the write-ahead log.
# Expected: both call fdatasync. modernc.org/sqlite is SQLite's C source, translated, and SQLite's
#   documentation names fdatasync for unix. The log has reached its size after a while, so fdatasync
#   has to write its data only.
# Seen: modernc.org/sqlite calls fsync for each commit. The source takes fdatasync only where it is
#   compiled with HAVE_FDATASYNC, which SQLite's configure script sets and the translation does not.
#   fsync also writes the time of change of the file, which each commit a few milliseconds after the
#   last one has changed. On ext4 with a journal that is a commit of the journal: 3 writes and 2
#   flushes of the device for a written page, where fdatasync takes 2 and 1 (counted in
#   /sys/block/DEVICE/stat of a loop device, a page each 6 ms; 1.3 ms and 0.85 ms each).
# Way out: compare durable commits of the two only with the calls in mind. Fewer, larger
#   transactions pay for fewer of them.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='modernc.org/sqlite, SQLite 3.54.1: at least 100 fsync of the log, 0 fdatasync
Debian, SQLite 3.40.1: 0 fsync of the log, at least 100 fdatasync'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
for program in sqlite3 strace; do
	command -v $program >/dev/null || { echo "needs $program" >&2; exit 2; }
done
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'EOF'
module finding

go 1.26

require modernc.org/sqlite v1.61.1
EOF

# Runs the statements of a file, one after the other on one connection, and prints the version.
cat >main.go <<'EOF'
package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"log"
	"os"

	_ "modernc.org/sqlite"
)

func main() {
	db, err := sql.Open("sqlite", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	f, err := os.Open(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if _, err := db.Exec(lines.Text()); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
	var version string
	if err := db.QueryRow("SELECT sqlite_version()").Scan(&version); err != nil {
		log.Fatal(err)
	}
	fmt.Println("SQLite", version)
}
EOF

{
	echo "PRAGMA journal_mode = WAL;"
	echo "PRAGMA synchronous = FULL;"
	echo "CREATE TABLE a (v);"
	for i in $(seq 100); do
		echo "INSERT INTO a VALUES ($i);"
	done
} >statements

go build -o prog . || { echo "cannot build" >&2; exit 2; }

# counted prints the version that a program has printed, and how it has synchronised the log.
counted() { # NAME TRACE VERSION
	for call in fsync fdatasync; do
		n=$(grep -c " $call(.*-wal>" "$2" || true)
		[ "$n" -lt 100 ] || n="at least 100"
		eval "$call=\$n"
	done
	# shellcheck disable=SC2154 # eval has set them
	echo "$1, $3: $fsync fsync of the log, $fdatasync fdatasync"
}
traced="strace -f -y -e trace=fsync,fdatasync -o"
version=$($traced go.trace timeout 60 ./prog "$tmp/a.db" statements)
seen=$(counted modernc.org/sqlite go.trace "$version")
echo "SELECT 'SQLite ' || sqlite_version();" >>statements
version=$($traced c.trace timeout 60 sqlite3 -batch "$tmp/b.db" <statements | tail -n 1)
seen="$seen
$(counted Debian c.trace "$version")"

printf '\nThis run: %s, %s, %s\n%s\n' "$(go version)" "$(go list -m modernc.org/sqlite)" \
	"$(sqlite3 --version | cut -d ' ' -f 1)" "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
