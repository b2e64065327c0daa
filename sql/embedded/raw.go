package embedded

import (
	"context"
	"database/sql"
)

// Raw runs f in one transaction of the connection that writes, which is committed when f returns nil: for loading very many rows, and for measuring the database
// without the store around it. f may prepare statements on conn and keep them for the next Raw; it closes them before Close. It must leave the
// transaction and the connection's settings as they are, and the rows as the schema says; what the store had cached is forgotten.
//
// Nothing else is stored meanwhile.
func (s *database) Raw(ctx context.Context, f func(conn *sql.Conn) error) error {
	return s.call("raw", func() error {
		return s.transact(ctx, func(w *writer) error {
			defer w.forgetAll()
			return f(w.conn)
		})
	})
}
