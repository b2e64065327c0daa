//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package folderlock

import "io"

// FileName is the name of the file with the lock, on systems that have one.
const FileName = "teamtalk.lock"

// Lock does not lock on this system. A second server does not damage the data (see
// DESIGN.md, Several processes), but is not rejected either.
func Lock(string, string) (io.Closer, error) { return io.NopCloser(nil), nil }

// LockCommand does not lock either.
func LockCommand(string, string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Sync does nothing on systems that cannot flush directories.
func Sync(string) error { return nil }
