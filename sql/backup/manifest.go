package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"teamtalk/core/im"
)

// ManifestName is the name of the list of a backup's files: lines of JSON, first a Head, then an
// Entry for each file, last a Tail. It is read and written line by line, for any number of files.
const ManifestName = "manifest.jsonl"

// format is the version of the form of a backup.
const format = 1

// maxLine bounds a line of a manifest, in bytes. Paths have at most 4,096.
const maxLine = 64 << 10

// Head is the first line of a manifest.
type Head struct {
	Format  int       `json:"format"`
	Program string    `json:"program"` // the program that made the backup, with its version
	Schema  int       `json:"schema"`  // the version of the store's schema
	Began   time.Time `json:"began"`   // no change from before it is missing
}

// Entry is a file of a backup.
type Entry struct {
	Path  string    `json:"path"`  // in the backup, with slashes
	Size  int64     `json:"size"`  // bytes
	MTime time.Time `json:"mtime"` // of the last change
	Mode  uint32    `json:"mode"`  // permissions
	Sum   string    `json:"sha256"`
}

// Tail is the last line of a manifest.
type Tail struct {
	Files int64  `json:"files"`
	Bytes int64  `json:"bytes"`
	Sum   string `json:"lines_sha256"` // of all lines before it
}

// line is any line of a manifest.
type line struct {
	Head  *Head  `json:"head,omitempty"`
	File  *Entry `json:"file,omitempty"`
	Tail  *Tail  `json:"end,omitempty"`
	bytes []byte
}

// manifestWriter writes a manifest.
type manifestWriter struct {
	file *os.File
	out  *bufio.Writer
	sum  hash.Hash
	tail Tail
}

func newManifestWriter(path string) (*manifestWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &manifestWriter{file: f, out: bufio.NewWriter(f), sum: sha256.New()}, nil
}

func (w *manifestWriter) write(l line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	w.sum.Write(b)
	_, err = w.out.Write(b)
	return err
}

func (w *manifestWriter) head(h Head) error { return w.write(line{Head: &h}) }

func (w *manifestWriter) add(e Entry) error {
	w.tail.Files++
	w.tail.Bytes += e.Size
	return w.write(line{File: &e})
}

// end writes the last line.
func (w *manifestWriter) end() (Tail, error) {
	w.tail.Sum = hex.EncodeToString(w.sum.Sum(nil))
	return w.tail, errors.Join(w.write(line{Tail: &w.tail}), w.out.Flush(), w.file.Sync())
}

func (w *manifestWriter) close() error { return w.file.Close() }

// manifest reads a manifest.
type manifest struct {
	Head
	in    *bufio.Reader
	close func() error
	sum   hash.Hash
	seen  Tail
}

// openManifest opens the manifest of the backup in dir. The error has kind NotFound when dir holds
// no backup, and Invalid when a newer program made it.
func openManifest(dir string) (*manifest, error) {
	f, err := os.Open(filepath.Join(dir, ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil, im.Errorf(im.NotFound, "the backup %s does not exist", dir)
		}
		return nil, im.Errorf(im.NotFound, "%s is not a backup: it has no %s", dir, ManifestName)
	}
	if err != nil {
		return nil, err
	}
	m, err := readHead(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	m.close = f.Close
	return m, nil
}

// readHead begins to read a manifest.
func readHead(r io.Reader) (*manifest, error) {
	m := &manifest{in: bufio.NewReaderSize(r, maxLine), sum: sha256.New()}
	l, err := m.line()
	switch {
	case err != nil:
		return nil, err
	case l.Head == nil:
		return nil, damaged("the first line is not a head")
	case l.Head.Format != format:
		return nil, im.Errorf(im.Invalid, "the backup has form %d, this program knows %d: use "+
			"the program that made it (%s)", l.Head.Format, format, l.Head.Program)
	}
	m.Head = *l.Head
	m.sum.Write(l.bytes)
	return m, nil
}

// damaged returns the error of a manifest that was changed or cut.
func damaged(text string, args ...any) error {
	return im.Errorf(im.Invalid, "the backup is damaged: "+text, args...)
}

// line reads the next line.
func (m *manifest) line() (l line, err error) {
	l.bytes, err = m.in.ReadSlice('\n')
	if err != nil {
		if err == io.EOF || err == bufio.ErrBufferFull {
			err = damaged("its manifest ends early, or a line is too long")
		}
		return l, err
	}
	d := json.NewDecoder(bytes.NewReader(l.bytes))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return l, damaged("a line of its manifest cannot be read: %v", err)
	}
	return l, nil
}

// next returns the next file. At the end of a manifest that is whole it returns io.EOF.
func (m *manifest) next() (Entry, error) {
	l, err := m.line()
	if err != nil {
		return Entry{}, err
	}
	if l.Tail != nil {
		m.seen.Sum = hex.EncodeToString(m.sum.Sum(nil))
		if *l.Tail != m.seen {
			return Entry{}, damaged("its manifest was changed or cut")
		}
		return Entry{}, io.EOF
	}
	if l.File == nil || l.Head != nil {
		return Entry{}, damaged("a line of its manifest is no file")
	}
	e := *l.File
	if e.Size < 0 || e.Path == ManifestName || strings.Contains(e.Path, `\`) ||
		!fs.ValidPath(e.Path) || !filepath.IsLocal(filepath.FromSlash(e.Path)) {
		return Entry{}, damaged("its manifest has a file with the path %q", e.Path)
	}
	m.sum.Write(l.bytes)
	m.seen.Files++
	m.seen.Bytes += e.Size
	return e, nil
}
