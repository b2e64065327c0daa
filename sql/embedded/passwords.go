package embedded

import (
	"context"

	"teamtalk/core/im"
)

// ReplacePassword stores another form of a user's password; see im.UserStore.
func (s *directory) ReplacePassword(ctx context.Context, id uint32, old,
	now im.StoredPassword) (replaced bool, err error) {
	if err := im.CheckPassword(now.Hash, now.Salt); err != nil {
		return false, err
	}
	err = s.call("replace password", func() error {
		return s.run(ctx, transaction{}, func(w *writer) error {
			result, err := w.conn.ExecContext(context.Background(), "update IMUser set "+
				"password = ?, salt = ? where id = ? and password = ? and salt = ?",
				now.Hash, now.Salt, id, old.Hash, old.Salt)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			replaced = n > 0
			return err
		})
	})
	return replaced && err == nil, err
}

// CountPasswords counts users by the form of their passwords; see im.UserStore.
func (s *directory) CountPasswords(ctx context.Context) (c im.PasswordCounts, err error) {
	err = s.call("count passwords", func() error {
		var all int
		err := s.read.passwords.QueryRowContext(ctx).Scan(&all, &c.KDF)
		c.Weak = all - c.KDF
		return err
	})
	if err != nil {
		return im.PasswordCounts{}, err
	}
	return c, nil
}
