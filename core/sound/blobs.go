package sound

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/opt"
)

// Blobs stores sounds in a blob.Store, under random names that are spread over 256
// folders. The names are its URLs. It opens no other names of the store.
type Blobs struct {
	store blob.Store
	max   int
}

var _ Store = (*Blobs)(nil)

// randomBytes is the length of a name's random part. It makes names unique and impossible
// to guess.
const randomBytes = 16

// NewBlobs stores sounds in store. maxSize is the largest one, in bytes.
func NewBlobs(store blob.Store, maxSize int) *Blobs {
	opt.Require("sound.maxSize", maxSize)
	return &Blobs{store: store, max: maxSize}
}

// Put stores data, see Store. After it returns without an error the file survives a
// crash. The error is of kind Busy when the store has no room.
func (b *Blobs) Put(ctx context.Context, name string, data []byte) (string, error) {
	if len(data) > b.max {
		return "", tooBig(int64(len(data)), int64(b.max))
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

// Get returns a sound, see Store.
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

// named reports whether url has the form of Put's: "6f/6f0c…", 32 hexadecimal digits in
// lower case, and an extension.
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
