package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"teamtalk/core/im"
)

var _ Aged = (*Folder)(nil)

// ViewFolder opens a directory of a Folder to read the ages of its blobs. It changes nothing, so
// another process may use the Folder. The caller must call Close.
func ViewFolder(dir string) (interface {
	Ager
	io.Closer
}, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	return &Folder{dir: dir, root: root}, nil
}

// Mark records that a blob was read. A mark is an empty file. It is not flushed: a crash of the
// machine loses the marks of the last seconds.
func (f *Folder) Mark(_ context.Context, name string, at time.Time) error {
	if err := Check(name); err != nil {
		return err
	}
	switch _, err := f.root.Lstat(name); {
	case notThere(err):
		return im.Errorf(im.NotFound, "the blob %s does not exist", name)
	case err != nil:
		return diskError("look for the blob", err)
	}
	mark := name + markEnd
	err := f.root.Chtimes(mark, at, at)
	if errors.Is(err, fs.ErrNotExist) {
		if err = f.root.WriteFile(mark, nil, 0o640); err == nil {
			err = f.root.Chtimes(mark, at, at)
		}
	}
	return diskError("mark blob", err)
}

// Unmark removes the mark of a blob.
func (f *Folder) Unmark(_ context.Context, name string) error {
	if err := Check(name); err != nil {
		return err
	}
	if err := f.root.Remove(name + markEnd); !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove the mark of a blob", err)
	}
	return nil
}

// Age returns the age of a blob.
func (f *Folder) Age(_ context.Context, name string) (Age, error) {
	if err := Check(name); err != nil {
		return Age{}, err
	}
	info, err := f.root.Lstat(name)
	if notThere(err) || err == nil && !info.Mode().IsRegular() {
		return Age{}, im.Errorf(im.NotFound, "the blob %s does not exist", name)
	}
	if err != nil {
		return Age{}, diskError("look for the blob", err)
	}
	a := Age{Name: name, Size: info.Size(), Stored: info.ModTime()}
	switch mark, err := f.root.Lstat(name + markEnd); {
	case err == nil:
		a.Read = mark.ModTime()
	case !errors.Is(err, fs.ErrNotExist):
		return Age{}, diskError("look for the mark of a blob", err)
	}
	return a, nil
}

// order returns a text that sorts as fs.WalkDir visits names: a folder precedes its entries, and
// these precede what follows the folder.
func order(name string) string { return strings.ReplaceAll(name, "/", "\x00") }

// Ages visits the blobs in a folder.
func (f *Folder) Ages(ctx context.Context, folder, after string, visit func(Age) error) error {
	if err := Check(folder); err != nil {
		return err
	}
	pairs := &pairing{visit: visit}
	var stopped error // by visit or ctx
	err := fs.WalkDir(f.root.FS(), folder, func(name string, d fs.DirEntry, err error) error {
		if stopped = ctx.Err(); stopped != nil {
			return stopped
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && order(name) < order(after) && !strings.HasPrefix(after, name+"/"):
			return fs.SkipDir
		case !d.Type().IsRegular() || order(name) <= order(after) || name == after+markEnd:
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // it was deleted
			return nil
		}
		if err != nil {
			return err
		}
		stopped = pairs.entry(name, info.Size(), info.ModTime())
		return stopped
	})
	if err == nil {
		stopped = pairs.end()
	}
	if stopped != nil {
		return stopped
	}
	return diskError("list the blobs", err)
}

// Note returns the note of the folder.
func (f *Folder) Note(context.Context) ([]byte, error) {
	file, err := f.root.Open(noteName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError("open the note of the folder", err)
	}
	defer file.Close()
	note, err := io.ReadAll(io.LimitReader(file, maxNote))
	return note, diskError("read the note of the folder", err)
}

// SetNote replaces the note of the folder.
func (f *Folder) SetNote(ctx context.Context, note []byte) error {
	tmp := path.Join(tmpDir, uuid.NewString())
	_, err := f.write(ctx, tmp, bytes.NewReader(note))
	if err == nil {
		err = diskError("place the note of the folder", f.root.Rename(tmp, noteName))
	}
	if err == nil {
		err = diskError("flush folder", f.syncDir("."))
	}
	return err
}
