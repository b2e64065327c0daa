//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tokens

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

const (
	// lockWait is the longest wait for another process, which holds the lock for milliseconds.
	lockWait = 10 * time.Second
	// lockPoll is the pause between two attempts.
	lockPoll = 5 * time.Millisecond
)

// lock admits one process at a time to the files of tokens in a folder. The lock is that of the
// folder, because each change replaces the file. It ends with the process.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(lockPoll) { // it polls other processes
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) ||
			time.Since(began) > lockWait {
			_ = f.Close()
			return nil, fmt.Errorf("lock the folder %s: %w", dir, err)
		}
	}
}
