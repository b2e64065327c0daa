package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
)

// AdvanceMySQL leaves gaps in the ids of a MySQL database that was restored from a backup, as
// Restore does, for the same reasons. In each conversation and group it takes the id that is gap
// above the highest one with an empty row of status 1, which no client sees: stores raise their
// counters in Redis to the highest id in the table. It returns the number of conversations and
// groups. Running it again leaves more gaps.
//
// The error has kind Invalid when the tables are not migrated, or an id would be too high, and
// Denied while other programs use the database. db must have at most one connection.
func AdvanceMySQL(ctx context.Context, db *sql.DB, gap uint32, now time.Time) (n int64, err error) {
	if err := schema.Alone(ctx, db); err != nil {
		return 0, err
	}
	state, err := schema.Status(ctx, db)
	if err != nil {
		return 0, err
	}
	if len(state.Pending) > 0 {
		return 0, im.Errorf(im.Invalid, "the database is not migrated: run migrate first")
	}
	// DDL commits, so it comes first. A next id that is too high does no harm.
	for _, table := range []string{"IMUser", "IMDepart", "IMRelationShip", "IMGroup", "IMAudio",
		"IMTransmitFile"} {
		if err := skipIDs(ctx, db, table); err != nil {
			return 0, err
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	if n, err = advanceRows(ctx, tx, gap, now.Unix()); err != nil {
		return 0, errors.Join(err, tx.Rollback())
	}
	return n, tx.Commit()
}

// skipIDs leaves out entityGap ids of a table.
func skipIDs(ctx context.Context, db *sql.DB, table string) error {
	var highest int64
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM "+table).
		Scan(&highest); err != nil {
		return err
	}
	// The server keeps a next id that is higher already.
	_, err := db.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT=%d", table,
		highest+entityGap+1))
	return err
}

// advanceRows takes the ids, and marks users, departments and groups as changed.
func advanceRows(ctx context.Context, tx *sql.Tx, gap uint32, now int64) (n int64, err error) {
	queries := []string{
		fmt.Sprintf("UPDATE IMUser SET updated=%d", now),
		fmt.Sprintf("UPDATE IMDepart SET updated=%d", now),
		fmt.Sprintf("UPDATE IMGroup SET version=version+%d, updated=%d", entityGap, now),
	}
	for i := range schema.Tables {
		queries = append(queries,
			fmt.Sprintf("INSERT INTO IMMessage_%d (relateId, fromId, toId, msgId, content, type, "+
				"status, updated, created) SELECT m.relateId, r.smallId, r.bigId, m.last+%d, '', "+
				"1, 1, %d, %[3]d FROM (SELECT relateId, MAX(msgId) AS last FROM IMMessage_%[1]d "+
				"GROUP BY relateId) AS m JOIN IMRelationShip AS r ON r.id=m.relateId", i, gap, now),
			fmt.Sprintf("INSERT INTO IMGroupMessage_%d (groupId, userId, msgId, content, type, "+
				"status, updated, created) SELECT m.groupId, g.creator, m.last+%d, '', 17, 1, %d, "+
				"%[3]d FROM (SELECT groupId, MAX(msgId) AS last FROM IMGroupMessage_%[1]d "+
				"GROUP BY groupId) AS m JOIN IMGroup AS g ON g.id=m.groupId", i, gap, now))
	}
	for i, q := range queries {
		result, err := tx.ExecContext(ctx, q)
		if err != nil {
			return 0, err
		}
		if i < 3 {
			continue
		}
		rows, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		n += rows
	}
	return n, nil
}
