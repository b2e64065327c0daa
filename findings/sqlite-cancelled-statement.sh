#!/bin/sh
# modernc.org/sqlite: a cancelled write ends its transaction, and the sql.Tx continues without
# one.
#
# Versions: Go 1.26.8, modernc.org/sqlite v1.61.1 (SQLite 3.54.1).
# Situation: a transaction of context.Background() inserts a row, then runs one slow statement
#   under a time limit of its own. The limit passes. The caller sees the error, inserts another
#   row in the same sql.Tx and then calls Rollback or Commit.
# Expected: the statement alone is undone. Rollback leaves the table empty, Commit stores both
#   rows. Or the sql.Tx refuses all further statements, as after the context of BeginTx ended.
#   A slow SELECT indeed harms nothing: see the first line of the output.
# Seen: when the slow statement is a write, SQLite rolls the whole transaction back. The next
#   statement of the sql.Tx returns no error and commits at once: another connection sees its
#   row before the end of the transaction. Rollback does not undo it, Commit does not bring the
#   first row back, and both return an error only then.
# Way out: after an error of a context inside a transaction call Rollback and nothing else, or
#   give the statements of a transaction no context that can end.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='SQLite 3.54.1
slow SELECT: context deadline exceeded; next INSERT: <nil>; seen outside: []
  Rollback: <nil>; rows: []
slow INSERT: context deadline exceeded; next INSERT: <nil>; seen outside: [second]
  Rollback: SQL logic error: cannot rollback - no transaction is active (1); rows: [second]
slow INSERT: context deadline exceeded; next INSERT: <nil>; seen outside: [second]
  Commit: SQL logic error: cannot commit - no transaction is active (1); rows: [second]'

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
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"
)

// count is a query that would run for minutes and returns one row.
const count = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000000000)
	SELECT count(*) FROM n`

// rows returns the names in table t, read on a connection outside of the transaction.
func rows(db *sql.DB) []string {
	r, err := db.Query("SELECT name FROM t ORDER BY name")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	names := []string{}
	for r.Next() {
		var name string
		if err := r.Scan(&name); err != nil {
			log.Fatal(err)
		}
		names = append(names, name)
	}
	if err := r.Err(); err != nil {
		log.Fatal(err)
	}
	return names
}

// try runs a transaction whose second statement is slow and reaches its time limit.
func try(file, kind, slow, end string) {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE t (name)"); err != nil {
		log.Fatal(err)
	}
	tx, err := db.Begin()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tx.Exec("INSERT INTO t VALUES ('first')"); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if kind == "SELECT" {
		var n int
		err = tx.QueryRowContext(ctx, slow).Scan(&n)
	} else {
		_, err = tx.ExecContext(ctx, slow)
	}
	_, next := tx.Exec("INSERT INTO t VALUES ('second')")
	fmt.Printf("slow %s: %v; next INSERT: %v; seen outside: %v\n", kind, err, next, rows(db))
	finish := tx.Rollback
	if end == "Commit" {
		finish = tx.Commit
	}
	err = finish()
	fmt.Printf("  %s: %v; rows: %v\n", end, err, rows(db))
}

func main() {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	var version string
	if err := db.QueryRow("SELECT sqlite_version()").Scan(&version); err != nil {
		log.Fatal(err)
	}
	fmt.Println("SQLite", version)
	try(filepath.Join(os.Args[1], "1.db"), "SELECT", count, "Rollback")
	try(filepath.Join(os.Args[1], "2.db"), "INSERT", "INSERT INTO t "+count, "Rollback")
	try(filepath.Join(os.Args[1], "3.db"), "INSERT", "INSERT INTO t "+count, "Commit")
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m modernc.org/sqlite)"
seen=$(timeout 60 ./prog "$tmp" 2>&1) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
