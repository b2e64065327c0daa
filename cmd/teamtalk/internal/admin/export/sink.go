package export

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sink takes the files of an export, one after the other. Nothing has its final name before
// close.
type sink interface {
	// create ends the file before, and begins another one. name has slashes.
	create(name string) (io.Writer, error)
	// close ends the export. After abandon it does nothing.
	close() error
	// abandon removes what was written. It does nothing after close.
	abandon()
}

// newSink returns the sink for a path: a ZIP file if it ends in .zip, otherwise a folder. What
// exists is not replaced.
func newSink(out string) (sink, error) {
	out = filepath.Clean(out) // of a folder, the name may end in a slash
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("%s exists already: name another file or folder", out)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	part := out + ".part"
	if strings.HasSuffix(strings.ToLower(out), ".zip") {
		// Another export may be writing it. In a folder that others may write to, it may be a link
		// to another file, or be open to them.
		f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, partError(err)
		}
		return &archive{out: out, f: f, zip: zip.NewWriter(f)}, nil
	}
	if err := os.Mkdir(part, 0o700); err != nil {
		return nil, partError(err)
	}
	return &folder{out: out, part: part}, nil
}

// partError adds what to do when the part of another export exists.
func partError(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: another export is writing it, or was killed; in the latter case "+
			"remove it", err)
	}
	return err
}

// archive is a ZIP file.
type archive struct {
	out  string
	f    *os.File // nil when the export has ended
	zip  *zip.Writer
	made time.Time
}

func (a *archive) create(name string) (io.Writer, error) {
	if a.made.IsZero() {
		a.made = time.Now()
	}
	return a.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: a.made})
}

func (a *archive) close() error {
	if a.f == nil {
		return nil
	}
	err := errors.Join(a.zip.Close(), a.f.Sync(), a.f.Close())
	if err == nil {
		err = os.Rename(a.out+".part", a.out)
	}
	if err != nil {
		_ = os.Remove(a.out + ".part")
	}
	a.f = nil
	return err
}

func (a *archive) abandon() {
	if a.f != nil {
		_ = a.f.Close()
		_ = os.Remove(a.out + ".part")
		a.f = nil
	}
}

// folder is a folder.
type folder struct {
	out, part string
	ended     bool
	f         *os.File // nil: none is open
}

func (d *folder) create(name string) (io.Writer, error) {
	if err := d.end(); err != nil {
		return nil, err
	}
	path := filepath.Join(d.part, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	d.f = f
	return f, nil
}

// end closes the file that is open.
func (d *folder) end() error {
	if d.f == nil {
		return nil
	}
	err := d.f.Close()
	d.f = nil
	return err
}

func (d *folder) close() error {
	if d.ended {
		return nil
	}
	d.ended = true
	err := d.end()
	if err == nil {
		err = os.Rename(d.part, d.out)
	}
	if err != nil {
		_ = os.RemoveAll(d.part)
	}
	return err
}

func (d *folder) abandon() {
	if !d.ended {
		d.ended = true
		_ = d.end()
		_ = os.RemoveAll(d.part)
	}
}
