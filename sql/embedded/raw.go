package embedded

import (
	"context"
	"database/sql"
)

// Raw runs f in one transaction of the connection that writes, and commits when f returns
// nil. It is for loading very many rows, and for measuring the database without the
// store. f may prepare statements on conn and keep them for the next Raw; it must close
// them before Close. f must leave the transaction and the settings of the connection
// unchanged, and the rows consistent with the schema. Raw empties the caches of the
// store.
//
// No other change runs meanwhile.
func (s *database) Raw(ctx context.Context, f func(conn *sql.Conn) error) error {
	return s.call("raw", func() error {
		return s.transact(ctx, func(w *writer) error {
			defer w.forgetAll()
			return f(w.conn)
		})
	})
}
