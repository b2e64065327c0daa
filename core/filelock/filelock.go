// Package filelock lets one process at a time change files that several processes share.
package filelock

import (
	"context"
	"os"
	"time"
)

// Wait waits until no other process has an open file or folder locked, and locks it until it is
// closed or the process ends. It tries again after each pause, because no event tells of the end of
// a lock. If ctx ends first, or the file cannot be locked, it returns an error and the file stays
// open. On systems without flock it does nothing.
func Wait(ctx context.Context, f *os.File, pause time.Duration) error {
	return wait(ctx, f, pause)
}
