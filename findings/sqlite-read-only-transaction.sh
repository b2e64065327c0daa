#!/bin/sh
# modernc.org/sqlite: a transaction of BeginTx with ReadOnly writes and commits.
#
# Versions: Go 1.26.8, modernc.org/sqlite v1.61.1 (SQLite 3.54.1).
# Situation: a store runs its lists and reports in transactions with sql.TxOptions{ReadOnly: true},
#   so that a mistake in their statements harms nothing. The drivers of MySQL and PostgreSQL then begin
#   a transaction in which the server refuses writes.
# Expected: the write fails, or else BeginTx does. The interface driver.ConnBeginTx wants that the driver
#   "either set the read-only transaction property if supported or return an error if it is not
#   supported", and SQLite has PRAGMA query_only.
# Seen: BeginTx, INSERT and Commit return no error, and the row is stored. ReadOnly has only one effect,
#   which the driver's text on _txlock does not mention: with _txlock=immediate this one
#   transaction begins deferred. It then does not wait for a writer, and its own write fails at once,
#   without busy_timeout, when another connection has written since its first SELECT.
# Way out: a second sql.DB with _query_only=1 for all that only reads.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='SQLite 3.54.1
ReadOnly: begin <nil>, insert <nil>, commit <nil>, stored yes
ReadOnly, _txlock=immediate: begin <nil>, insert <nil>, commit <nil>, stored yes
ReadOnly, _query_only=1: begin <nil>, insert attempt to write a readonly database (8), commit <nil>, stored no
_txlock=immediate, beside a writer: begin database is locked (5) (SQLITE_BUSY)
ReadOnly, _txlock=immediate, the same: begin <nil>, insert database is locked (517)'

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

	_ "modernc.org/sqlite"
)

var (
	ctx      = context.Background()
	file     = filepath.Join(os.Args[1], "a.db")
	readOnly = &sql.TxOptions{ReadOnly: true}
)

func open(options string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(wal)&"+options)
	if err != nil {
		log.Fatal(err)
	}
	return db
}

func must(db interface {
	Exec(string, ...any) (sql.Result, error)
}, statement string) {
	if _, err := db.Exec(statement); err != nil {
		log.Fatal(err)
	}
}

func query[T any](db interface {
	QueryRow(string, ...any) *sql.Row
}, statement string) (v T) {
	if err := db.QueryRow(statement).Scan(&v); err != nil {
		log.Fatal(err)
	}
	return v
}

// write inserts a row in a read-only transaction.
func write(admin *sql.DB, name, options string) {
	must(admin, "DELETE FROM t")
	db := open(options)
	defer db.Close()
	tx, begin := db.BeginTx(ctx, readOnly)
	if begin != nil {
		fmt.Printf("%s: begin %v\n", name, begin)
		return
	}
	_, insert := tx.Exec("INSERT INTO t VALUES (1)")
	commit := tx.Commit()
	stored := "no"
	if query[int](admin, "SELECT count(*) FROM t") == 1 {
		stored = "yes"
	}
	fmt.Printf("%s: begin %v, insert %v, commit %v, stored %s\n", name, begin, insert, commit, stored)
}

// compete begins a transaction while another connection writes, and writes after it.
func compete(admin *sql.DB, name string, o *sql.TxOptions) {
	db := open("_txlock=immediate&_busy_timeout=100")
	defer db.Close()
	query[int](db, "SELECT count(*) FROM t") // connects
	other, err := admin.Begin()
	if err != nil {
		log.Fatal(err)
	}
	must(other, "INSERT INTO t VALUES (2)")
	tx, begin := db.BeginTx(ctx, o)
	if begin != nil {
		other.Rollback()
		fmt.Printf("%s: begin %v\n", name, begin)
		return
	}
	query[int](tx, "SELECT count(*) FROM t")
	if err := other.Commit(); err != nil {
		log.Fatal(err)
	}
	_, insert := tx.Exec("INSERT INTO t VALUES (3)")
	tx.Rollback()
	fmt.Printf("%s: begin %v, insert %v\n", name, begin, insert)
}

func main() {
	admin := open("")
	defer admin.Close()
	must(admin, "CREATE TABLE t (a)")
	fmt.Println("SQLite", query[string](admin, "SELECT sqlite_version()"))
	write(admin, "ReadOnly", "")
	write(admin, "ReadOnly, _txlock=immediate", "_txlock=immediate")
	write(admin, "ReadOnly, _query_only=1", "_query_only=1")
	compete(admin, "_txlock=immediate, beside a writer", nil)
	compete(admin, "ReadOnly, _txlock=immediate, the same", readOnly)
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m modernc.org/sqlite)"
seen=$(timeout 60 ./prog "$tmp" 2>&1) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
