// Package admin holds the operations of administrators on users, groups and departments. The shell
// commands and the HTTP side call the same functions.
package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"teamtalk/core/im"
)

// NewUser is a user to be added.
type NewUser struct {
	im.User
	Password string // clear
	Line     int    // of the file it came from; 0 without
}

// fieldLimits are the longest texts that the tables take, in characters.
var fieldLimits = []struct {
	name  string
	limit int
	of    func(*NewUser) *string
}{
	{"name", 32, func(u *NewUser) *string { return &u.Name }},
	{"nick", 32, func(u *NewUser) *string { return &u.Nick }},
	{"domain", 32, func(u *NewUser) *string { return &u.Domain }},
	{"phone", 11, func(u *NewUser) *string { return &u.Phone }},
	{"email", 64, func(u *NewUser) *string { return &u.Email }},
	{"avatar", 255, func(u *NewUser) *string { return &u.Avatar }},
}

// Complete checks a user and fills in what was left open: nick and domain are the name.
func (u *NewUser) Complete() error {
	if u.Name == "" {
		return errors.New("a user needs a name")
	}
	if u.Nick == "" {
		u.Nick = u.Name
	}
	if u.Domain == "" {
		u.Domain = u.Name
	}
	for _, f := range fieldLimits {
		if err := CheckText(f.name, *f.of(u), f.limit); err != nil {
			return err
		}
	}
	return CheckPassword(u.Password)
}

// CheckText refuses texts that do not fit, limit in characters, and those that can only be a mistake.
func CheckText(name, text string, limit int) error {
	switch {
	case !utf8.ValidString(text):
		return fmt.Errorf("%s %q is not UTF-8", name, text)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("%s %q holds a control character", name, text)
	case text != strings.TrimSpace(text):
		return fmt.Errorf("%s %q begins or ends with a blank", name, text)
	case utf8.RuneCountInString(text) > limit:
		return fmt.Errorf("%s %q is %d characters long; %d fit", name, text, utf8.RuneCountInString(text), limit)
	}
	return nil
}

// CheckPassword refuses what can only be a mistake. Length is the company's policy, not ours.
func CheckPassword(clear string) error {
	if clear == "" {
		return errors.New("the password is empty")
	}
	if strings.ContainsFunc(clear, unicode.IsControl) {
		return errors.New("the password holds a control character, such as a line end")
	}
	return nil
}

// letters of generated passwords and salts: none that looks like another. There are 32, so a byte picks one evenly.
const letters = "abcdefghijkmnpqrstuvwxyz23456789"

func randomLetters(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b)
}

// GeneratePassword makes a password of 80 random bits that can be read out over the telephone.
func GeneratePassword() string {
	return randomLetters(4) + "-" + randomLetters(4) + "-" + randomLetters(4) + "-" + randomLetters(4)
}

// hashPassword returns what the store keeps of a clear password, and a new salt.
func hashPassword(clear string) (hash, salt string) {
	salt = randomLetters(4)
	return im.HashPassword(im.ClientPassword(clear), salt), salt
}

// account is what the store takes.
func (u *NewUser) account() im.Account {
	hash, salt := hashPassword(u.Password)
	return im.Account{User: u.User, Password: hash, Salt: salt}
}

// AddUsers adds the users, all or none, and returns their ids.
func AddUsers(ctx context.Context, s im.UserStore, users []NewUser) ([]uint32, error) {
	accounts := make([]im.Account, len(users))
	for i := range users {
		accounts[i] = users[i].account()
	}
	return s.CreateUsers(ctx, accounts)
}

// ListBatch is how many users are read at once.
const ListBatch = 1000

// EachUser calls do for every user in order of id, in slices of at most listBatch.
func EachUser(ctx context.Context, s im.UserStore, do func([]im.User) error) error {
	for after := uint32(0); ; {
		users, err := s.ListUsers(ctx, after, ListBatch)
		if err != nil || len(users) == 0 {
			return err
		}
		if err := do(users); err != nil {
			return err
		}
		after = users[len(users)-1].ID
	}
}

// TakenNames returns the names in use, folded as foldName does.
func TakenNames(ctx context.Context, s im.UserStore) (map[string]bool, error) {
	taken := map[string]bool{}
	err := EachUser(ctx, s, func(users []im.User) error {
		for _, u := range users {
			taken[FoldName(u.Name)] = true
		}
		return nil
	})
	return taken, err
}

// FoldName makes names equal that differ in case only. The store has the last word on which names are one.
func FoldName(name string) string { return strings.ToLower(name) }

// SetPassword gives the user a new password.
func SetPassword(ctx context.Context, s im.UserStore, name, clear string) error {
	if err := CheckPassword(clear); err != nil {
		return err
	}
	a, err := FindUser(ctx, s, name)
	if err != nil {
		return err
	}
	hash, salt := hashPassword(clear)
	return s.SetPassword(ctx, a.ID, hash, salt)
}

// FindUser looks a user up by name, or else by id; by id, password and salt are not set.
func FindUser(ctx context.Context, s im.UserStore, name string) (im.Account, error) {
	a, err := s.AccountByName(ctx, name)
	if err == nil || im.KindOf(err) != im.NotFound {
		return a, err
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		users, err := s.Users(ctx, []uint32{uint32(id)})
		if err != nil {
			return a, err
		}
		if len(users) > 0 {
			return im.Account{User: users[0]}, nil
		}
		return a, im.Errorf(im.NotFound, "no user has the name or id %q; see teamtalk user list", name)
	}
	return a, im.Errorf(im.NotFound, "no user has the name %q; see teamtalk user list", name)
}

// ReadPassword takes the first line of r.
func ReadPassword(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	if strings.TrimSpace(rest) != "" {
		return "", errors.New("want one line with the password on standard input, got more")
	}
	return strings.TrimSuffix(line, "\r"), nil
}

// statusNames are the standings of users, in words.
var statusNames = map[im.UserStatus]string{
	im.StatusOK: "ok", im.StatusTrial: "trial", im.StatusRegular: "regular", im.StatusDeparted: "disabled", im.StatusIntern: "intern",
}

// StatusName returns the word for a user's status.
func StatusName(s im.UserStatus) string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return fmt.Sprint("status ", uint32(s))
}

// genders as they are written in files and flags.
var genders = map[string]uint32{"": 0, "m": 1, "f": 2}

// ParseGender reads a gender: m, f, or nothing for unknown.
func ParseGender(text string) (uint32, error) {
	g, ok := genders[strings.ToLower(text)]
	if !ok {
		return 0, fmt.Errorf("gender %q is none of m, f, and nothing for unknown", text)
	}
	return g, nil
}

// GenderName returns what ParseGender reads as g.
func GenderName(g uint32) string {
	for name, n := range genders {
		if n == g {
			return name
		}
	}
	return ""
}
