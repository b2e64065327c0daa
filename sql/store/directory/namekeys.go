package directory

import (
	"context"
	"strings"
	"unicode/utf8"

	"teamtalk/sql/store/database"
)

// NameKeys returns keys of names; see im.LoginStore. They are the values by which
// AccountsByName looks names up: the database folds names that are not plain.
func (s *Directory) NameKeys(ctx context.Context, names []string) ([]string, error) {
	keys := make([]string, len(names))
	var other []int
	for i, name := range names {
		keys[i] = strings.ToLower(strings.TrimRight(name, " "))
		if !isPlain(keys[i]) && utf8.ValidString(name) {
			other = append(other, i)
		}
	}
	err := database.InChunks(other, database.Chunk, func(part []int) error {
		args, dest := make([]any, len(part)), make([]any, len(part))
		for j, i := range part {
			args[j], dest[j] = names[i], &keys[i]
		}
		q := "SELECT LOWER(?)" + strings.Repeat(",LOWER(?)", len(part)-1)
		return s.db.Read(ctx, func(db database.Querier) error {
			return db.QueryRowContext(ctx, q, args...).Scan(dest...)
		})
	})
	if err == nil {
		err = ctx.Err()
	}
	for _, i := range other {
		keys[i] = strings.TrimRight(keys[i], " ")
	}
	return keys, s.db.SQLError("fold names", err)
}
