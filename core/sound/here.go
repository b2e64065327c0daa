package sound

import (
	"bytes"
	"context"
	"io"
	"strings"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/opt"
)

// Server is the small file server of this process: an msfs.Server.
type Server interface {
	// Put stores what r yields and returns the URL under which the server serves it.
	Put(ctx context.Context, name string, r io.Reader) (url string, err error)
	// Open opens the file at a URL that Put returned, even if the server's address has
	// changed since. The error is of kind NotFound for any other URL.
	Open(ctx context.Context, url string) (*blob.Blob, error)
}

// HereOptions configure a Here.
type HereOptions struct {
	// Server stores the files. Required.
	Server Server
	// URL is the address of Server for others. The URLs that Put returns begin with it.
	URL string
	// Elsewhere fetches files of other small file servers. Default: none.
	Elsewhere Store
	// MaxSize is the largest file, in bytes. Required.
	MaxSize int
}

// Here stores sounds on the small file server of this process, without the network. They
// lie among that server's other files, and clients can fetch them over HTTP by their
// URLs.
type Here struct{ o HereOptions }

var _ Store = (*Here)(nil)

// NewHere makes a Here.
func NewHere(o HereOptions) *Here {
	opt.Require("sound.MaxSize", o.MaxSize)
	o.URL = strings.TrimSuffix(o.URL, "/") + "/"
	return &Here{o: o}
}

// Put stores data, see Store. After it returns without an error the file survives a
// crash. The error is of kind Busy when the server has no room.
func (h *Here) Put(ctx context.Context, name string, data []byte) (string, error) {
	if len(data) > h.o.MaxSize {
		return "", tooBig(int64(len(data)), int64(h.o.MaxSize))
	}
	return h.o.Server.Put(ctx, name, bytes.NewReader(data))
}

// Get returns a sound, see Store.
func (h *Here) Get(ctx context.Context, url string) ([]byte, error) {
	file, err := h.o.Server.Open(ctx, url)
	if im.KindOf(err) == im.NotFound && h.o.Elsewhere != nil && !strings.HasPrefix(url, h.o.URL) {
		return h.o.Elsewhere.Get(ctx, url)
	}
	if err != nil {
		return nil, err
	}
	return readBlob(file, h.o.MaxSize)
}

// readBlob reads a whole file and closes it.
func readBlob(file *blob.Blob, limit int) ([]byte, error) {
	defer file.Close() // read only
	if file.Size > int64(limit) {
		return nil, tooBig(file.Size, int64(limit))
	}
	data := make([]byte, file.Size)
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, im.WithKind(im.Unavailable, "read file", err)
	}
	return data, nil
}

// Moved stores new sounds in Store and still finds the sounds that Blobs stored before
// the move.
type Moved struct {
	Store
	old *Blobs
}

// NewMoved makes a Moved. It stores new sounds in now.
func NewMoved(now Store, old *Blobs) *Moved { return &Moved{Store: now, old: old} }

// Get returns a sound, see Store.
func (m *Moved) Get(ctx context.Context, url string) ([]byte, error) {
	if named(url) {
		return m.old.Get(ctx, url)
	}
	return m.Store.Get(ctx, url)
}
