// Package blob stores files by name: pictures, avatars and the sounds of audio messages.
// It has two stores: a folder, and S3 or a server that speaks its protocol. A reader sees
// either a whole blob or none. A blob never changes: a new version needs a new name.
package blob

import (
	"bufio"
	"context"
	"io"
	"strings"
	"time"

	"teamtalk/core/im"
)

// Store stores blobs. Its methods may be called from any goroutine. Errors are of kind
// Invalid for a name that Check refuses, NotFound, Busy when there is no room, and
// Unavailable when the store was not reached.
type Store interface {
	// Put stores what r yields until io.EOF, and returns its size in bytes. When r fails,
	// nothing is stored and the error is r's. An empty r is an error of kind Invalid.
	// After Put returns without an error the blob survives a crash.
	Put(ctx context.Context, name string, r io.Reader, contentType string) (int64, error)
	// Open returns a blob. The caller must close it.
	Open(ctx context.Context, name string) (*Blob, error)
	// Delete removes a blob and its mark, see Aged. A blob that does not exist is no error.
	Delete(ctx context.Context, name string) error
	// Ping reports whether the store can store and read blobs now.
	Ping(ctx context.Context) error
}

// Blob is a stored file that is open for reading.
type Blob struct {
	io.ReadSeekCloser
	Size     int64 // bytes
	Modified time.Time
	ETag     string // with quotes, as in an HTTP header
}

// maxName is the longest name, in bytes. IMAudio.path holds 255 characters, including the
// server's URL before the name.
const maxName = 160

// Check returns an error of kind Invalid for a name that must not be used. A name is a
// sequence of parts joined by slashes. A part has letters, digits, '-', '_' and '.', and
// does not begin with a dot. So no name leads out of a store, on any system, or to the
// store's own files.
func Check(name string) error {
	if name == "" || len(name) > maxName {
		return im.Errorf(im.Invalid, "the blob name has %d bytes; 1 to %d are allowed", len(name),
			maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' {
			return im.Errorf(im.Invalid, "the blob name %q has an empty or hidden part", name)
		}
		for _, c := range []byte(part) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-',
				c == '_', c == '.':
			default:
				return im.Errorf(im.Invalid, "the blob name %q has the character %q", name, c)
			}
		}
	}
	return nil
}

// some returns r, and an error of kind Invalid when r is empty: not every server of S3's
// protocol accepts an empty file.
func some(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	switch _, err := b.Peek(1); err {
	case nil:
		return b, nil
	case io.EOF:
		return nil, im.Errorf(im.Invalid, "empty blob")
	default:
		return nil, err
	}
}
