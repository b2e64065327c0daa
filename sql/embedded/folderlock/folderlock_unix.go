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
// or the process ends in any way. When a server has it, the error ends with the remedy. While a
// command has it, ErrCommand is in the chain of the error.
func Lock(dir, remedy string) (io.Closer, error) { return lock(dir, remedy, "") }

// LockCommand locks the directory as Lock does, for a command: it holds the lock for a short time.
func LockCommand(dir, remedy string) (io.Closer, error) { return lock(dir, remedy, byCommand) }

// byCommand follows the id of the process in a file that a command has locked.
const byCommand = " command"

// lock locks the directory for a process of this kind.
func lock(dir, remedy, kind string) (io.Closer, error) {
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
		taken := takenBy(f, dir, remedy)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, taken
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if movedAway(f) { // by a command that had the lock until now
		_ = f.Close()
		return lock(dir, remedy, kind)
	}
	// The id is for the message of a process that finds the lock taken. The lock works
	// without it.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d%s\n", os.Getpid(), kind), 0)
	}
	return f, nil
}

// movedAway reports whether the file no longer has its name: a restore gives the folder another
// one.
func movedAway(f *os.File) bool {
	opened, err := f.Stat()
	named, err2 := os.Stat(f.Name())
	return err == nil && (err2 != nil || !os.SameFile(opened, named))
}

// takenBy returns the error of a process that finds the lock taken. It names the other one, if the
// file does.
func takenBy(f *os.File, dir, remedy string) error {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, command := strings.CutSuffix(strings.TrimSpace(string(b[:n])), byCommand)
	if pid != "" {
		pid = " (process " + pid + ")"
	}
	if command {
		return im.WithKind(im.Unavailable, dir+" is in use"+pid, ErrCommand)
	}
	return im.Errorf(im.Unavailable, "%s is in use by another server%s; %s", dir, pid, remedy)
}

// Sync flushes the names in dir to the disk.
func Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
