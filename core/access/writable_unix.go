//go:build unix

package access

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

const hasModes = true

// writable asks the system whether this process may write to a file, or make files in a folder.
func writable(path string, folder bool) error {
	mode := uint32(unix.W_OK)
	if folder {
		mode |= unix.X_OK
	}
	if err := unix.Access(path, mode); err != nil {
		return &fs.PathError{Op: "write to", Path: path, Err: err}
	}
	return nil
}
