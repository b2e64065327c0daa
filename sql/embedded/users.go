package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/faults"
)

// directory is the part for users and departments.
type directory struct {
	*database
	userStamps, departStamps im.Stamps // times of changes, given in the writer's transaction
}

// AccountByName returns the account with a login name; see im.UserStore.
func (s *directory) AccountByName(ctx context.Context, name string) (im.Account, error) {
	list, err := s.AccountsByName(ctx, []string{name})
	switch {
	case err != nil:
		return im.Account{}, err
	case list[0].ID == 0:
		return im.Account{}, im.Errorf(im.NotFound, "no user has that name")
	}
	return list[0], nil
}

// AccountsByName returns the accounts with login names; see im.UserStore.
func (s *directory) AccountsByName(ctx context.Context, names []string) ([]im.Account, error) {
	list := make([]im.Account, len(names))
	err := s.call("accounts by name", func() error {
		for i, name := range names {
			a := &list[i]
			var err error
			a.User, err = scanUser(s.read.accountByName.QueryRowContext(ctx, NameKey(name)),
				&a.Password, &a.Salt)
			if errors.Is(err, sql.ErrNoRows) {
				*a = im.Account{}
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// NameKey folds a name: two names are the same when their keys are equal. Blanks at the
// end are ignored, as in MySQL.
func NameKey(name string) string {
	return strings.Map(func(r rune) rune {
		// The result is the smallest of the letters that differ only in case.
		for next := unicode.SimpleFold(r); ; next = unicode.SimpleFold(next) {
			if next <= r {
				return next
			}
		}
	}, strings.TrimRight(name, " "))
}

// scanUser reads userColumns, and the columns after them into dest.
func scanUser(row scanner, dest ...any) (u im.User, err error) {
	err = row.Scan(append([]any{&u.ID, &u.Name, &u.Domain, &u.Nick, &u.Gender, &u.Phone, &u.Email,
		&u.Avatar, &u.DepartID, &u.Status,
		&u.SignInfo, &u.PushShield, &u.Updated}, dest...)...)
	return u, err
}

// userRows runs a read of users.
func (s *directory) userRows(ctx context.Context, op string, stmt *sql.Stmt,
	args ...any) ([]im.User, error) {
	var users []im.User
	err := s.rows(ctx, op, arrivals.None, stmt, func(row scanner) error {
		u, err := scanUser(row)
		users = append(users, u)
		return err
	}, args...)
	if err != nil {
		return nil, err
	}
	return users, nil
}

// Users returns users by id; see im.UserStore.
func (s *directory) Users(ctx context.Context, ids []uint32) ([]im.User, error) {
	return s.userRows(ctx, "users", s.read.users, jsonArray(ids))
}

// UsersChangedSince returns users by time of change; see im.UserStore.
func (s *directory) UsersChangedSince(ctx context.Context,
	since uint32) (users []im.User, newest uint32, err error) {
	if since == 0 {
		users, err = s.userRows(ctx, "users changed", s.read.usersPresent)
	} else {
		users, err = s.userRows(ctx, "users changed", s.read.usersSince, since)
	}
	newest = since
	for _, u := range users {
		newest = max(newest, u.Updated)
	}
	return users, newest, err
}

// CredentialsChangedSince returns credentials by time of change; see im.UserStore.
func (s *directory) CredentialsChangedSince(ctx context.Context, since, after uint32,
	limit int) (list []im.Credential, newest uint32, err error) {
	err = s.call("credentials changed", func() error {
		return s.read.usersNewest.QueryRowContext(ctx).Scan(&newest)
	})
	if err != nil {
		return nil, 0, err
	}
	err = s.rows(ctx, "credentials changed", arrivals.None, s.read.credentials,
		func(row scanner) error {
			var c im.Credential
			var password, salt string
			err := row.Scan(&c.User, &c.Updated, &c.Status, &password, &salt)
			c.SetStored(im.StoredPassword{Hash: password, Salt: salt})
			list = append(list, c)
			return err
		}, since, after, max(limit, 0))
	if err != nil {
		return nil, 0, err
	}
	return list, newest, nil
}

// ListUsers returns a page of users; see im.UserStore.
func (s *directory) ListUsers(ctx context.Context, after uint32, limit int) ([]im.User, error) {
	return s.userRows(ctx, "list users", s.read.listUsers, after, max(limit, 0))
}

const insertUser = `insert into IMUser (nameKey, name, domain, nick, sex, password, salt, phone,
	email, avatar, departId, status,
	push_shield_status, sign_info, created, updated) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
	?10, ?11, ?12, ?13, ?14, ?15, ?15)`

// CreateUsers adds accounts, all or none; see im.UserStore. It ignores their ID and
// Updated.
func (s *directory) CreateUsers(ctx context.Context,
	accounts []im.Account) (ids []uint32, err error) {
	for i := range accounts {
		if err := im.CheckAccount(&accounts[i]); err != nil {
			return nil, fmt.Errorf("account %d: %w", i, err)
		}
	}
	err = s.changeDirectory(ctx, "create users", "IMUser", func(w *writer, now int64) error {
		ids, err = w.insertUsers(accounts, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

func (w *writer) insertUsers(accounts []im.Account, now int64) ([]uint32, error) {
	stmt, err := w.conn.PrepareContext(context.Background(), insertUser)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	ids := make([]uint32, len(accounts))
	for i := range accounts {
		a := &accounts[i]
		result, err := stmt.Exec(NameKey(a.Name), a.Name, a.Domain, a.Nick, a.Gender, a.Password,
			a.Salt, a.Phone, a.Email, a.Avatar,
			a.DepartID, a.Status, a.PushShield, a.SignInfo, now)
		if faults.NameTaken(err) {
			return nil, im.Errorf(im.Exists, "the name %q is taken", a.Name)
		}
		if err != nil {
			return nil, err
		}
		id, err := result.LastInsertId()
		if err != nil {
			return nil, err
		}
		ids[i] = uint32(id)
	}
	return ids, nil
}
