// Package admin holds the operations of administrators on users, groups and departments.
// Commands of the shell call them, and the demo and bench fill make their users with
// them.
package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"

	"teamtalk/core/im"
)

// NewUser is a user to be added.
type NewUser struct {
	im.User
	Password string // clear
	// Department is the id, the name or the path of the department, until Place looks it up.
	// Empty: there is none.
	Department string
	Line       int // in the file of users; 0 without a file
}

// Place looks up the departments. It calls fail for each user whose department does not exist. A
// number that is no name is an id, whose department may follow: files of users have the ids of the
// system from which they come.
func Place(ctx context.Context, s im.DepartStore, users []NewUser,
	fail func(u *NewUser, err error)) error {
	var all *Departs
	for i := range users {
		u := &users[i]
		if u.Department == "" {
			continue
		}
		if all == nil {
			var err error
			if all, err = ReadDeparts(ctx, s); err != nil {
				return err
			}
		}
		var err error
		if u.DepartID, err = all.FindParent(u.Department); err == nil {
			continue
		}
		if id, bad := strconv.ParseUint(u.Department, 10, 32); bad == nil {
			u.DepartID = uint32(id)
		} else {
			fail(u, err)
		}
	}
	return nil
}

// fieldLimits holds the longest texts of the tables, in characters.
var fieldLimits = []struct {
	name  string
	limit int
	of    func(*NewUser) *string
}{
	{"name", im.MaxName, func(u *NewUser) *string { return &u.Name }},
	{"nick", im.MaxName, func(u *NewUser) *string { return &u.Nick }},
	{"domain", im.MaxName, func(u *NewUser) *string { return &u.Domain }},
	{"phone", im.MaxPhone, func(u *NewUser) *string { return &u.Phone }},
	{"email", im.MaxEmail, func(u *NewUser) *string { return &u.Email }},
	{"avatar", im.MaxAvatar, func(u *NewUser) *string { return &u.Avatar }},
}

// Complete checks a user. An empty nick and an empty domain become the name.
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

// CheckText rejects a text that is longer than limit characters, and a text that can only
// be a mistake. name is the field, for the error.
func CheckText(name, text string, limit int) error {
	return im.CheckTyped(fmt.Sprintf("%s %q", name, text), text, limit)
}

// CheckName checks the name of a group or a department, as kind says.
func CheckName(kind, name string, limit int) error {
	if name == "" {
		return fmt.Errorf("a %s needs a name", kind)
	}
	return CheckText("name", name, limit)
}

// CheckPassword rejects a password that can only be a mistake. The length is the
// company's policy.
func CheckPassword(clear string) error {
	if clear == "" {
		return errors.New("the password is empty")
	}
	if strings.ContainsFunc(clear, unicode.IsControl) {
		return errors.New("the password holds a control character, such as a line end")
	}
	return nil
}

// letters holds the letters of generated passwords. No two look alike. There
// are 32, so that the bits of a byte select each with the same probability.
const letters = "abcdefghijkmnpqrstuvwxyz23456789"

// randomLetters returns n random letters.
func randomLetters(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b)
}

// GeneratePassword returns a password of 80 random bits that can be dictated over the
// telephone.
func GeneratePassword() string {
	return randomLetters(4) + "-" + randomLetters(4) + "-" + randomLetters(4) + "-" +
		randomLetters(4)
}

// AddUsers adds users in one transaction, all or none, and returns their ids.
func AddUsers(ctx context.Context, s im.UserStore, policy im.PasswordPolicy,
	users []NewUser) ([]uint32, error) {
	passwords := make([]im.StoredPassword, len(users))
	// With argon2id each password costs milliseconds, so all cores derive. Rows in md5 that move
	// at the first login would cost nothing here, and be guessed while their users have not come
	// yet. Rows with low costs would tell by their time which users these are.
	var next atomic.Int64
	var cores sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(users)) {
		cores.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(users)) {
					return
				}
				passwords[i] = policy.Store(im.ClientPassword(users[i].Password))
			}
		})
	}
	cores.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return addUsers(ctx, s, users, passwords)
}

// addUsers adds users with stored passwords.
func addUsers(ctx context.Context, s im.UserStore, users []NewUser,
	passwords []im.StoredPassword) ([]uint32, error) {
	accounts := make([]im.Account, len(users))
	for i, u := range users {
		accounts[i] = im.Account{User: u.User, Password: passwords[i].Hash,
			Salt: passwords[i].Salt}
	}
	return s.CreateUsers(ctx, accounts)
}

// listBatch is how many users one request to the store reads.
const listBatch = 1000

// EachUser calls do with slices of all users, at most listBatch long, in the order of
// their ids.
func EachUser(ctx context.Context, s im.UserStore, do func([]im.User) error) error {
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

// TakenNames returns the names of all users, folded by FoldName.
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

// FoldName returns a name in lower case. The store decides whether two names are equal;
// folded names find most collisions before the store does.
func FoldName(name string) string { return strings.ToLower(name) }

// SetPassword gives the user a new password.
func SetPassword(ctx context.Context, s im.UserStore, policy im.PasswordPolicy, name,
	clear string) error {
	if err := CheckPassword(clear); err != nil {
		return err
	}
	a, err := FindUser(ctx, s, name)
	if err != nil {
		return err
	}
	p := policy.Store(im.ClientPassword(clear))
	return s.SetPassword(ctx, a.ID, p.Hash, p.Salt)
}

// byID begins a text that means an id, whatever the names of users are.
const byID = "id:"

// FindUser returns the user with a name, else with an id. A text such as id:7 means the id alone:
// a user may have registered the name 7. The account of a user found by id has no password and no
// salt.
func FindUser(ctx context.Context, s im.UserStore, name string) (im.Account, error) {
	digits, onlyID := strings.CutPrefix(name, byID)
	id, err := strconv.ParseUint(digits, 10, 32)
	isID := err == nil
	if !onlyID || !isID {
		a, err := s.AccountByName(ctx, name)
		if err == nil || im.KindOf(err) != im.NotFound {
			return a, err
		}
	}
	if !isID {
		return im.Account{}, im.Errorf(im.NotFound,
			"no user has the name %q; see teamtalk user list", name)
	}
	users, err := s.Users(ctx, []uint32{uint32(id)})
	if err != nil {
		return im.Account{}, err
	}
	if len(users) == 0 {
		return im.Account{}, im.Errorf(im.NotFound,
			"no user has the name or id %q; see teamtalk user list", name)
	}
	return im.Account{User: users[0]}, nil
}

// ReadPassword reads the only line of r.
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

// statusNames holds the words for the statuses of users.
var statusNames = map[im.UserStatus]string{
	im.StatusOK: "ok", im.StatusTrial: "trial", im.StatusRegular: "regular",
	im.StatusDeparted: "disabled", im.StatusIntern: "intern",
}

// StatusName returns the word for a user's status.
func StatusName(s im.UserStatus) string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return fmt.Sprint("status ", uint32(s))
}

// genders holds the values of genders by their letters in files and flags.
var genders = map[string]uint32{"": 0, "m": 1, "f": 2}

// ParseGender parses a gender: m, f, or an empty text for unknown.
func ParseGender(text string) (uint32, error) {
	g, ok := genders[strings.ToLower(text)]
	if !ok {
		return 0, fmt.Errorf("gender %q is none of m, f, and nothing for unknown", text)
	}
	return g, nil
}

// GenderName returns the text that ParseGender parses as g.
func GenderName(g uint32) string {
	for name, n := range genders {
		if n == g {
			return name
		}
	}
	return ""
}
