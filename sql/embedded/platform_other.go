//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package embedded

import "io"

// lockDir locks nothing here. A second server does no harm to the data (see DESIGN.md, Several processes); it is only not told.
func lockDir(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// syncDir does nothing where directories cannot be flushed.
func syncDir(string) error { return nil }
