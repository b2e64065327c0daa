package schema

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
)

// Finalize resolves the duplicates that C++ servers left, and adds the unique keys. No
// message is lost, and rows that are kept keep their primary keys. SCHEMA.md describes
// the result for each kind of duplicate. Each pair, conversation and session is one
// transaction. A run that is killed has resolved some of them completely, and the next
// run continues.
//
// Finalize refuses, with an error of kind Denied, when it is not safe: while other
// connections use the database (unless o.Force), on a replica, with migrations pending,
// or with tables without transactions. Nothing else may use db in the meantime. Finalize
// closes its idle connections.
func Finalize(ctx context.Context, db *sql.DB, o Options) error {
	db.SetMaxIdleConns(0) // our own idle connections would count as other users of the database
	return locked(ctx, db, o, (*run).finalize)
}

// rounds bounds how often finalize starts again because a new duplicate was stored after
// its kind was resolved and before the key was added.
const rounds = 3

// finalize resolves the duplicates in the order of their dependencies: merging relations
// moves messages, so it precedes the message ids.
func (r *run) finalize(ctx context.Context) error {
	if err := r.safe(ctx); err != nil {
		return err
	}
	for round := 1; ; round++ {
		err := r.resolve(ctx)
		if err == nil {
			err = r.apply(ctx, finalSteps())
		}
		if err == nil {
			r.say("finalized")
			return nil
		}
		if !isMySQL(err, 1062) || round == rounds {
			return err
		}
		r.say("new duplicates were stored in the meantime: start again")
	}
}

// resolve resolves every kind of duplicate that has no unique key yet.
func (r *run) resolve(ctx context.Context) error {
	keys, err := r.existing(ctx, finalSteps()...)
	if err != nil {
		return err
	}
	for _, st := range finalSteps() {
		if keys.has(st) {
			continue
		}
		switch {
		case st.table == "IMRelationShip":
			err = r.mergeRelations(ctx)
		case st.table == "IMRecentSession":
			err = r.mergeSessions(ctx)
		default:
			err = r.splitMessageIDs(ctx, st.table)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// safe returns an error when Finalize could lose data.
func (r *run) safe(ctx context.Context) error {
	state, err := r.status(ctx)
	if err != nil {
		return err
	}
	if len(state.Pending) > 0 {
		return im.Errorf(im.Denied, "migrations are pending (%s): run migrate first",
			strings.Join(state.Pending, ", "))
	}
	var table, engine string
	err = r.conn.QueryRowContext(ctx, `SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES
		WHERE TABLE_SCHEMA=DATABASE() AND TABLE_TYPE='BASE TABLE' AND TABLE_NAME LIKE 'IM%'
		AND ENGINE<>'InnoDB' LIMIT 1`).Scan(&table, &engine)
	if err == nil {
		return im.Errorf(im.Denied,
			"table %s uses %s, which has no transactions: convert it to InnoDB first",
			table, engine)
	}
	if err != sql.ErrNoRows {
		return fmt.Errorf("read the tables' engines: %w", err)
	}
	if r.o.Force {
		return nil
	}
	return r.alone(ctx)
}

// alone returns an error while other connections use the database: a running db_proxy
// would continue with its cached ids. It waits a moment for connections that are being
// closed. (Seeing connections of other MySQL users needs the PROCESS privilege.)
func (r *run) alone(ctx context.Context) error {
	for try := 1; ; try++ {
		var n int
		var example sql.NullString
		err := r.conn.QueryRowContext(ctx, `SELECT COUNT(*), MIN(CONCAT(USER, ' from ', HOST))
			FROM information_schema.PROCESSLIST
			WHERE DB=DATABASE() AND ID<>CONNECTION_ID()`).Scan(&n, &example)
		if err != nil {
			return fmt.Errorf("list connections: %w", err)
		}
		if n == 0 {
			return nil
		}
		if try == 20 {
			return im.Errorf(im.Denied,
				"%d other connections use this database (%s): stop every db_proxy first", n,
				example.String)
		}
		if err := backoff.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// pairsOf returns the rows of a query with up to three numbers each.
func (r *run) pairsOf(ctx context.Context, query string) ([][3]uint32, error) {
	rows, err := r.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list [][3]uint32
	for rows.Next() {
		var v [3]uint32
		if err := rows.Scan(&v[0], &v[1], &v[2]); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// inTx runs do in a transaction, and again after a deadlock.
func (r *run) inTx(ctx context.Context, do func(tx *sql.Tx) error) error {
	for try := 1; ; try++ {
		tx, err := r.conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err = do(tx); err == nil {
			return tx.Commit()
		}
		tx.Rollback()
		if !isMySQL(err, 1205, 1213) || try == lockTries {
			return err
		}
	}
}

// mergeSessions leaves one session row for each side: the one that was updated last. It
// is listed if any of them was, so that no user's list loses an entry, and gets the
// oldest creation time.
func (r *run) mergeSessions(ctx context.Context) error {
	list, err := r.pairsOf(ctx, `SELECT userId, peerId, type FROM IMRecentSession
		WHERE type IS NOT NULL
		GROUP BY userId, peerId, type HAVING COUNT(*)>1 ORDER BY userId, peerId, type`)
	if err != nil {
		return fmt.Errorf("look for duplicate sessions: %w", err)
	}
	for _, k := range list {
		err := r.inTx(ctx, func(tx *sql.Tx) error {
			const side = " FROM IMRecentSession WHERE userId=? AND peerId=? AND type=?"
			var keep, status, created uint32
			err := tx.QueryRowContext(ctx, "SELECT id"+side+
				" ORDER BY updated DESC, id DESC LIMIT 1 FOR UPDATE", k[0], k[1], k[2]).Scan(&keep)
			if err != nil {
				return err
			}
			err = tx.QueryRowContext(ctx, "SELECT COALESCE(MIN(status), 0), MIN(created)"+side,
				k[0], k[1], k[2]).Scan(&status, &created)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "DELETE"+side+" AND id<>?", k[0], k[1], k[2],
				keep); err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx,
				"UPDATE IMRecentSession SET status=?, created=? WHERE id=?", status, created, keep)
			return err
		})
		if err != nil {
			return fmt.Errorf("merge sessions of user %d with %d (type %d): %w", k[0], k[1], k[2],
				err)
		}
		r.say("session of user %d with %d (type %d): merged", k[0], k[1], k[2])
	}
	return nil
}
