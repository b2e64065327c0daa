//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package folderlock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"teamtalk/core/im"
)

// FileName is the name of the file with the lock. It is a separate file, because a lock on the
// database file would conflict with SQLite's.
const FileName = "teamtalk.lock"

// Lock makes this process the only server of the directory, until the result is closed
// or the process ends in any way. When a server has it, the error ends with the remedy.
func Lock(dir, remedy string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		owner := lockOwner(f)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, im.Errorf(im.Unavailable, "%s is in use by another server%s; %s", dir,
				owner, remedy)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	// The id is for the message of a server that finds the lock taken. The lock works
	// without it.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return f, nil
}

// lockOwner returns the text that names the process in the lock file, "" when it names
// none.
func lockOwner(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid := strings.TrimSpace(string(b[:n]))
	if pid == "" {
		return ""
	}
	return " (process " + pid + ")"
}

// Sync flushes the names in dir to the disk.
func Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
