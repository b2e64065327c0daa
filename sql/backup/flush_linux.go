package backup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// flushEach flushes each file when it is copied. Here flushAll does so, once for all.
const flushEach = false

// flushAll flushes the file system of a folder.
func flushAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
