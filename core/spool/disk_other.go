//go:build !unix

package spool

import (
	"math"
	"os"
)

// freeBytes is unknown on this system.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }

// lockFolder does not lock on this system.
func lockFolder(root *os.Root) (*os.File, error) {
	return root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o640)
}
