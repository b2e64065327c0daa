// Package remote does the work of the admin API with the functions that the commands of the shell
// use.
package remote

import (
	"bytes"
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/im"
	"teamtalk/handlers/adminapi"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/proto/pb"
)

// Directory is an adminapi.Directory on a store.
type Directory struct {
	Store  im.Store
	Policy im.PasswordPolicy
	Limits lockout.Limits // of wrong passwords
	Text   *im.TextCipher
	// Tell tells the message servers of a change of members, and reports whether it could.
	Tell func(group uint32, t pb.GroupModifyType, change im.MemberChange) bool
	// Changed is called after changes of users and departments, after an error too.
	Changed func()
}

const (
	defaultPage = 100
	maxPage     = 1000
	// maxScan bounds the rows that a search reads for one page.
	maxScan = 20_000
	// maxFile is the largest number of users in a file. With argon2id each costs 13 ms of a
	// core.
	maxFile = 2000
)

// pageSize returns the size of a page.
func pageSize(limit int) (int, error) {
	if limit == 0 {
		return defaultPage, nil
	}
	if limit < 1 || limit > maxPage {
		return 0, im.Errorf(im.Invalid, "limit %d is not from 1 to %d", limit, maxPage)
	}
	return limit, nil
}

// pages reads rows in order of id, and collects those that match until there are limit of them,
// or maxScan rows were read. next is the id to continue after; 0: there are no more rows.
func pages[T any](after uint32, limit int, list func(after uint32, n int) ([]T, error),
	id func(T) uint32, match func(T) bool) (found []T, next uint32, err error) {
	for scanned := 0; scanned < maxScan; {
		rows, err := list(after, maxPage)
		if err != nil || len(rows) == 0 {
			return found, 0, err
		}
		for _, row := range rows {
			if !match(row) {
				continue
			}
			if len(found) == limit {
				return found, after, nil
			}
			found, after = append(found, row), id(row)
		}
		after, scanned = id(rows[len(rows)-1]), scanned+len(rows)
	}
	return found, after, nil
}

// userOf returns the form of a user for the API.
func userOf(u im.User) adminapi.User {
	return adminapi.User{ID: u.ID, Name: u.Name, Nick: u.Nick, Domain: u.Domain,
		Gender: admin.GenderName(u.Gender), Phone: u.Phone, Email: u.Email, Avatar: u.Avatar,
		Department: u.DepartID, Sign: u.SignInfo, Status: admin.StatusName(u.Status),
		Updated: u.Updated}
}

// invalid gives an error without a kind the kind Invalid: it is about what the caller sent.
func invalid(err error) error {
	if err == nil || im.KindOf(err) != im.Internal {
		return err
	}
	return im.WithKind(im.Invalid, "the request is wrong", err)
}

// contains reports whether a text is part of a name of a user, or of its phone or email, without
// regard to case.
func contains(u im.User, text string) bool {
	text = strings.ToLower(text)
	for _, part := range []string{u.Name, u.Nick, u.Domain, u.Phone, u.Email} {
		if strings.Contains(strings.ToLower(part), text) {
			return true
		}
	}
	return false
}

// listed returns the users with some ids, in order of id.
func (d *Directory) listed(ctx context.Context, ids []uint32) (p adminapi.UserPage, err error) {
	users, err := d.Store.Users(ctx, ids)
	slices.SortFunc(users, func(x, y im.User) int { return cmp.Compare(x.ID, y.ID) })
	p.Users = make([]adminapi.User, len(users))
	for i, u := range users {
		p.Users[i] = userOf(u)
	}
	return p, err
}

// ListUsers returns a page of users.
func (d *Directory) ListUsers(ctx context.Context, q adminapi.ListUsers) (p adminapi.UserPage,
	err error) {
	limit, err := pageSize(q.Limit)
	if err != nil {
		return p, err
	}
	if len(q.IDs) > 0 {
		return d.listed(ctx, q.IDs)
	}
	match := func(u im.User) bool {
		if q.Status != "" && admin.StatusName(u.Status) != q.Status ||
			q.Department != 0 && u.DepartID != q.Department {
			return false
		}
		return contains(u, q.Search)
	}
	users, next, err := pages(q.After, limit, func(after uint32, n int) ([]im.User, error) {
		return d.Store.ListUsers(ctx, after, n)
	}, func(u im.User) uint32 { return u.ID }, match)
	p.Users, p.Next = make([]adminapi.User, len(users)), next
	for i, u := range users {
		p.Users[i] = userOf(u)
	}
	return p, err
}

// AddUser adds a user.
func (d *Directory) AddUser(ctx context.Context, q adminapi.AddUser) (a adminapi.Added,
	err error) {
	u := admin.NewUser{User: im.User{Name: q.Name, Nick: q.Nick, Domain: q.Domain, Phone: q.Phone,
		Email: q.Email, Avatar: q.Avatar}, Password: q.Password}
	if u.Gender, err = admin.ParseGender(q.Gender); err != nil {
		return a, invalid(err)
	}
	if u.Password == "" {
		u.Password = admin.GeneratePassword()
		a.Password = u.Password
	}
	if err := u.Complete(); err != nil {
		return adminapi.Added{}, invalid(err)
	}
	o := admin.Import{Reserved: q.Reserved, Allow: "reserved"}
	if o.Refuses(&u) {
		return adminapi.Added{}, im.Errorf(im.Invalid, "%s", o.ReservedText(&u))
	}
	if q.Department != "" {
		b, err := admin.ReadDeparts(ctx, d.Store)
		if err != nil {
			return adminapi.Added{}, err
		}
		if u.DepartID, err = b.FindParent(q.Department); err != nil {
			return adminapi.Added{}, err
		}
	}
	defer d.Changed()
	ids, err := admin.AddUsers(ctx, d.Store, d.Policy, []admin.NewUser{u})
	if err != nil {
		return adminapi.Added{}, err
	}
	a.ID = ids[0]
	return a, nil
}

// ImportUsers adds the users of a file.
func (d *Directory) ImportUsers(ctx context.Context, q adminapi.ImportUsers) (a adminapi.Imported,
	err error) {
	defer d.Changed()
	done, err := admin.ImportFile(ctx, d.Store, d.Policy, bytes.NewReader(q.File), admin.Import{
		DryRun: q.DryRun, SkipExisting: q.SkipExisting, Reserved: q.Reserved,
		Skip: "skip_existing leaves out such users", Allow: "reserved"}, maxFile)
	if p, ok := err.(interface{ Problems() []string }); ok {
		return a, im.WithKind(im.Invalid, "no user was added", p.(error))
	}
	if err != nil {
		return a, err
	}
	a.Added, a.Skipped, a.Passwords = done.Added, done.Skipped, []adminapi.NewPassword{}
	for _, made := range done.Generated {
		a.Passwords = append(a.Passwords, adminapi.NewPassword{Name: made[0], Password: made[1]})
	}
	return a, nil
}

// some returns nil for the zero time.
func some(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// GetUser returns a user with its groups and the state of its logins.
func (d *Directory) GetUser(ctx context.Context, q adminapi.UserName) (a adminapi.UserDetail,
	err error) {
	u, err := admin.FindUser(ctx, d.Store, q.User)
	if err != nil {
		return a, err
	}
	state, err := lockout.Inspect(ctx, d.Store, d.Limits, d.Store.Now(), u.Name, u.ID)
	if err != nil {
		return a, err
	}
	groups, err := d.Store.GroupsOf(ctx, u.ID, 0, 0)
	if err != nil {
		return a, err
	}
	a.User, a.LockedUntil = userOf(u.User), some(state.LockedUntil)
	a.Networks, a.Groups = []adminapi.Network{}, []uint32{}
	for _, n := range state.Networks {
		a.Networks = append(a.Networks, adminapi.Network{Network: n.Network, Failed: n.Failed,
			LockedUntil: some(n.LockedUntil), Login: some(n.Login)})
	}
	for _, g := range groups {
		a.Groups = append(a.Groups, g.ID)
	}
	return a, nil
}

// ChangeUser changes fields of a user.
func (d *Directory) ChangeUser(ctx context.Context, q adminapi.ChangeUser) (adminapi.User,
	error) {
	defer d.Changed()
	u, _, err := admin.ChangeUser(ctx, d.Store, q.User, admin.UserChange{Nick: q.Nick,
		Domain: q.Domain, Phone: q.Phone, Email: q.Email, Avatar: q.Avatar, Sign: q.Sign,
		Gender: q.Gender, Department: q.Department, Reserved: q.Reserved})
	return userOf(u), err
}

// setStatus disables or enables a user.
func (d *Directory) setStatus(ctx context.Context, name string,
	status im.UserStatus) (adminapi.User, error) {
	u, err := admin.FindUser(ctx, d.Store, name)
	if err != nil {
		return adminapi.User{}, err
	}
	defer d.Changed()
	err = d.Store.SetUserStatus(ctx, u.ID, status)
	u.Status = status
	return userOf(u.User), err
}

// DisableUser refuses the logins of a user.
func (d *Directory) DisableUser(ctx context.Context, q adminapi.UserName) (adminapi.User, error) {
	return d.setStatus(ctx, q.User, im.StatusDeparted)
}

// EnableUser allows the logins of a user.
func (d *Directory) EnableUser(ctx context.Context, q adminapi.UserName) (adminapi.User, error) {
	return d.setStatus(ctx, q.User, im.StatusOK)
}

// DeleteUser ends a user for good.
func (d *Directory) DeleteUser(ctx context.Context, q adminapi.UserName) (adminapi.Deleted,
	error) {
	defer d.Changed()
	x, err := admin.DeleteUser(ctx, d.Store, q.User)
	return adminapi.Deleted{NewName: x.NewName, Left: append([]uint32{}, x.Left...),
		Owned: append([]uint32{}, x.Owned...)}, err
}

// UnlockUser forgets the wrong passwords for a name, also for one without a user.
func (d *Directory) UnlockUser(ctx context.Context, q adminapi.UserName) (none adminapi.None,
	err error) {
	name := q.User
	u, err := admin.FindUser(ctx, d.Store, name)
	switch {
	case err == nil:
		name = u.Name
	case im.KindOf(err) != im.NotFound:
		return none, err
	}
	return none, lockout.Unlock(ctx, d.Store, name)
}

// UnlockNetwork forgets the wrong passwords from a network.
func (d *Directory) UnlockNetwork(ctx context.Context, q adminapi.UnlockNetwork) (
	a adminapi.UnlockedNetwork, err error) {
	addr, err := netip.ParseAddr(q.Address)
	if err != nil {
		return a, im.Errorf(im.Invalid, "%q is no address", q.Address)
	}
	a.Network, err = lockout.UnlockNetwork(ctx, d.Store, addr)
	return a, err
}

// SetPassword gives a user a new password.
func (d *Directory) SetPassword(ctx context.Context, q adminapi.SetPassword) (a adminapi.Password,
	err error) {
	clear := q.Password
	if clear == "" {
		clear = admin.GeneratePassword()
		a.Password = clear
	}
	if err := admin.CheckPassword(clear); err != nil {
		return adminapi.Password{}, invalid(err)
	}
	defer d.Changed()
	return a, admin.SetPassword(ctx, d.Store, d.Policy, q.User, clear)
}
