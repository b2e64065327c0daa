//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package chat

import (
	"os"

	"golang.org/x/term"
)

// secretReader returns the function that reads a line without showing it. On these systems a
// text typed before the function is called is shown.
func secretReader(in *os.File) (read func() ([]byte, error), err error) {
	return func() ([]byte, error) { return term.ReadPassword(int(in.Fd())) }, nil
}
