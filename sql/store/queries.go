package store

import (
	"context"
	"database/sql"
	"slices"
)

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// inChunks calls do with consecutive parts of list, each of at most n elements.
func inChunks[T any](list []T, n int, do func([]T) error) error {
	for part := range slices.Chunk(list, n) {
		if err := do(part); err != nil {
			return err
		}
	}
	return nil
}

// chunk is the largest number of keys in one query. Optimizers choose worse plans for
// conditions that are much longer.
const chunk = 256

// numbers returns the values of the only column of a query.
func numbers(ctx context.Context, db querier, query string) ([]uint32, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []uint32
	for rows.Next() {
		var n uint32
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}

// countRows runs a query and counts its rows.
func countRows(ctx context.Context, db querier, query string, args ...any) (n int, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// distinct returns ids in increasing order, each once.
func distinct(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}
