package database

import (
	"context"
	"database/sql"
	"slices"
)

// Querier is a *sql.DB, *sql.Conn or *sql.Tx.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// InChunks calls do with consecutive parts of list, each of at most n elements.
func InChunks[T any](list []T, n int, do func([]T) error) error {
	for part := range slices.Chunk(list, n) {
		if err := do(part); err != nil {
			return err
		}
	}
	return nil
}

// Chunk is the largest number of keys in one query. Optimizers choose worse plans for
// conditions that are much longer.
const Chunk = 256

// Numbers returns the values of the only column of a query.
func Numbers(ctx context.Context, db Querier, query string) ([]uint32, error) {
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

// CountRows runs a query and counts its rows.
func CountRows(ctx context.Context, db Querier, query string, args ...any) (n int, err error) {
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

// Distinct returns ids in increasing order, each once.
func Distinct(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}
