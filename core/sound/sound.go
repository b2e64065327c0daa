// Package sound stores the sounds of audio messages under names that it chooses. They lie
// in a blob store of their own, or on the small file server, which any number of
// processes share: that of this process, or another one over HTTP. A sound is written
// once and never changes.
package sound

import (
	"context"
	"strings"

	"teamtalk/core/im"
)

// Store stores sounds. Its methods may be called from any goroutine. Errors are of kind
// Invalid for a file that is too large, NotFound for one that does not exist, Unavailable
// when the server was not reached or failed, and otherwise Internal.
type Store interface {
	// Put stores data and returns its URL, which is always a new one. The URL may end
	// with the extension of name. When Put returns without an error, data is as safe as
	// the implementation can make it. Put does not retain data.
	Put(ctx context.Context, name string, data []byte) (url string, err error)
	// Get returns the file that was put under url. The caller owns the result.
	Get(ctx context.Context, url string) ([]byte, error)
}

// tooBig is the error for a file of more than max bytes.
func tooBig(size, max int64) error {
	return im.Errorf(im.Invalid, "the file has %d bytes, the limit is %d", size, max)
}

// maxExtension is the longest extension that is kept, without its dot.
const maxExtension = 8

// extension returns the extension of name with its dot. It returns "" for an extension
// that is longer than maxExtension or has other characters than lower-case letters and
// digits.
func extension(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i < 0 || i == len(name)-1 || len(name)-i-1 > maxExtension {
		return ""
	}
	for _, c := range name[i+1:] {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return ""
		}
	}
	return name[i:]
}
