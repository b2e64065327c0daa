package directory

import (
	"context"

	"teamtalk/core/im"
)

// ReplacePassword stores another form of a user's password; see im.UserStore.
func (s *Directory) ReplacePassword(ctx context.Context, id uint32, old,
	now im.StoredPassword) (bool, error) {
	if err := im.CheckPassword(now.Hash, now.Salt); err != nil {
		return false, err
	}
	var found int64
	err := s.db.Retry(ctx, func() error {
		res, err := s.db.Master.ExecContext(ctx, "UPDATE IMUser SET password=?, salt=? "+
			"WHERE id=? AND password=? AND salt=?", now.Hash, now.Salt, id, old.Hash, old.Salt)
		if err == nil {
			found, err = res.RowsAffected() // rows found, not rows changed; see openMySQL
		}
		return err
	})
	return found > 0, s.db.SQLError("replace the form of a password", err)
}

// CountPasswords counts users by the form of their passwords; see im.UserStore.
func (s *Directory) CountPasswords(ctx context.Context) (im.PasswordCounts, error) {
	var c im.PasswordCounts
	var all int
	err := s.db.Master.QueryRowContext(ctx, "SELECT COUNT(*), "+
		"COALESCE(SUM(password LIKE '$argon2id$%'), 0) FROM IMUser").Scan(&all, &c.KDF)
	c.Weak = all - c.KDF
	return c, s.db.SQLError("count passwords", err)
}
