// Package files keeps small files – the sound of audio messages – under names it gives itself: in a blob store of its own, or on the small file
// server – of this process, or over HTTP – which any number of processes share. Files are written once, and never change.
package files

import (
	"context"
	"strings"

	"teamtalk/core/im"
)

// Files keeps small files. Its methods may be called from many goroutines. Errors carry a Kind: Invalid for a file that is too big, NotFound for one that is not
// there, Unavailable when the other side cannot be reached or is in trouble, else Internal.
type Files interface {
	// Put keeps data and returns the URL to get it by, which is never one returned before. Of name, what follows the last dot may become part of
	// it. When Put returns without an error, data is kept as safely as the implementation can. data is not kept in memory.
	Put(ctx context.Context, name string, data []byte) (url string, err error)
	// Get returns what was put under url. The result is the caller's.
	Get(ctx context.Context, url string) ([]byte, error)
}

// DefaultMaxSize is the biggest file taken and returned unless set otherwise, in bytes: what the small file server takes.
const DefaultMaxSize = 10 << 20

// tooBig says that a file is bigger than max bytes.
func tooBig(size int64, max int) error {
	return im.Errorf(im.Invalid, "file of %d bytes, at most %d are taken", size, max)
}

// maxExtension is the longest extension kept, without its dot.
const maxExtension = 8

// extension returns name's, with its dot: "" when it has none of small letters and digits.
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
