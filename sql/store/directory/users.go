// Package directory keeps users and departments.
package directory

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
)

// Directory is the part for users and departments.
type Directory struct {
	db *database.DB

	recipients *Recipients

	lateMark lateMark // a sync mark that Redis has not taken

	userStamps, departStamps im.Stamps // guarded by the directory's lock in the database
}

// New makes the part.
func New(db *database.DB, recipients *Recipients) *Directory {
	return &Directory{db: db, recipients: recipients}
}

// userColumns are the columns of a user, in the order of userFields.
const userColumns = "id, name, domain, nick, sex, phone, email, COALESCE(avatar, ''), departId, " +
	"COALESCE(status, 0), sign_info, push_shield_status, updated"

// userFields returns the destinations for a row of userColumns.
func userFields(u *im.User) []any {
	return []any{&u.ID, &u.Name, &u.Domain, &u.Nick, &u.Gender, &u.Phone, &u.Email, &u.Avatar,
		&u.DepartID, &u.Status, &u.SignInfo, &u.PushShield, &u.Updated}
}

// usersWhere returns the users that a condition selects.
func usersWhere(ctx context.Context, db database.Querier, where string, args ...any) ([]im.User,
	error) {
	rows, err := db.QueryContext(ctx, "SELECT "+userColumns+" FROM IMUser WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []im.User
	for rows.Next() {
		var u im.User
		if err := rows.Scan(userFields(&u)...); err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, rows.Err()
}

// AccountByName returns the account with a login name; see im.UserStore.
func (s *Directory) AccountByName(ctx context.Context, name string) (im.Account, error) {
	list, err := s.AccountsByName(ctx, []string{name})
	switch {
	case err != nil:
		return im.Account{}, err
	case list[0].ID == 0:
		return im.Account{}, im.Errorf(im.NotFound, "no user has that name")
	}
	return list[0], nil
}

// AccountsByName returns accounts by login name; see im.UserStore.
func (s *Directory) AccountsByName(ctx context.Context, names []string) ([]im.Account, error) {
	list := make([]im.Account, len(names))
	all := make([]int, len(names))
	for i := range all {
		all[i] = i
	}
	if err := s.db.Read(ctx, func(db database.Querier) error {
		return accountsByName(ctx, db, names, all, list)
	}); err != nil {
		return nil, s.db.SQLError("look up accounts", err)
	}
	return list, nil
}

// accountColumns are the columns of an account, in the order of accountFields.
const accountColumns = userColumns + ", password, salt"

// accountFields returns the destinations for a row of accountColumns.
func accountFields(a *im.Account) []any { return append(userFields(&a.User), &a.Password, &a.Salt) }

// accountsByName reads from one database the accounts for the names at some places, and
// stores them at these places of list. Tables filled by the first implementation may hold
// a name several times, or names that differ only in case. The rows spelled like the name
// come first, then those that may log in. Of the rest the last one is used, as there.
func accountsByName(ctx context.Context, db database.Querier, names []string, places []int,
	list []im.Account) error {
	var plain, other []int
	for _, i := range places {
		list[i] = im.Account{}
		switch {
		case isPlain(names[i]):
			plain = append(plain, i)
		case utf8.ValidString(names[i]):
			other = append(other, i)
		}
	}
	if err := database.InChunks(plain, database.Chunk, func(part []int) error {
		return plainAccounts(ctx, db, names, part, list)
	}); err != nil {
		return err
	}
	// The database decides which other letters make the same name.
	for _, i := range other {
		err := db.QueryRowContext(ctx, "SELECT "+accountColumns+" FROM IMUser "+
			"WHERE nameFold=LOWER(?) "+
			"ORDER BY name=? DESC, COALESCE(status, 0)=? DESC, id DESC LIMIT 1",
			names[i], names[i], im.StatusOK).Scan(accountFields(&list[i])...)
		if err == sql.ErrNoRows {
			list[i] = im.Account{}
		} else if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// isPlain reports whether strings.ToLower and LOWER of every database fold a name alike.
func isPlain(name string) bool {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf || name[i] < ' ' {
			return false
		}
	}
	return name != "" && name[len(name)-1] != ' ' // blanks at the end do not count
}

// plainAccounts is accountsByName for plain names, with one read of the index.
func plainAccounts(ctx context.Context, db database.Querier, names []string, places []int,
	list []im.Account) error {
	asked := make(map[string][]int, len(places))
	args := make([]any, 0, len(places))
	for _, i := range places {
		fold := strings.ToLower(names[i])
		if asked[fold] == nil {
			args = append(args, fold)
		}
		asked[fold] = append(asked[fold], i)
	}
	q := "SELECT nameFold, " + accountColumns + " FROM IMUser WHERE nameFold IN (?" +
		strings.Repeat(",?", len(args)-1) + ") ORDER BY id"
	rows, err := db.QueryContext(ctx, q, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var fold string
		var a im.Account
		if err := rows.Scan(append([]any{&fold}, accountFields(&a)...)...); err != nil {
			return err
		}
		for _, i := range asked[strings.TrimRight(fold, " ")] {
			if list[i].ID == 0 || nameRank(&a, names[i]) >= nameRank(&list[i], names[i]) {
				list[i] = a
			}
		}
	}
	return rows.Err()
}

// nameRank orders the accounts with the same folded name; see accountsByName.
func nameRank(a *im.Account, name string) (rank int) {
	if strings.TrimRight(a.Name, " ") == name {
		rank += 2
	}
	if a.Status == im.StatusOK {
		rank++
	}
	return rank
}

// Users returns users by id; see im.UserStore.
func (s *Directory) Users(ctx context.Context, ids []uint32) ([]im.User, error) {
	var list []im.User
	err := s.db.Read(ctx, func(db database.Querier) (err error) {
		list, err = usersByID(ctx, db, ids)
		return err
	})
	return list, s.db.SQLError("read users", err)
}

// usersByID reads users from one database.
func usersByID(ctx context.Context, db database.Querier, ids []uint32) ([]im.User, error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var list []im.User
	err := database.InChunks(slices.Compact(ids), 1000, func(part []uint32) error {
		some, err := usersWhere(ctx, db, "id IN ("+database.Join(part)+")")
		list = append(list, some...)
		return err
	})
	return list, err
}

// UsersChangedSince returns users for a client's synchronisation; see im.UserStore.
func (s *Directory) UsersChangedSince(ctx context.Context,
	since uint32) ([]im.User, uint32, error) {
	where := fmt.Sprintf("updated>=%d", since)
	if since == 0 {
		where = fmt.Sprintf("COALESCE(status, 0)<>%d", im.StatusDeparted)
	}
	var list []im.User
	if err := s.db.Read(ctx, func(db database.Querier) (err error) {
		list, err = usersWhere(ctx, db, where)
		return err
	}); err != nil {
		return nil, 0, s.db.SQLError("read changed users", err)
	}
	for _, u := range list {
		since = max(since, u.Updated)
	}
	return list, since, nil
}

// ListUsers returns users in order of id; see im.UserStore. It reads from the master, so
// that administrators see their last change.
func (s *Directory) ListUsers(ctx context.Context, after uint32, limit int) ([]im.User, error) {
	if limit <= 0 {
		return nil, s.db.SQLError("list users", ctx.Err())
	}
	list, err := usersWhere(ctx, s.db.Master, fmt.Sprintf("id>%d ORDER BY id LIMIT %d", after,
		limit))
	return list, s.db.SQLError("list users", err)
}

// SetPassword replaces a user's password; see im.UserStore.
func (s *Directory) SetPassword(ctx context.Context, id uint32, password, salt string) error {
	if err := im.CheckPassword(password, salt); err != nil {
		return err
	}
	return s.changeListed(ctx, id, "password=?, salt=?", nil, password, salt)
}

// SetUserStatus changes a user's status; see im.UserStore.
func (s *Directory) SetUserStatus(ctx context.Context, id uint32, status im.UserStatus) error {
	return s.EditUser(ctx, id, im.UserEdit{Status: &status})
}

// SetSignInfo changes a user's signature text; see im.UserStore.
func (s *Directory) SetSignInfo(ctx context.Context, id uint32, text string) error {
	return s.EditUser(ctx, id, im.UserEdit{SignInfo: &text})
}

// SetAvatar changes a user's avatar; see im.UserStore.
func (s *Directory) SetAvatar(ctx context.Context, id uint32, url string) error {
	return s.EditUser(ctx, id, im.UserEdit{Avatar: &url})
}

// SetUserDepart moves a user to a department; see im.UserStore.
func (s *Directory) SetUserDepart(ctx context.Context, id, depart uint32) error {
	return s.EditUser(ctx, id, im.UserEdit{DepartID: &depart})
}

// EditUser changes fields of a user; see im.UserStore. The directory's lock prevents two calls
// from taking the same name.
func (s *Directory) EditUser(ctx context.Context, id uint32, e im.UserEdit) error {
	if err := e.Check(); err != nil {
		return err
	}
	set, values := e.Assignments()
	return s.changeListed(ctx, id, set, func(tx *sql.Tx) error {
		if e.Name != nil {
			var others int
			if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM IMUser "+
				"WHERE nameFold=LOWER(?) AND id<>?", *e.Name, id).Scan(&others); err != nil {
				return err
			}
			if others > 0 {
				return im.Errorf(im.Exists, "the name %q is taken", *e.Name)
			}
		}
		if e.DepartID != nil {
			return s.wantDepart(ctx, tx, *e.DepartID)
		}
		return nil
	}, values...)
}

// SetPushShield turns a user's nightly rest from pushes on or off; see im.UserStore.
func (s *Directory) SetPushShield(ctx context.Context, id uint32, on bool) error {
	return s.changeUser(ctx, id, "push_shield_status=?", on)
}

// changeListed sets columns of a user that other users or servers see, and updated. check,
// if given, runs in the same transaction, and its error ends it.
func (s *Directory) changeListed(ctx context.Context, id uint32, set string,
	check func(*sql.Tx) error, args ...any) error {
	err := s.changeDirectory(ctx, "IMUser", false, func(tx *sql.Tx, now int64) error {
		// The user is updated first, so that a missing user is NotFound whatever else is
		// wrong.
		res, err := tx.ExecContext(ctx, "UPDATE IMUser SET "+set+", updated=? WHERE id=?",
			append(slices.Clone(args), now, id)...)
		if err != nil {
			return err
		}
		if found, err := res.RowsAffected(); err != nil {
			return err
		} else if found == 0 {
			return im.Errorf(im.NotFound, "no user has id %d", id)
		}
		if check != nil {
			return check(tx)
		}
		return nil
	})
	if err != nil {
		return s.db.SQLError("change user", err)
	}
	s.recipients.known.Remove(id)
	return nil
}

// changeUser sets columns of a user that other users do not see.
func (s *Directory) changeUser(ctx context.Context, id uint32, set string, args ...any) error {
	var found int64
	err := s.db.Retry(ctx, func() error {
		res, err := s.db.Master.ExecContext(ctx, "UPDATE IMUser SET "+set+" WHERE id=?",
			append(args, id)...)
		if err == nil {
			found, err = res.RowsAffected() // rows found, not rows changed; see openMySQL
		}
		return err
	})
	if err != nil {
		return s.db.SQLError("change user", err)
	}
	if found == 0 {
		return im.Errorf(im.NotFound, "no user has id %d", id)
	}
	s.recipients.known.Remove(id)
	return nil
}

// CreateUsers adds accounts, all or none; see im.UserStore. The directory's lock prevents
// two calls from taking the same name. The column has no unique key, because existing
// deployments may have names twice.
func (s *Directory) CreateUsers(ctx context.Context, accounts []im.Account) ([]uint32, error) {
	for i := range accounts {
		if err := im.CheckAccount(&accounts[i]); err != nil {
			return nil, fmt.Errorf("account %d: %w", i, err)
		}
	}
	if len(accounts) == 0 {
		return nil, s.db.SQLError("create users", ctx.Err())
	}
	var ids []uint32
	err := s.changeDirectory(ctx, "IMUser", true, func(tx *sql.Tx, now int64) (err error) {
		ids, err = insertUsers(ctx, tx, accounts, now)
		return err
	})
	if err != nil {
		return nil, s.db.SQLError("create users", err)
	}
	return ids, nil
}

// insertUsers inserts rows and returns their ids.
func insertUsers(ctx context.Context, tx *sql.Tx, accounts []im.Account,
	now int64) ([]uint32, error) {
	var ids []uint32
	err := database.InChunks(accounts, database.Chunk, func(part []im.Account) error {
		var q strings.Builder
		var args []any
		q.WriteString("INSERT INTO IMUser " +
			"(sex,name,domain,nick,password,salt,phone,email,avatar,departId,status," +
			"created,updated,push_shield_status,sign_info) VALUES ")
		for i, a := range part {
			if i > 0 {
				q.WriteByte(',')
			}
			q.WriteString("(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")
			args = append(args, a.Gender, a.Name, a.Domain, a.Nick, a.Password, a.Salt, a.Phone,
				a.Email, a.Avatar, a.DepartID, uint32(a.Status), now, now, a.PushShield, a.SignInfo)
		}
		if _, err := tx.ExecContext(ctx, q.String(), args...); err != nil {
			return err
		}
		some, err := idsByName(ctx, tx, part)
		ids = append(ids, some...)
		return err
	})
	return ids, err
}

// idsByName returns the ids of accounts that were just inserted. The database compares
// the names. When two rows have the same name, that name was taken, by an earlier row or
// within this call.
func idsByName(ctx context.Context, tx *sql.Tx, accounts []im.Account) ([]uint32, error) {
	args := make([]any, len(accounts))
	for i, a := range accounts {
		args[i] = a.Name
	}
	marks := strings.TrimSuffix(strings.Repeat("LOWER(?),", len(args)), ",")
	rows, err := tx.QueryContext(ctx, "SELECT id, name, nameFold FROM IMUser WHERE nameFold IN ("+
		marks+") ORDER BY id", args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	folded, byName := map[string]bool{}, map[string]uint32{}
	for rows.Next() {
		var id uint32
		var name, fold string
		if err := rows.Scan(&id, &name, &fold); err != nil {
			return nil, err
		}
		// the database ignores blanks at the end
		if fold = strings.TrimRight(fold, " "); folded[fold] {
			return nil, im.Errorf(im.Exists, "the name %q is taken", name)
		}
		folded[fold], byName[name] = true, id
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	ids := make([]uint32, len(accounts))
	for i, a := range accounts {
		if ids[i] = byName[a.Name]; ids[i] == 0 {
			return nil, im.Errorf(im.Internal, "account %d vanished", i)
		}
	}
	return ids, nil
}
