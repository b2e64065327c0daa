package files

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"teamtalk/core/im"
)

// Folder keeps files in a directory of its own, for the processes of one machine. Names are random, and so are the 256 directories that files are spread over. A
// file has its name only once it is whole and on the disk: a crash leaves nothing half.
type Folder struct {
	root *os.Root
	max  int
}

var _ Files = (*Folder)(nil)

const (
	// unfinished is the directory of files that are being written.
	unfinished = "unfinished"
	// abandoned is how old a file there is that nobody writes any more.
	abandoned = time.Hour
	// randomBytes are in a name, so that names do not meet, and nobody guesses one.
	randomBytes = 16
)

// OpenFolder opens dir, which it makes, for this user alone, when it is missing; its parent must exist. maxSize is the biggest file, in bytes; 0:
// DefaultMaxSize. Close it.
func OpenFolder(dir string, maxSize int) (*Folder, error) {
	if maxSize <= 0 {
		maxSize = DefaultMaxSize
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, im.WithKind(im.Unavailable, "make the folder of files", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "open the folder of files", err)
	}
	f := &Folder{root: root, max: maxSize}
	if err := f.prepare(); err != nil {
		_ = root.Close() // the first error is the one to tell
		return nil, im.WithKind(im.Unavailable, "folder of files "+dir, err)
	}
	return f, nil
}

// prepare makes the directory of unfinished files, and removes those that a crash left there.
func (f *Folder) prepare() error {
	if err := f.mkdir(unfinished); err != nil {
		return err
	}
	entries, err := fs.ReadDir(f.root.FS(), unfinished)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > abandoned {
			err = f.root.Remove(filepath.Join(unfinished, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process cleans up, too
			return err
		}
	}
	return nil
}

// Put keeps data, see Files. When it returns, a crash of the machine does not lose it, as far as its disk tells the truth. ctx counts before the
// writing begins.
func (f *Folder) Put(ctx context.Context, name string, data []byte) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", im.WithKind(im.Unavailable, "file not written", err)
	}
	if len(data) > f.max {
		return "", tooBig(int64(len(data)), f.max)
	}
	random := make([]byte, randomBytes)
	_, _ = rand.Read(random) // does not fail
	stem := hex.EncodeToString(random)
	url := stem[:2] + "/" + stem + extension(name)
	if err := f.write(filepath.Join(unfinished, stem), filepath.FromSlash(url), data); err != nil {
		return "", im.WithKind(im.Unavailable, "file not written", err)
	}
	return url, nil
}

// write makes a file under a name nobody looks for, and gives it its own once it is on the disk.
func (f *Folder) write(temporary, final string, data []byte) (err error) {
	file, err := f.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.root.Remove(temporary) // else the next OpenFolder does
		}
	}()
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	dir := filepath.Dir(final)
	if err := f.mkdir(dir); err != nil {
		return err
	}
	if err := f.root.Rename(temporary, final); err != nil {
		return err
	}
	return f.sync(dir)
}

// mkdir makes a directory of the folder, unless it is there, so that it outlives a crash.
func (f *Folder) mkdir(dir string) error {
	err := f.root.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.sync(".")
}

// sync brings the names in a directory to the disk.
func (f *Folder) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Get returns a file, see Files. It finds only what Put named, nothing else in the folder and nothing outside.
func (f *Folder) Get(ctx context.Context, url string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, im.WithKind(im.Unavailable, "file not read", err)
	}
	if !named(url) {
		return nil, im.Errorf(im.NotFound, "no such file")
	}
	file, err := f.root.Open(filepath.FromSlash(url))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, im.WithKind(im.NotFound, "no such file", err)
	}
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "file not read", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "file not read", err)
	}
	if !info.Mode().IsRegular() {
		return nil, im.Errorf(im.NotFound, "no such file")
	}
	if info.Size() > int64(f.max) {
		return nil, tooBig(info.Size(), f.max)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, im.WithKind(im.Unavailable, "file not read", fmt.Errorf("%s: %w", url, err))
	}
	return data, nil
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

// Close frees the folder. It is not used after that.
func (f *Folder) Close() error { return f.root.Close() }
