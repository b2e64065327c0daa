//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package chat

import (
	"os"

	"golang.org/x/sys/unix"
)

// secretReader hides what is typed at a terminal from now on, and returns the function that
// reads a line. The caller restores the state of the terminal.
func secretReader(in *os.File) (read func() ([]byte, error), err error) {
	fd := int(in.Fd())
	settings, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	settings.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermios, settings); err != nil {
		return nil, err
	}
	return func() ([]byte, error) { return readLine(in) }, nil
}
