// Package kdf derives the stored form of a password with argon2id, which costs memory and
// time, so that a copy of a table of users is of little use for guessing.
//
// The form is a PHC string: $argon2id$v=19$m=8192,t=2,p=1$SALT$SUM. It holds its own
// costs, so that rows of different costs stand in one table. Any goroutine.
package kdf

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Params are the costs of one derivation.
type Params struct {
	Memory uint32 // KiB
	Passes uint32 // over the memory
	Lanes  uint8  // that a derivation may fill in parallel; New makes one
}

// The largest costs of a form that Parse accepts. A row of the table must not make a server
// allocate any amount of memory.
const (
	MaxMemory = 256 << 10 // KiB
	MaxPasses = 64
	maxLanes  = 16
)

// MaxForm is the length of the longest form, in bytes, with some room.
const MaxForm = 128

const (
	prefix  = "$argon2id$"
	saltLen = 16
	sumLen  = 32
	maxPart = 64 // of a salt or a sum that another program wrote
)

// encoding is that of PHC strings.
var encoding = base64.RawStdEncoding.Strict()

// Form is a parsed stored form. The zero value matches no password.
type Form struct {
	Params
	Salt []byte
	sum  []byte
}

// Is reports whether a stored password is a form of this package rather than another hash.
func Is(stored string) bool { return strings.HasPrefix(stored, prefix) }

// New derives the form of a password with a new salt. It panics with costs that Check
// rejects.
func New(p Params, password string) string {
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails
	return With(p, password, salt)
}

// With is New with a given salt.
func With(p Params, password string, salt []byte) string {
	p.Lanes = max(p.Lanes, 1)
	if err := p.Check(); err != nil {
		panic(err)
	}
	f := Form{Params: p, Salt: salt}
	f.sum = f.derive(password, sumLen)
	return f.String()
}

// Check returns an error when the costs are outside of what Parse accepts.
func (p Params) Check() error {
	switch lanes := uint32(p.Lanes); {
	case lanes < 1 || lanes > maxLanes:
		return fmt.Errorf("argon2id: %d lanes are outside 1 to %d", lanes, maxLanes)
	case p.Memory < 8*lanes || p.Memory > MaxMemory:
		return fmt.Errorf("argon2id: %d KiB of memory are outside %d to %d", p.Memory, 8*lanes,
			MaxMemory)
	case p.Passes < 1 || p.Passes > MaxPasses:
		return fmt.Errorf("argon2id: %d passes are outside 1 to %d", p.Passes, MaxPasses)
	}
	return nil
}

// Below reports whether a derivation with p costs less memory, or fewer passes, than one
// with q.
func (p Params) Below(q Params) bool { return p.Memory < q.Memory || p.Passes < q.Passes }

// String returns the stored form.
func (f Form) String() string {
	return fmt.Sprintf(prefix+"v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, f.Memory, f.Passes,
		f.Lanes, encoding.EncodeToString(f.Salt), encoding.EncodeToString(f.sum))
}

// errForm is the error for a text that is not a form.
var errForm = errors.New("argon2id: the stored password has no known form")

// Parse parses a stored form.
func Parse(stored string) (Form, error) {
	rest, ok := strings.CutPrefix(stored, prefix)
	parts := strings.Split(rest, "$")
	if !ok || len(stored) > MaxForm || len(parts) != 4 {
		return Form{}, errForm
	}
	var f Form
	var version int
	head := parts[0] + "$" + parts[1]
	if _, err := fmt.Sscanf(head, "v=%d$m=%d,t=%d,p=%d", &version, &f.Memory, &f.Passes,
		&f.Lanes); err != nil {
		return Form{}, errForm
	}
	var err, err2 error
	f.Salt, err = encoding.DecodeString(parts[2])
	f.sum, err2 = encoding.DecodeString(parts[3])
	if errors.Join(err, err2) != nil || version != argon2.Version || f.String() != stored ||
		len(f.Salt) < 8 || len(f.Salt) > maxPart || len(f.sum) < 16 || len(f.sum) > maxPart {
		return Form{}, errForm
	}
	if err := f.Check(); err != nil {
		return Form{}, err
	}
	return f, nil
}

// Matches reports whether the form is that of a password. It takes the time and memory of
// the form's costs.
func (f Form) Matches(password string) bool {
	if len(f.sum) == 0 {
		return false
	}
	return subtle.ConstantTimeCompare(f.derive(password, uint32(len(f.sum))), f.sum) == 1
}

// derive returns n bytes.
func (f Form) derive(password string, n uint32) []byte {
	return argon2.IDKey([]byte(password), f.Salt, f.Passes, f.Memory, f.Lanes, n)
}
