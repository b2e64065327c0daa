package schema

import (
	"context"
	"database/sql"

	"teamtalk/core/im"
)

// A command that moves an embedded store into a database marks the database until it is complete.
// The mark is a row of IMLease with this name.
const moveRow = "move"

// HalfMoved reports whether a command that moves a store into the database has not finished. No
// server may then use the database. The tables must exist.
func HalfMoved(ctx context.Context, db *sql.DB) (bool, error) {
	var n int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM IMLease WHERE name=?", moveRow).Scan(&n)
	if err != nil {
		return false, im.WithKind(im.Unavailable, "look for a move in progress", err)
	}
	return n > 0, nil
}

// BeginMove marks the database.
func BeginMove(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "INSERT IGNORE INTO IMLease (name, holder, epoch, until) "+
		"VALUES (?, '', 0, 0)", moveRow)
	return err
}

// EndMove removes the mark.
func EndMove(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "DELETE FROM IMLease WHERE name=?", moveRow)
	return err
}

// Alone returns an error of kind Denied while other connections use the database, as far as the
// user of db may see them. db must have at most one connection itself.
func Alone(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return im.WithKind(im.Unavailable, "connect to the database", err)
	}
	defer conn.Close()
	return (&run{conn: conn}).alone(ctx)
}
