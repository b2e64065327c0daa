package embedded

import (
	"context"
	"errors"

	"teamtalk/core/im"
)

// Clients keep the directory, users and departments, and ask for what was changed after
// the newest change they have. So no change may become visible with an earlier time than
// one that was visible before, nor with one that was told as settled: a client would
// never ask for it. The time of a change is taken in its transaction, where no other is
// under way, and is not before any there is, even when the clock was set back.

// changeDirectory runs f in a transaction. now is the new value of updated for the rows of table.
func (s *directory) changeDirectory(ctx context.Context, op, table string, f func(w *writer, now int64) error) error {
	return s.call(op, func() error {
		return s.transact(ctx, func(w *writer) error {
			newest := int64(0)
			if err := w.one("select coalesce(max(updated), 0) from "+table, &newest); err != nil {
				return err
			}
			stamps := &s.userStamps
			if table == "IMDepart" {
				stamps = &s.departStamps
			}
			return f(w, stamps.Next(newest, s.now().Unix()))
		})
	})
}

// one reads one row of one column, with a statement that is not worth preparing.
func (w *writer) one(text string, dest any, args ...any) error {
	return w.conn.QueryRowContext(context.Background(), text, args...).Scan(dest)
}

// SetPassword replaces a user's password and salt, as im.UserStore says. Invalid when one is too long.
func (s *directory) SetPassword(ctx context.Context, id uint32, password, salt string) error {
	if err := errors.Join(checkField("password", password, 32), checkField("salt", salt, 4)); err != nil {
		return im.WithKind(im.Invalid, "embedded: set password", err)
	}
	return s.changeUser(ctx, "set password", "update IMUser set password = ?, salt = ? where id = ?", password, salt, id)
}

// SetPushShield turns the nightly rest on or off, as im.UserStore says.
func (s *directory) SetPushShield(ctx context.Context, id uint32, on bool) error {
	return s.changeUser(ctx, "set push shield", "update IMUser set push_shield_status = ? where id = ?", on, id)
}

// changeUser runs a statement that changes what nobody else sees of a user, whose id is the last argument.
func (s *directory) changeUser(ctx context.Context, op, text string, args ...any) error {
	return s.call(op, func() error {
		return s.transact(ctx, func(w *writer) error { return w.updateUser(text, args...) })
	})
}

// SetUserStatus changes a user's standing, as im.UserStore says.
func (s *directory) SetUserStatus(ctx context.Context, id uint32, status im.UserStatus) error {
	return s.changeDirectory(ctx, "set user status", "IMUser", func(w *writer, now int64) error {
		w.recipients.Remove(id)
		return w.updateUser("update IMUser set status = ?, updated = ? where id = ?", status, now, id)
	})
}

// SetSignInfo changes what a user says of itself, as im.UserStore says.
func (s *directory) SetSignInfo(ctx context.Context, id uint32, text string) error {
	if err := checkField("sign info", text, 128); err != nil {
		return err
	}
	return s.changeDirectory(ctx, "set sign info", "IMUser", func(w *writer, now int64) error {
		return w.updateUser("update IMUser set sign_info = ?, updated = ? where id = ?", text, now, id)
	})
}

// SetAvatar changes a user's picture, as im.UserStore says.
func (s *directory) SetAvatar(ctx context.Context, id uint32, url string) error {
	if err := checkField("avatar", url, 255); err != nil {
		return err
	}
	return s.changeDirectory(ctx, "set avatar", "IMUser", func(w *writer, now int64) error {
		return w.updateUser("update IMUser set avatar = ?, updated = ? where id = ?", url, now, id)
	})
}

// SetUserDepart puts a user into a department, as im.UserStore says.
func (s *directory) SetUserDepart(ctx context.Context, id, depart uint32) error {
	return s.changeDirectory(ctx, "set user department", "IMUser", func(w *writer, now int64) error {
		// The user first: who is not there is not found, whatever else is wrong.
		if err := w.updateUser("update IMUser set departId = ?, updated = ? where id = ?", depart, now, id); err != nil {
			return err
		}
		return w.wantDepart(depart)
	})
}

// updateUser runs a statement that changes one user, whose id is the last argument.
func (w *writer) updateUser(text string, args ...any) error {
	result, err := w.conn.ExecContext(context.Background(), text, args...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return im.Errorf(im.NotFound, "user %d does not exist", args[len(args)-1])
}
