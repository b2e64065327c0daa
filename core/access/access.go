// Package access finds out whether this process could open or make files and folders, and
// leaves the disk as it is. The answer can be wrong a moment later, so it is for checks that an
// operator asks for. Whatever uses a file opens it and looks at the error.
package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File returns why this process could not open a file for writing, or make it when it is
// missing; nil when it could.
func File(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return existing(filepath.Dir(path))
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	}
	return writable(path, false)
}

// Folder returns why this process could not keep files in a folder, or make it with those above
// it when they are missing; nil when it could.
func Folder(dir string) error {
	for {
		err := existing(dir)
		if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
			dir = above
			continue
		}
		return err
	}
}

// NewFolder is Folder for a folder that is made alone, without those above it.
func NewFolder(dir string) error {
	err := existing(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return existing(filepath.Dir(dir))
	}
	return err
}

// Everybody reports whether every user of the machine may read a file, which may be missing.
// Windows has no such modes: Go reports the same ones for all files, so the answer is false there.
func Everybody(path string) bool {
	info, err := os.Stat(path)
	return err == nil && hasModes && info.Mode().Perm()&0o004 != 0
}

// Others reports whether a user that does not own a file or folder may use it in any way. It is
// false on Windows, like Everybody.
func Others(info fs.FileInfo) bool { return hasModes && info.Mode().Perm()&0o077 != 0 }

// existing returns why this process could not make files in a folder that must exist.
func existing(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	return writable(dir, true)
}
