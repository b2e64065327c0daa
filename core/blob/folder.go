package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"teamtalk/core/im"
)

// Folder is a Store in a directory. Blobs are files under their names; what is being written lies in .tmp and is moved in place, flushed, when it is
// whole. Symbolic links that lead out of the directory are not followed.
type Folder struct {
	dir     string
	root    *os.Root
	minFree int64
}

var _ Store = (*Folder)(nil)

// tmpDir holds what is being written. No name begins with a dot, so nobody can name it.
const tmpDir = ".tmp"

// OpenFolder opens a directory, made when missing, and removes what an earlier process left half written. Two processes must not use one directory.
// While fewer than minFree bytes are free on its disk, Put is refused; 0: never.
func OpenFolder(dir string, minFree int64) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	f := &Folder{dir: dir, root: root, minFree: minFree}
	if err = root.RemoveAll(tmpDir); err == nil {
		err = root.Mkdir(tmpDir, 0o750)
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("clean folder: %w", err)
	}
	return f, nil
}

// Close frees the directory. Blobs that are open stay so.
func (f *Folder) Close() error { return f.root.Close() }

// Put stores a blob; contentType is not kept.
func (f *Folder) Put(ctx context.Context, name string, r io.Reader, _ string) (int64, error) {
	if err := Check(name); err != nil {
		return 0, err
	}
	if err := f.room(); err != nil {
		return 0, err
	}
	r, err := some(r)
	if err != nil {
		return 0, err
	}
	tmp := path.Join(tmpDir, uuid.NewString())
	n, err := f.write(ctx, tmp, r)
	if err == nil {
		err = f.place(tmp, name)
	}
	if err != nil {
		_ = f.root.Remove(tmp) // or the next start does
		return 0, err
	}
	return n, nil
}

// write fills a new file and flushes it.
func (f *Folder) write(ctx context.Context, tmp string, r io.Reader) (n int64, err error) {
	file, err := f.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return 0, diskError("create blob", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = diskError("close blob", closeErr)
		}
	}()
	in := &source{ctx: ctx, r: r}
	n, err = io.Copy(file, in)
	switch {
	case in.err != nil:
		return 0, in.err // not the disk's fault
	case err != nil:
		return 0, diskError("write blob", err)
	}
	return n, diskError("flush blob", file.Sync())
}

// place moves a whole file to its name, in a way that survives a crash.
func (f *Folder) place(tmp, name string) error {
	dir := path.Dir(name)
	made, err := f.mkdirs(dir)
	if err != nil {
		return diskError("make folder", err)
	}
	if _, err := f.root.Lstat(name); err == nil {
		return im.Errorf(im.Exists, "a blob of that name is there")
	}
	if err := f.root.Rename(tmp, name); err != nil {
		return diskError("place blob", err)
	}
	// The entry, and those of directories that were made for it.
	for _, d := range append(made, dir) {
		if err := f.syncDir(d); err != nil {
			return diskError("flush folder", err)
		}
	}
	return nil
}

// mkdirs makes the directories that dir needs, and returns the parents of those it made.
func (f *Folder) mkdirs(dir string) (parents []string, err error) {
	at := "."
	for part := range strings.SplitSeq(dir, "/") {
		parent := at
		at = path.Join(at, part)
		switch err := f.root.Mkdir(at, 0o750); {
		case err == nil:
			parents = append(parents, parent)
		case !errors.Is(err, fs.ErrExist):
			return nil, err
		}
	}
	return parents, nil
}

func (f *Folder) syncDir(dir string) error {
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

// Open opens a blob.
func (f *Folder) Open(_ context.Context, name string) (*Blob, error) {
	if err := Check(name); err != nil {
		return nil, err
	}
	file, err := f.root.Open(name)
	if notThere(err) {
		return nil, im.Errorf(im.NotFound, "no such blob")
	}
	if err != nil {
		return nil, diskError("open blob", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		_ = file.Close()
		return nil, im.Errorf(im.NotFound, "no such blob")
	}
	if err != nil {
		_ = file.Close()
		return nil, diskError("open blob", err)
	}
	return &Blob{ReadSeekCloser: file, Size: info.Size(), Modified: info.ModTime(),
		ETag: fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size())}, nil
}

// notThere reports whether an error of opening says that no blob can have that name: nothing is there, a blob is where a folder should be, or a symbolic link leads
// nowhere, in a circle, or out of the folder. That last one is os.Root's own error, not the system's, and has no name.
func notThere(err error) bool {
	var number syscall.Errno
	switch {
	case err == nil, errors.Is(err, os.ErrClosed):
		return false
	case errors.As(err, &number):
		return number.Is(fs.ErrNotExist) || number == syscall.ENOTDIR || number == syscall.ELOOP
	}
	return true
}

// Delete removes a blob.
func (f *Folder) Delete(_ context.Context, name string) error {
	if err := Check(name); err != nil {
		return err
	}
	if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("delete blob", err)
	}
	return nil
}

// Ping reports whether there is room.
func (f *Folder) Ping(context.Context) error {
	if _, err := f.root.Stat(tmpDir); err != nil {
		return diskError("folder", err)
	}
	return f.room()
}

// room refuses when the disk is nearly full: it is rarely this folder's alone.
func (f *Folder) room() error {
	if f.minFree <= 0 {
		return nil
	}
	free, err := freeBytes(f.dir)
	if err != nil {
		return diskError("look for free space", err)
	}
	if free < f.minFree {
		return im.Errorf(im.Busy, "%d MiB are free on the disk, %d MiB are kept back", free>>20,
			f.minFree>>20)
	}
	return nil
}

// source tells errors of what is read from those of what is written, and ends with its context.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err = s.ctx.Err(); s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func diskError(what string, err error) error {
	return im.WithKind(im.Unavailable, what, err)
}
