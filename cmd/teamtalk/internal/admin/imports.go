package admin

import (
	"context"
	"fmt"
	"io"

	"teamtalk/core/im"
)

// Import says which users of a list are added.
type Import struct {
	// DryRun checks everything and adds nothing.
	DryRun bool
	// SkipExisting leaves out users whose names are taken. Otherwise they are errors.
	SkipExisting bool
	// Reserved allows names and nicks that others take for official.
	Reserved bool
	// Skip says how to leave out users whose names are taken, and Allow is the name of
	// Reserved, for errors.
	Skip, Allow string
}

// Refuses reports whether the name or the nick of a user is reserved.
func (o *Import) Refuses(u *NewUser) bool {
	return !o.Reserved && (im.ReservedName(u.Name) || im.ReservedName(u.Nick))
}

// ReservedText says that the name or nick of a user is reserved.
func (o *Import) ReservedText(u *NewUser) string {
	return fmt.Sprintf("others take the name %q or the nick %q for official: to add the user "+
		"nevertheless, use %s", u.Name, u.Nick, o.Allow)
}

// Directory is the users and departments of a store.
type Directory interface {
	im.UserStore
	im.DepartStore
}

// Choose returns the users that are to be added, with their departments, and how many are skipped.
// It fails when a name is taken, or reserved in a file, or when there is no such department.
func (o *Import) Choose(ctx context.Context, s Directory, users []NewUser) (left []NewUser,
	skipped int, err error) {
	taken, err := TakenNames(ctx, s)
	if err != nil {
		return nil, 0, err
	}
	var bad Problems
	if err := Place(ctx, s, users, func(u *NewUser, err error) {
		bad.Add(u.Line, "%v", err)
	}); err != nil {
		return nil, 0, err
	}
	for _, u := range users {
		switch {
		case u.Line > 0 && o.Refuses(&u):
			bad.Add(u.Line, "%s", o.ReservedText(&u))
		case !taken[FoldName(u.Name)]:
			left = append(left, u)
		case o.SkipExisting:
			skipped++
		case u.Line > 0:
			bad.Add(u.Line, "the name %q is taken (%s)", u.Name, o.Skip)
		default:
			return nil, 0, im.Errorf(im.Exists, "the name %q is taken; no user was added "+
				"(%s)", u.Name, o.Skip)
		}
	}
	return left, skipped, bad.Err()
}

// Imported is the outcome of ImportFile.
type Imported struct {
	Added, Skipped int
	Generated      [][]string // the generated passwords, see GeneratePasswords
}

// ImportFile adds the users of a CSV file, all or none, at most limit of them. Errors about the
// file have a method Problems, with one line each.
func ImportFile(ctx context.Context, s Directory, policy im.PasswordPolicy, in io.Reader,
	o Import, limit int) (done Imported, err error) {
	users, err := ReadUsers(in)
	if err != nil {
		return done, err
	}
	if len(users) > limit {
		var bad Problems
		bad.Add(users[limit].Line, "a file may have %d users: split it", limit)
		return done, bad.Err()
	}
	if users, done.Skipped, err = o.Choose(ctx, s, users); err != nil {
		return done, err
	}
	done.Added = len(users)
	if o.DryRun || len(users) == 0 {
		return done, nil
	}
	done.Generated = GeneratePasswords(users)
	_, err = AddUsers(ctx, s, policy, users)
	return done, err
}
