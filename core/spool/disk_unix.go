//go:build unix

package spool

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// freeBytes returns the number of bytes that may still be written to the disk of dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// lockFolder locks the folder against other processes until the returned file is closed.
func lockFolder(root *os.Root) (*os.File, error) {
	f, err := root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another process has locked it: %w", err)
	}
	return f, nil
}
