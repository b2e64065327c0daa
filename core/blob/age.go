package blob

import (
	"context"
	"strings"
	"time"
)

// Aged is a Store that remembers when its blobs were read, for callers that delete those that
// are not needed any more. A blob that was read has a mark beside it: an entry with the blob's
// name and markEnd. The blob itself, its time and its ETag stay as they are, and so do backups
// of it.
type Aged interface {
	Store
	Ager
	// Mark records that a blob was read at a time. A store may use the time of its own
	// clock instead.
	Mark(ctx context.Context, name string, at time.Time) error
	// Unmark removes the mark of a blob. A mark that does not exist is no error.
	Unmark(ctx context.Context, name string) error
	// SetNote replaces the note of the store: a few bytes for the caller, which are no blob
	// and survive a crash.
	SetNote(ctx context.Context, note []byte) error
}

// Ager is the part of an Aged that changes nothing.
type Ager interface {
	// Age returns the age of one blob. The error is of kind NotFound when it does not exist.
	Age(ctx context.Context, name string) (Age, error)
	// Ages calls visit for the blobs in a folder and the folders below it, in the order of
	// the store, from the one behind the name after on; "": from the first one on. It
	// returns the first error of visit. Blobs that are stored or deleted meanwhile may be
	// missing. A mark without its blob is visited as an Age without Stored.
	Ages(ctx context.Context, folder, after string, visit func(Age) error) error
	// Note returns the note of the store; nil when there is none.
	Note(ctx context.Context) ([]byte, error)
}

// Age tells how old a blob is.
type Age struct {
	Name   string
	Size   int64     // bytes
	Stored time.Time // zero: the blob does not exist, only its mark
	Read   time.Time // the last time that Mark recorded; zero: never
}

// markEnd follows the name of a blob in the name of its mark. Names of blobs do not contain it,
// so nobody can open a mark. All characters of names follow it in the order of stores, so the
// mark of a blob is the next entry behind the blob.
const markEnd = "!"

// noteName is the name of the note. Names of blobs do not begin with a dot.
const noteName = ".expiry"

// maxNote bounds a note, in bytes.
const maxNote = 4 << 10

// pairing joins blobs with their marks. Its entries arrive in the order of the store.
type pairing struct {
	visit func(Age) error
	last  Age // a blob whose mark may follow
}

// entry takes the next entry: a blob, a mark, or something else, which it ignores.
func (p *pairing) entry(name string, size int64, at time.Time) error {
	blob, isMark := strings.CutSuffix(name, markEnd)
	if Check(blob) != nil {
		return nil
	}
	if isMark && blob == p.last.Name {
		p.last.Read = at
		return nil
	}
	if err := p.end(); err != nil {
		return err
	}
	if isMark {
		return p.visit(Age{Name: blob, Read: at})
	}
	p.last = Age{Name: name, Size: size, Stored: at}
	return nil
}

// end visits the last blob.
func (p *pairing) end() error {
	last := p.last
	p.last = Age{}
	if last.Name == "" {
		return nil
	}
	return p.visit(last)
}
