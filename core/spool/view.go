package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Seen is a whole file that View has found.
type Seen struct {
	Info
	State State     // Waiting or Fetched
	Since time.Time // when it got its state, by the clock of the disk
	Path  string    // of its contents
}

// View returns the whole files of a folder, by id: waiting ones, and such that their
// receivers have fetched. Damaged and unfinished files are left out. View locks and
// changes nothing, so that a command may call it while a server has the folder open.
func View(dir string) (map[string]Seen, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("view spool: %w", err)
	}
	defer root.Close()
	s := &Spool{root: root}
	all, err := s.list()
	if err != nil {
		return nil, fmt.Errorf("view spool: %w", err)
	}
	files := map[string]Seen{}
	for id, parts := range all {
		if seen, ok := s.view(dir, id, parts); ok {
			files[id] = seen
		}
	}
	return files, nil
}

// ViewSome is View for the files with some ids. It does not read the whole folder.
func ViewSome(dir string, ids []string) (map[string]Seen, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("view spool: %w", err)
	}
	defer root.Close()
	s := &Spool{root: root}
	files := map[string]Seen{}
	for _, id := range ids {
		if !validID(id) {
			continue
		}
		parts := found{}
		for _, ext := range []string{extMeta, extData, extGot} {
			info, err := root.Lstat(id + ext)
			switch {
			case err == nil && info.Mode().IsRegular():
				parts[ext] = info
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				return nil, fmt.Errorf("view spool: %w", err)
			}
		}
		if seen, ok := s.view(dir, id, parts); ok {
			files[id] = seen
		}
	}
	return files, nil
}

// view returns a file, if it is whole.
func (s *Spool) view(dir, id string, parts found) (seen Seen, ok bool) {
	data := parts[extData]
	if data == nil || parts[extMeta] == nil {
		return seen, false
	}
	info, err := s.readMeta(id)
	if err != nil || data.Size() != int64(info.Size) {
		return seen, false // damaged, or deleted meanwhile
	}
	seen = Seen{info, Waiting, data.ModTime(), filepath.Join(dir, id+extData)}
	if got := parts[extGot]; got != nil {
		seen.State, seen.Since = Fetched, got.ModTime()
	}
	return seen, true
}

// Hold locks a folder as a server does, without opening it, and returns the id of the
// folder. The caller closes the lock. The error says when another process has locked the
// folder.
func Hold(dir string) (id [16]byte, lock io.Closer, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return id, nil, fmt.Errorf("hold spool: %w", err)
	}
	defer root.Close()
	f, err := lockFolder(root)
	if err != nil {
		return id, nil, fmt.Errorf("hold spool: %w", err)
	}
	if id, err = folderID(f); err != nil {
		return id, nil, errors.Join(err, f.Close())
	}
	return id, f, nil
}
