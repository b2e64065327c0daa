#!/bin/sh
# modernc.org/sqlite: a read-only transaction writes.
#
# Versions: Go 1.26.8, modernc.org/sqlite v1.61.1 (SQLite 3.54.1).
# Situation: a store gives the code that makes reports, or runs the queries of administrators, a
#   transaction of BeginTx with TxOptions.ReadOnly. With MySQL the same code gets "Cannot execute
#   statement in a READ ONLY transaction".
# Expected: the write fails, or BeginTx does. The documentation of driver.ConnBeginTx says that a driver
#   "must also check opts.ReadOnly ... to either set the read-only transaction property if supported
#   or return an error if it is not supported".
# Seen: BeginTx, the INSERT and Commit return no error, and the row is stored. ReadOnly has one effect,
#   which the driver's documentation of _txlock does not mention: with _txlock=immediate such a
#   transaction begins deferred. So it does not wait for a writer, and a write in it fails if
#   another connection has written since its first read.
# Way out: a database handle of its own with _query_only=1 or mode=ro for all that only reads.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

