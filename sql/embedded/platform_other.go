//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package embedded

import "io"

// lockDir does not lock on this system. A second server does not damage the data (see
// DESIGN.md, Several processes), but is not rejected either.
func lockDir(string, string) (io.Closer, error) { return io.NopCloser(nil), nil }

// syncDir does nothing on systems that cannot flush directories.
func syncDir(string) error { return nil }
