//go:build !unix

package spool

import (
	"math"
	"os"
)

// freeBytes is not known here.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }

// lockFolder keeps nobody out here.
func lockFolder(root *os.Root) (*os.File, error) {
	return root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o640)
}
