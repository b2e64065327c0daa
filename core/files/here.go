package files

import (
	"bytes"
	"context"
	"io"
	"strings"

	"teamtalk/core/blob"
	"teamtalk/core/im"
)

// Server is the small file server of this process: an msfs.Server.
type Server interface {
	// Put keeps what r yields and returns the URL under which it is served.
	Put(ctx context.Context, name string, r io.Reader) (url string, err error)
	// Open opens the file at a URL that Put returned, also if the server was reached under another address then; NotFound for every other.
	Open(ctx context.Context, url string) (*blob.Blob, error)
}

// HereOptions set up a Here. Zero values mean the defaults.
type HereOptions struct {
	// Server keeps the files. Required.
	Server Server
	// URL is how others reach Server, as it stands before what Put returns.
	URL string
	// Elsewhere is asked for files of other small file servers. Default: there are none.
	Elsewhere Files
	// MaxSize is the biggest file, in bytes. Default DefaultMaxSize.
	MaxSize int
}

// Here keeps files on the small file server of this process, without a way over the network: they lie with all others, and everybody can fetch them over HTTP by
// their URLs.
type Here struct{ o HereOptions }

var _ Files = (*Here)(nil)

// NewHere makes a Here.
func NewHere(o HereOptions) *Here {
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	o.URL = strings.TrimSuffix(o.URL, "/") + "/"
	return &Here{o: o}
}

// Put keeps data, see Files. When it returns without an error the file survives a crash. Errors are also of kind Busy, when the server has no room.
func (h *Here) Put(ctx context.Context, name string, data []byte) (string, error) {
	if len(data) > h.o.MaxSize {
		return "", tooBig(int64(len(data)), h.o.MaxSize)
	}
	return h.o.Server.Put(ctx, name, bytes.NewReader(data))
}

// Get returns a file, see Files.
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

// readBlob reads a file whole, and closes it.
func readBlob(file *blob.Blob, limit int) ([]byte, error) {
	defer file.Close() // read only
	if file.Size > int64(limit) {
		return nil, tooBig(file.Size, limit)
	}
	data := make([]byte, file.Size)
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, im.WithKind(im.Unavailable, "file not read", err)
	}
	return data, nil
}

// Moved is Files that were kept in Blobs before: these are still found.
type Moved struct {
	Files
	old *Blobs
}

// NewMoved makes a Moved: new files are kept in files.
func NewMoved(files Files, old *Blobs) *Moved { return &Moved{Files: files, old: old} }

// Get returns a file, see Files.
func (m *Moved) Get(ctx context.Context, url string) ([]byte, error) {
	if named(url) {
		return m.old.Get(ctx, url)
	}
	return m.Files.Get(ctx, url)
}
