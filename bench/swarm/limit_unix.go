//go:build unix

package swarm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// OpenFiles raises the process's limit of open files towards n, as far as the system lets it, and returns the limit then: what bounds the connections.
func OpenFiles(n int) int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return n
	}
	raise := func(to unix.Rlimit) {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &to) == nil {
			lim = to
		}
	}
	if lim.Cur < lim.Max {
		raise(unix.Rlimit{Cur: lim.Max, Max: lim.Max})
	}
	if uint64(n) > uint64(lim.Max) {
		to := lim
		to.Cur, to.Max = rlimit(n, to.Cur), rlimit(n, to.Max)
		raise(to) // for the superuser only
	}
	return int(min(uint64(lim.Cur), 1<<30))
}

// rlimit is n in the type of the limit, which is not the same everywhere.
func rlimit[T int64 | uint64](n int, _ T) T { return T(n) }

// openFilesError names the limit in the error that says it is reached.
func openFilesError(err error) error {
	var lim unix.Rlimit
	if !errors.Is(err, unix.EMFILE) || unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return err
	}
	return fmt.Errorf("%w: the limit of this process is %d (ulimit -n)", err, lim.Cur)
}
