//go:build unix

package swarm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// OpenFiles raises the limit of open files of this process to n if the system permits it,
// and returns the limit in force. It bounds the number of connections.
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
		raise(to) // permitted to the superuser only
	}
	return int(min(uint64(lim.Cur), 1<<30))
}

// rlimit converts n to the type of the limit, which differs between systems.
func rlimit[T int64 | uint64](n int, _ T) T { return T(n) }

// openFilesError adds the limit to the error for reaching it.
func openFilesError(err error) error {
	var lim unix.Rlimit
	if !errors.Is(err, unix.EMFILE) || unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return err
	}
	return fmt.Errorf("%w: the limit of this process is %d (ulimit -n)", err, lim.Cur)
}
