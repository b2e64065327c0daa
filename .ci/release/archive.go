package main

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// tree is an archive of files and folders that is being written. All have the same date and belong
// to root, unless add gets another owner.
type tree struct {
	w    *tar.Writer
	date time.Time
	made map[string]bool // folders
}

func newTree(w io.Writer, date time.Time) *tree {
	return &tree{tar.NewWriter(w), date, map[string]bool{}}
}

// folder adds a folder, and those around it.
func (t *tree) folder(name string, mode int64, owner int) error {
	if name == "." || t.made[name] {
		return nil
	}
	if err := t.folder(path.Dir(name), 0o755, 0); err != nil {
		return err
	}
	t.made[name] = true
	return t.w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode,
		Uid: owner, Gid: owner, ModTime: t.date, Format: tar.FormatUSTAR})
}

// file adds a file, and the folders around it.
func (t *tree) file(name string, mode int64, content []byte) error {
	if err := t.folder(path.Dir(name), 0o755, 0); err != nil {
		return err
	}
	if err := t.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode,
		Size: int64(len(content)), ModTime: t.date, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err := t.w.Write(content)
	return err
}

// copied adds a file with the content of another.
func (t *tree) copied(name string, mode int64, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return t.file(name, mode, content)
}

// archive writes the binary, the pages and the examples as .tar.gz. The pages keep their places, so
// that their links work.
func (r *release) archive(arch, binary string) error {
	f, err := os.Create(filepath.Join(r.out, r.name(arch, ".tar.gz")))
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	t, top := newTree(z, r.date), r.name(arch, "")
	if err := t.copied(path.Join(top, "teamtalk"), 0o755, binary); err != nil {
		return err
	}
	if err := t.file(path.Join(top, "LICENSES-OF-LIBRARIES"), 0o644, r.licences); err != nil {
		return err
	}
	for _, page := range slices.Sorted(slices.Values(r.pages)) {
		mode := int64(0o644)
		from := filepath.Join(r.source, page)
		if info, err := os.Stat(from); err == nil && info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		if err := t.copied(path.Join(top, page), mode, from); err != nil {
			return err
		}
	}
	if err := t.w.Close(); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

// pack writes the files of a folder as a tar file.
func pack(dir, file string, date time.Time) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	t := newTree(f, date)
	// WalkDir goes through the names in their order.
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return t.copied(filepath.ToSlash(name), 0o644, p)
	})
	if err != nil {
		return err
	}
	if err := t.w.Close(); err != nil {
		return err
	}
	return f.Close()
}
