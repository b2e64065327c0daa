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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"teamtalk/core/im"
)

// Folder is a Store in a directory. A blob is a file under its name. Put writes to .tmp,
// flushes the file, and then moves it to its name. Symbolic links that lead out of the
// directory are not followed.
type Folder struct {
	dir     string
	root    *os.Root
	minFree atomic.Int64
	usage   usage
}

var _ Store = (*Folder)(nil)

// ErrFull is the cause of an error of Put for which the disk has no room. Its kind is Busy.
var ErrFull = errors.New("no room for more files")

// tmpDir holds the files that are being written. Names cannot begin with a dot, so no
// name leads there.
const tmpDir = ".tmp"

// abandoned is the age at which a half-written file belongs to a process that has ended. Each
// write renews it.
const abandoned = time.Hour

// OpenFolder opens a directory, makes it if it is missing, and removes the half-written
// files of an earlier process, once nothing was written to them for an hour: another process
// may use the directory. Put is refused while fewer than minFree bytes are free on the disk;
// 0: never.
func OpenFolder(dir string, minFree int64) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	f := &Folder{dir: dir, root: root}
	f.minFree.Store(minFree)
	if err = root.Mkdir(tmpDir, 0o750); errors.Is(err, fs.ErrExist) {
		err = f.clean(time.Now().Add(-abandoned))
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("clean folder: %w", err)
	}
	return f, nil
}

// clean removes the half-written files that were written to before a time.
func (f *Folder) clean(before time.Time) error {
	list, err := fs.ReadDir(f.root.FS(), tmpDir)
	if err != nil {
		return err
	}
	for _, e := range list {
		info, err := e.Info()
		if err == nil && info.ModTime().Before(before) {
			err = f.root.RemoveAll(path.Join(tmpDir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process may have moved it
			return err
		}
	}
	return nil
}

// Close releases the directory. Open blobs stay open.
func (f *Folder) Close() error { return f.root.Close() }

// Put stores a blob. It does not store contentType.
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
	in := &measured{r: r, u: &f.usage}
	n, err := f.write(ctx, tmp, in)
	if err == nil {
		undo := f.usage.note(name)
		if err = f.place(tmp, name); err != nil {
			undo()
		}
	}
	if err != nil {
		f.usage.give(in.taken)
		_ = f.root.Remove(tmp) // if this fails, the next OpenFolder removes it
		return 0, err
	}
	return n, nil
}

// write writes a new file and flushes it.
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
		return 0, in.err // the reader failed, not the disk
	case err != nil:
		return 0, diskError("write blob", err)
	}
	return n, diskError("flush blob", file.Sync())
}

// place moves a complete file to its name. The move survives a crash.
func (f *Folder) place(tmp, name string) error {
	dir := path.Dir(name)
	made, err := f.mkdirs(dir)
	if err != nil {
		return diskError("make folder", err)
	}
	if _, err := f.root.Lstat(name); err == nil {
		return im.Errorf(im.Exists, "the blob %s exists already", name)
	}
	if err := f.root.Rename(tmp, name); err != nil {
		return diskError("place blob", err)
	}
	// Flush the new entry, and the entries of the directories that were made for it.
	for _, d := range append(made, dir) {
		if err := f.syncDir(d); err != nil {
			return diskError("flush folder", err)
		}
	}
	return nil
}

// mkdirs makes the missing directories of dir and returns their parents.
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
		return nil, im.Errorf(im.NotFound, "the blob %s does not exist", name)
	}
	if err != nil {
		return nil, diskError("open blob", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		_ = file.Close()
		return nil, im.Errorf(im.NotFound, "the blob %s is not a file", name)
	}
	if err != nil {
		_ = file.Close()
		return nil, diskError("open blob", err)
	}
	return &Blob{ReadSeekCloser: file, Size: info.Size(), Modified: info.ModTime(),
		ETag: fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size())}, nil
}

// notThere reports whether an error of opening means that no blob has that name: the file
// does not exist, a part of the path is a file, or a symbolic link leads nowhere, in a
// circle, or out of the folder. For a link out of the folder os.Root returns an error of
// its own that has no exported name.
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
func (f *Folder) Delete(ctx context.Context, name string) error {
	if err := Check(name); err != nil {
		return err
	}
	if err := f.usage.await(ctx); err != nil {
		return err
	}
	info, err := f.root.Lstat(name)
	if err == nil {
		if err = f.root.Remove(name); err == nil {
			f.usage.give(inBlocks(info.Size()))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("delete blob", err)
	}
	return f.Unmark(ctx, name) // after the blob: a blob without its mark counts as not read
}

// Ping reports whether the folder is usable and has room.
func (f *Folder) Ping(context.Context) error {
	if _, err := f.root.Stat(tmpDir); err != nil {
		return diskError("look into the folder", err)
	}
	return f.room()
}

// SetMinFree replaces the number of bytes that stay free on the disk. Any goroutine.
func (f *Folder) SetMinFree(bytes int64) { f.minFree.Store(bytes) }

// room returns an error of kind Busy when the disk is nearly full. Other programs usually
// share the disk.
func (f *Folder) room() error {
	minFree := f.minFree.Load()
	if minFree <= 0 {
		return nil
	}
	free, fewFiles, err := freeSpace(f.dir)
	if err != nil {
		return diskError("read the free space", err)
	}
	if free < minFree {
		return im.WithKind(im.Busy, fmt.Sprintf("the disk has %d MiB free, and %d MiB are reserved",
			free>>20, minFree>>20), ErrFull)
	}
	if fewFiles {
		return im.WithKind(im.Busy, "the disk has less than 1% of its inodes free", ErrFull)
	}
	return nil
}

// source ends with its context, and keeps the reader's error apart from those of the
// writer.
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
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return im.WithKind(im.Busy, what, fmt.Errorf("%w: %w", ErrFull, err))
	}
	return im.WithKind(im.Unavailable, what, err)
}
