package embedded

import (
	"context"
	"slices"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/faults"
)

// Clients keep the directory, users and departments, and ask for the changes since the
// newest one they have. So a change must not become visible with an earlier time than a
// change that was visible before, nor with a time that a client was told is complete:
// that client would never ask for it. The time of a change is taken in its transaction,
// beside which no other runs. It is not before any other time, even when the clock was
// set back.

// changeDirectory runs f in a transaction. now is the new value of updated for the rows
// of table.
func (s *directory) changeDirectory(ctx context.Context, op, table string,
	f func(w *writer, now int64) error) error {
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
			return f(w, stamps.Next(newest, s.time().Unix()))
		})
	})
}

// one reads one row of one column, without preparing the statement.
func (w *writer) one(text string, dest any, args ...any) error {
	return w.conn.QueryRowContext(context.Background(), text, args...).Scan(dest)
}

// SetPassword replaces a user's password and salt; see im.UserStore. It fails with kind
// Invalid when one of them is too long.
func (s *directory) SetPassword(ctx context.Context, id uint32, password, salt string) error {
	if err := im.CheckPassword(password, salt); err != nil {
		return err
	}
	const update = "update IMUser set password = ?, salt = ?, updated = ? where id = ?"
	return s.changeDirectory(ctx, "set password", "IMUser", func(w *writer, now int64) error {
		return w.updateUser(update, password, salt, now, id)
	})
}

// SetPushShield turns a user's nightly rest from pushes on or off; see im.UserStore.
func (s *directory) SetPushShield(ctx context.Context, id uint32, on bool) error {
	return s.changeUser(ctx, "set push shield", "update IMUser set push_shield_status = ? "+
		"where id = ?", on, id)
}

// changeUser runs a statement that changes columns that other users do not see. The last
// argument is the user's id.
func (s *directory) changeUser(ctx context.Context, op, text string, args ...any) error {
	return s.call(op, func() error {
		return s.transact(ctx, func(w *writer) error { return w.updateUser(text, args...) })
	})
}

// SetUserStatus changes a user's status; see im.UserStore.
func (s *directory) SetUserStatus(ctx context.Context, id uint32, status im.UserStatus) error {
	return s.EditUser(ctx, id, im.UserEdit{Status: &status})
}

// SetSignInfo changes a user's signature text; see im.UserStore.
func (s *directory) SetSignInfo(ctx context.Context, id uint32, text string) error {
	return s.EditUser(ctx, id, im.UserEdit{SignInfo: &text})
}

// SetAvatar changes a user's avatar; see im.UserStore.
func (s *directory) SetAvatar(ctx context.Context, id uint32, url string) error {
	return s.EditUser(ctx, id, im.UserEdit{Avatar: &url})
}

// SetUserDepart moves a user to a department; see im.UserStore.
func (s *directory) SetUserDepart(ctx context.Context, id, depart uint32) error {
	return s.EditUser(ctx, id, im.UserEdit{DepartID: &depart})
}

// EditUser changes fields of a user; see im.UserStore.
func (s *directory) EditUser(ctx context.Context, id uint32, e im.UserEdit) error {
	if err := e.Check(); err != nil {
		return err
	}
	set, values := e.Assignments()
	if e.Name != nil {
		set, values = set+", nameKey=?", append(values, NameKey(*e.Name))
	}
	return s.changeDirectory(ctx, "edit user", "IMUser", func(w *writer, now int64) error {
		w.recipients.Remove(id)
		// The user is updated first, so that a missing user is NotFound whatever else is
		// wrong.
		err := w.updateUser("update IMUser set "+set+", updated=? where id=?",
			append(slices.Clone(values), now, id)...)
		if faults.NameTaken(err) {
			return im.Errorf(im.Exists, "the name %q is taken", *e.Name)
		}
		if err != nil || e.DepartID == nil {
			return err
		}
		return w.wantDepart(*e.DepartID)
	})
}

// updateUser runs a statement that changes one user. The last argument is the user's id.
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
