package files

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"

	"teamtalk/core/blob"
	"teamtalk/core/im"
)

// Blobs keeps files in a blob.Store under names it draws at random, spread over 256 folders. Its URLs are these names; it finds nothing else in the
// store.
type Blobs struct {
	store blob.Store
	max   int
}

var _ Files = (*Blobs)(nil)

// randomBytes are in a name, so that names do not meet, and nobody guesses one.
const randomBytes = 16

// NewBlobs keeps files in store. maxSize is the biggest file, in bytes; 0: DefaultMaxSize.
func NewBlobs(store blob.Store, maxSize int) *Blobs {
	if maxSize <= 0 {
		maxSize = DefaultMaxSize
	}
	return &Blobs{store: store, max: maxSize}
}

// Put keeps data, see Files. When it returns without an error the file survives a crash. Errors are also of kind Busy, when the store has no room.
func (b *Blobs) Put(ctx context.Context, name string, data []byte) (string, error) {
	if len(data) > b.max {
		return "", tooBig(int64(len(data)), b.max)
	}
	random := make([]byte, randomBytes)
	_, _ = rand.Read(random) // does not fail
	stem := hex.EncodeToString(random)
	url := stem[:2] + "/" + stem + extension(name)
	if _, err := b.store.Put(ctx, url, bytes.NewReader(data), ""); err != nil {
		return "", err
	}
	return url, nil
}

// Get returns a file, see Files.
func (b *Blobs) Get(ctx context.Context, url string) ([]byte, error) {
	if !named(url) {
		return nil, im.Errorf(im.NotFound, "no such file")
	}
	file, err := b.store.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	return readBlob(file, b.max)
}

// named reports whether url is one that Put makes: "6f/6f0c…", 32 small hexadecimal digits, and an extension.
func named(url string) bool {
	const stem = 2 * randomBytes
	if len(url) < 3+stem || url[2] != '/' || url[:2] != url[3:5] {
		return false
	}
	for _, c := range url[3 : 3+stem] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	rest := url[3+stem:]
	return rest == "" || (rest[0] == '.' && extension(rest) == rest)
}
