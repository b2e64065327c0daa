package im

import (
	"context"
	"time"
)

// LoginMark records something about logins, such as a wrong password.
type LoginMark struct {
	Value string // what is recorded, at most MaxLoginMark bytes
	At    uint32 // when, in unix seconds
}

// MaxLoginMark is the longest value of a LoginMark, in bytes.
const MaxLoginMark = 32

// LoginMarkKind says what marks record.
type LoginMarkKind uint8

// The kinds of marks.
const (
	// FailuresOfName are the wrong passwords for a login name. A mark that is put again
	// keeps its time.
	FailuresOfName LoginMarkKind = iota + 1
	// FailuresOfNetwork are the wrong passwords from a network. A mark that is put again
	// keeps its time.
	FailuresOfNetwork
	// NetworksOfUser are the networks from which a user has logged in. A mark that is put
	// again gets the new time. A store does not drop them to make room for failures.
	NetworksOfUser
)

// Most returns how many marks of this kind a key has at most. A further one replaces the
// oldest.
func (k LoginMarkKind) Most() int {
	switch k {
	case FailuresOfName:
		return 512
	case FailuresOfNetwork:
		return 1024
	}
	return 16
}

// Renews reports whether a mark that is put again gets the new time.
func (k LoginMarkKind) Renews() bool { return k == NetworksOfUser }

// MaxFailureKeys is at least the number of keys with failures that a store keeps. With more,
// it may drop those whose marks expire first.
const MaxFailureKeys = 1 << 16

// LoginMarkKey is the key of marks.
type LoginMarkKey struct {
	Kind LoginMarkKind
	Key  string // printable, at most 64 bytes
}

// NewLoginMark is a mark to be put under a key.
type NewLoginMark struct {
	LoginMarkKey
	LoginMark
	// Keep is for how long the marks of the key are kept, in whole seconds.
	Keep time.Duration
}

// LoginMarkDrop removes marks of a key.
type LoginMarkDrop struct {
	LoginMarkKey
	Values []string // nil: all marks of the key
}

// LoginStore keeps marks about logins, for all processes on the same databases. Marks need
// not survive a crash of a database: then passwords are counted anew.
type LoginStore interface {
	// NameKeys returns a key for each name. Names that AccountsByName takes for the same
	// name have the same key, others have different ones, and whether a user has the name
	// makes no difference. A name that no user can have may have any key.
	NameKeys(ctx context.Context, names []string) ([]string, error)
	// LoginMarks returns the marks of each key, oldest first. Some may be older than they
	// are kept.
	LoginMarks(ctx context.Context, keys []LoginMarkKey) ([][]LoginMark, error)
	// FailureNetworks returns the keys of the kind FailuresOfNetwork, in any order and each
	// once. Some may have no marks that still count.
	FailureNetworks(ctx context.Context) ([]string, error)
	// ChangeLoginMarks removes marks, and then puts others. Invalid as CheckLoginMark says;
	// then nothing is changed. After another error, some of the changes may have been made.
	ChangeLoginMarks(ctx context.Context, drops []LoginMarkDrop, puts []NewLoginMark) error
}

// CheckLoginMark returns the reason why a mark cannot be stored, with kind Invalid.
func CheckLoginMark(m *NewLoginMark) error {
	switch {
	case m.Kind < FailuresOfName || m.Kind > NetworksOfUser:
		return Errorf(Invalid, "login mark of unknown kind %d", m.Kind)
	case m.Key == "" || len(m.Key) > 64:
		return Errorf(Invalid, "key of a login mark has %d bytes", len(m.Key))
	case len(m.Value) > MaxLoginMark:
		return Errorf(Invalid, "login mark has %d bytes", len(m.Value))
	case m.Keep < time.Second:
		return Errorf(Invalid, "login mark is to be kept for %s", m.Keep)
	}
	return nil
}
