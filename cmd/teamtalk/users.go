package main

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

// What is done to users, without the commands around it: an HTTP administration will need the same.

// newUser is a user to be added.
type newUser struct {
	im.User
	password string // clear
	line     int    // of the file it came from; 0 without
}

// fieldLimits are the longest texts that the tables take, in characters.
var fieldLimits = []struct {
	name  string
	limit int
	of    func(*newUser) *string
}{
	{"name", 32, func(u *newUser) *string { return &u.Name }},
	{"nick", 32, func(u *newUser) *string { return &u.Nick }},
	{"domain", 32, func(u *newUser) *string { return &u.Domain }},
	{"phone", 11, func(u *newUser) *string { return &u.Phone }},
	{"email", 64, func(u *newUser) *string { return &u.Email }},
	{"avatar", 255, func(u *newUser) *string { return &u.Avatar }},
}

// complete checks a user and fills in what was left open: nick and domain are the name.
func (u *newUser) complete() error {
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
		if err := checkText(f.name, *f.of(u), f.limit); err != nil {
			return err
		}
	}
	return checkPassword(u.password)
}

// checkText refuses texts that do not fit, limit in characters, and those that can only be a mistake.
func checkText(name, text string, limit int) error {
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

// checkPassword refuses what can only be a mistake. Length is the company's policy, not ours.
func checkPassword(clear string) error {
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

// generatePassword makes a password of 80 random bits that can be read out over the telephone.
func generatePassword() string {
	return randomLetters(4) + "-" + randomLetters(4) + "-" + randomLetters(4) + "-" + randomLetters(4)
}

// hashPassword returns what the store keeps of a clear password, and a new salt.
func hashPassword(clear string) (hash, salt string) {
	salt = randomLetters(4)
	return im.HashPassword(im.ClientPassword(clear), salt), salt
}

// account is what the store takes.
func (u *newUser) account() im.Account {
	hash, salt := hashPassword(u.password)
	return im.Account{User: u.User, Password: hash, Salt: salt}
}

// addUsers adds the users, all or none, and returns their ids.
func addUsers(ctx context.Context, s im.UserStore, users []newUser) ([]uint32, error) {
	accounts := make([]im.Account, len(users))
	for i := range users {
		accounts[i] = users[i].account()
	}
	return s.CreateUsers(ctx, accounts)
}

// listBatch is how many users are read at once.
const listBatch = 1000

// eachUser calls do for every user in order of id, in slices of at most listBatch.
func eachUser(ctx context.Context, s im.UserStore, do func([]im.User) error) error {
	for after := uint32(0); ; {
		users, err := s.ListUsers(ctx, after, listBatch)
		if err != nil || len(users) == 0 {
			return err
		}
		if err := do(users); err != nil {
			return err
		}
		after = users[len(users)-1].ID
	}
}

// takenNames returns the names in use, folded as foldName does.
func takenNames(ctx context.Context, s im.UserStore) (map[string]bool, error) {
	taken := map[string]bool{}
	err := eachUser(ctx, s, func(users []im.User) error {
		for _, u := range users {
			taken[foldName(u.Name)] = true
		}
		return nil
	})
	return taken, err
}

// foldName makes names equal that differ in case only. The store has the last word on which names are one.
func foldName(name string) string { return strings.ToLower(name) }

// setPassword gives the user a new password.
func setPassword(ctx context.Context, s im.UserStore, name, clear string) error {
	if err := checkPassword(clear); err != nil {
		return err
	}
	a, err := findUser(ctx, s, name)
	if err != nil {
		return err
	}
	hash, salt := hashPassword(clear)
	return s.SetPassword(ctx, a.ID, hash, salt)
}

// findUser looks a user up by name, or else by id; by id, password and salt are not set.
func findUser(ctx context.Context, s im.UserStore, name string) (im.Account, error) {
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

// readPassword takes the first line of r.
func readPassword(r io.Reader) (string, error) {
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

func statusName(s im.UserStatus) string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return fmt.Sprint("status ", uint32(s))
}

// genders as they are written in files and flags.
var genders = map[string]uint32{"": 0, "m": 1, "f": 2}

func parseGender(text string) (uint32, error) {
	g, ok := genders[strings.ToLower(text)]
	if !ok {
		return 0, fmt.Errorf("gender %q is none of m, f, and nothing for unknown", text)
	}
	return g, nil
}
