package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Seen is a whole file that View has found.
type Seen struct {
	Info
	State State     // Waiting or Fetched
	Since time.Time // when it got its state, by the clock of the disk
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
		data := parts[extData]
		if data == nil || parts[extMeta] == nil {
			continue
		}
		info, err := s.readMeta(id)
		if err != nil || data.Size() != int64(info.Size) {
			continue // damaged, or deleted meanwhile
		}
		seen := Seen{info, Waiting, data.ModTime()}
		if got := parts[extGot]; got != nil {
			seen.State, seen.Since = Fetched, got.ModTime()
		}
		files[id] = seen
	}
	return files, nil
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
