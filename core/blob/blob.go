// Package blob keeps small files by name: pictures, avatars, the sound of audio messages. There are two stores: a folder, and S3 or what
// speaks its protocol. A blob is whole or not there, and never changes: who stores again takes another name.
package blob

import (
	"bufio"
	"context"
	"io"
	"strings"
	"time"

	"teamtalk/core/im"
)

// Store keeps blobs. Its methods may be called from anywhere. Errors are of kind Invalid for a name that Check refuses, NotFound, Busy when there is
// no room, Unavailable when the store cannot be reached.
type Store interface {
	// Put stores what r yields until io.EOF, and returns its size in bytes. When r fails nothing is stored, and the error is r's; nothing at all is
	// Invalid. When it returns without an error the blob survives a crash.
	Put(ctx context.Context, name string, r io.Reader, contentType string) (int64, error)
	// Open returns a blob, to be closed.
	Open(ctx context.Context, name string) (*Blob, error)
	// Delete removes a blob; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	// Ping reports whether blobs can be stored and read now.
	Ping(ctx context.Context) error
}

// Blob is a stored file, open for reading.
type Blob struct {
	io.ReadSeekCloser
	Size     int64 // bytes
	Modified time.Time
	ETag     string // with its quotes, as HTTP has it
}

// maxName is the longest name, in bytes; IMAudio.path holds 255 characters with the server's URL before it.
const maxName = 160

// Check says what is wrong with a name, nil when it may be used. Names are parts joined by slashes, of letters, digits, '-', '_' and '.', none of
// which begins with a dot: nothing outside a store can be named, on no system, and nothing of its own.
func Check(name string) error {
	if name == "" || len(name) > maxName {
		return im.Errorf(im.Invalid, "blob name of %d bytes; 1 to %d are allowed", len(name),
			maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' {
			return im.Errorf(im.Invalid, "blob name with an empty or hidden part")
		}
		for _, c := range []byte(part) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-',
				c == '_', c == '.':
			default:
				return im.Errorf(im.Invalid, "blob name with the character %q", c)
			}
		}
	}
	return nil
}

// some returns r unless it ends at once: an empty file is none, and not every server of S3's protocol takes one.
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
