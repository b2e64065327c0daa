#!/bin/sh
# modernc.org/sqlite: each statement of an Exec starts again with the first argument, and
# arguments without a placeholder are accepted.
#
# Versions: Go 1.26.8, modernc.org/sqlite v1.61.1 (SQLite 3.54.1).
# Situation: one Exec holds two statements with one "?" each and gets two arguments. Another
#   Exec gets an argument too many.
# Expected: the placeholders of the text take the arguments one after the other, so the second
#   statement gets the second argument. An argument too many is an error: database/sql makes
#   that check for drivers that report the number of placeholders.
# Seen: the second statement gets the first argument. The second argument is used by no
#   statement, and no error tells. With one statement, too, an argument too many is dropped
#   without an error, through Prepare as well. Only an argument too few is an error.
# Way out: number the placeholders (?1, ?2), which then count through the whole text, or run one
#   statement per Exec.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='SQLite 3.54.1
two statements with ?, arguments 1 and 2: <nil>; a: [1]; b: [1]
two statements with ?1 and ?2, arguments 1 and 2: <nil>; a: [1]; b: [2]
one statement with ?, arguments 1 and 2: <nil>; a: [1]; b: []
the same through Prepare: <nil>; a: [1]; b: []
one statement with ?, no argument: missing argument with index 1; a: []; b: []'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
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

cat >main.go <<'EOF'
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"
)

// values returns the content of a table.
func values(db *sql.DB, table string) []int {
	r, err := db.Query("SELECT v FROM " + table)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	found := []int{}
	for r.Next() {
		var v int
		if err := r.Scan(&v); err != nil {
			log.Fatal(err)
		}
		found = append(found, v)
	}
	if err := r.Err(); err != nil {
		log.Fatal(err)
	}
	return found
}

func main() {
	db, err := sql.Open("sqlite", filepath.Join(os.Args[1], "a.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE a (v); CREATE TABLE b (v)"); err != nil {
		log.Fatal(err)
	}
	var version string
	if err := db.QueryRow("SELECT sqlite_version()").Scan(&version); err != nil {
		log.Fatal(err)
	}
	fmt.Println("SQLite", version)

	report := func(name string, err error) {
		fmt.Printf("%s: %v; a: %v; b: %v\n", name, err, values(db, "a"), values(db, "b"))
		if _, err := db.Exec("DELETE FROM a; DELETE FROM b"); err != nil {
			log.Fatal(err)
		}
	}
	_, err = db.Exec("INSERT INTO a VALUES (?); INSERT INTO b VALUES (?)", 1, 2)
	report("two statements with ?, arguments 1 and 2", err)
	_, err = db.Exec("INSERT INTO a VALUES (?1); INSERT INTO b VALUES (?2)", 1, 2)
	report("two statements with ?1 and ?2, arguments 1 and 2", err)
	_, err = db.Exec("INSERT INTO a VALUES (?)", 1, 2)
	report("one statement with ?, arguments 1 and 2", err)
	stmt, err := db.Prepare("INSERT INTO a VALUES (?)")
	if err != nil {
		log.Fatal(err)
	}
	_, err = stmt.Exec(1, 2)
	report("the same through Prepare", err)
	_, err = db.Exec("INSERT INTO a VALUES (?)")
	report("one statement with ?, no argument", err)
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m modernc.org/sqlite)"
seen=$(timeout 60 ./prog "$tmp" 2>&1) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
