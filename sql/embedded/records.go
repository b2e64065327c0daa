package embedded

import (
	"context"
	"database/sql"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/apart"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/records"
)

var (
	_ im.Pruner   = (*Store)(nil)
	_ im.Exporter = (*Store)(nil)
)

// parts gives the packages of parts their reads and changes.
type parts struct{ *database }

// Query runs a read that is not prepared; see records.Database.
func (s parts) Query(ctx context.Context, op, query string, scan func(*sql.Rows) error,
	args ...any) error {
	return s.call(op, func() error {
		if err := s.settled(ctx, arrivals.All); err != nil {
			return err
		}
		rows, err := s.readers.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// Change runs do in a transaction; see records.Database.
func (s parts) Change(ctx context.Context, op string, do func(records.Exec) error) error {
	return s.call(op, func() error {
		return s.transact(ctx, func(w *writer) error { return do(w.exec) })
	})
}

// Write runs do in a transaction; see apart.Database.
func (s parts) Write(ctx context.Context, op string, do func(apart.Tx) error) error {
	return s.call(op, func() error {
		return s.transact(ctx, func(w *writer) error {
			defer w.forgetAll()
			return do(apart.Tx{Conn: w.conn, Insert: w.writeOne, Count: w.countOne})
		})
	})
}
