package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"teamtalk/sql/embedded"
	"teamtalk/sql/embedded/folderlock"
)

// folder is a folder of files to copy.
type folder struct {
	name string                // in the backup
	path string                // on the disk
	skip func(rel string) bool // files and folders that are left out
}

// folders returns the folders of a source, in the order of order.
func folders(src Source) []folder {
	blobs := func(rel string) bool { return rel == ".tmp" } // uploads in progress
	return []folder{
		{soundFolder, src.Sounds, blobs},
		{waitingFolder, src.Waiting, func(rel string) bool {
			end := path.Ext(rel)
			return rel == "lock" || end == ".part" || end == ".tmp" // uploads in progress
		}},
		{smallFolder, src.Small, blobs},
	}
}

// order orders paths as Make copies them: the log, the database, the folders. In a folder the
// order is that of fs.WalkDir.
func order(a, b string) int {
	tops := []string{LogFolder, embedded.FileName, soundFolder, waitingFolder, smallFolder}
	top := func(p string) int {
		first, _, _ := strings.Cut(p, "/")
		return slices.Index(tops, first)
	}
	// A slash is before every other character, so that a folder's files are together.
	flat := func(p string) string { return strings.ReplaceAll(p, "/", "\x00") }
	return cmp.Or(cmp.Compare(top(a), top(b)), cmp.Compare(flat(a), flat(b)))
}

// previous reads the manifest of an earlier backup beside the walk of the folders.
type previous struct {
	dir  string
	list *manifest // nil: no backup, or its end
	next Entry
}

// openPrevious opens an earlier backup; dir "": none.
func openPrevious(dir string) (*previous, error) {
	p := &previous{dir: dir}
	if dir == "" {
		return p, nil
	}
	var err error
	if p.list, err = openManifest(dir); err != nil {
		return nil, err
	}
	return p, p.step()
}

func (p *previous) step() (err error) {
	if p.next, err = p.list.next(); err == io.EOF {
		p.close()
		return nil
	}
	return err
}

func (p *previous) close() {
	if p.list != nil {
		_ = p.list.close() // it was only read
		p.list = nil
	}
}

// settled is the age at which the time of a file tells a change: file systems have a time of their
// own, which advances in steps.
const settled = 2 * time.Second

// find returns the file of the earlier backup with this path, size and time. Paths must come in
// the order of order.
func (p *previous) find(name string, info fs.FileInfo) (e Entry, ok bool, err error) {
	for p.list != nil && order(p.next.Path, name) < 0 {
		if err := p.step(); err != nil {
			return e, false, err
		}
	}
	if p.list == nil || p.next.Path != name {
		return e, false, nil
	}
	e = p.next
	return e, e.Size == info.Size() && e.MTime.Equal(info.ModTime()) &&
		p.list.Began.Sub(e.MTime) > settled, nil
}

// copier copies files into a backup.
type copier struct {
	ctx      context.Context
	from     *previous
	to       string
	manifest *manifestWriter
	linked   int64
	skipped  int64
}

// folder copies a folder, if it exists.
func (c *copier) folder(f folder) error {
	return c.walk(f, func(name, file string, info fs.FileInfo) error {
		old, same, err := c.from.find(name, info)
		if err != nil {
			return err
		}
		place := filepath.Join(c.to, filepath.FromSlash(name))
		if same {
			was := filepath.Join(c.from.dir, filepath.FromSlash(name))
			if there, err := os.Lstat(was); err == nil && there.Size() == old.Size &&
				os.Link(was, place) == nil {
				c.linked++
				return c.manifest.add(old)
			}
		}
		e, err := copyFile(c.ctx, file, place)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the server has deleted it
		}
		if err != nil {
			return err
		}
		e.Path = name
		return c.manifest.add(e)
	})
}

// log copies the log in front of the database, and returns its files.
func (c *copier) log(dir string) (list []Entry, err error) {
	none := func(string) bool { return false }
	err = c.walk(folder{LogFolder, dir, none}, func(name, file string, _ fs.FileInfo) error {
		e, err := copyFile(c.ctx, file, filepath.Join(c.to, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the database has its messages now
		}
		e.Path = name
		list = append(list, e)
		return err
	})
	return list, err
}

// walk makes the folders of f in the backup, and calls do for each file with its path in the
// backup and its place.
func (c *copier) walk(f folder, do func(name, file string, info fs.FileInfo) error) error {
	root, err := filepath.EvalSymlinks(f.path)
	if f.path == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fs.WalkDir(os.DirFS(root), ".", func(rel string, d fs.DirEntry, err error) error {
		if err == nil {
			err = c.ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if f.skip(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name := path.Join(f.name, rel)
		if d.IsDir() {
			return os.Mkdir(filepath.Join(c.to, filepath.FromSlash(name)), 0o700)
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			c.skipped++
			return nil
		}
		return do(name, filepath.Join(root, filepath.FromSlash(rel)), info)
	})
}

// sum adds a file that is in the backup already to the manifest.
func (c *copier) sum(name string) error {
	e, err := readFile(c.ctx, filepath.Join(c.to, name), io.Discard)
	if err != nil {
		return err
	}
	e.Path = name
	return c.manifest.add(e)
}

// copyFile copies a file with its time and permissions, and returns its size and sum.
func copyFile(ctx context.Context, from, to string) (Entry, error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Entry{}, err
	}
	e, err := readFile(ctx, from, out)
	if err == nil && flushEach {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Chmod(to, fs.FileMode(e.Mode))
	}
	if err == nil {
		err = os.Chtimes(to, time.Time{}, e.MTime)
	}
	if err != nil {
		return e, errors.Join(err, os.Remove(to))
	}
	return e, nil
}

// readFile copies the bytes of a file to w, and returns its size and sum.
func readFile(ctx context.Context, name string, w io.Writer) (e Entry, err error) {
	in, err := os.Open(name)
	if err != nil {
		return e, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return e, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), &source{ctx: ctx, r: in})
	return Entry{Size: n, MTime: info.ModTime().UTC(), Mode: uint32(info.Mode().Perm()),
		Sum: hex.EncodeToString(h.Sum(nil))}, err
}

// source is a reader that ends with a context.
type source struct {
	ctx context.Context
	r   io.Reader
}

// Read reads from the file, until the context ends.
func (s *source) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(b)
}

// flush flushes all files of a folder, and the names in it.
func flush(dir string) error {
	err := flushAll(dir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = folderlock.Sync(p)
		}
		return err
	})
}
