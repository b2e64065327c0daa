//go:build !unix

package blob

import "math"

// freeSpace is unknown on this system.
func freeSpace(string) (int64, bool, error) { return math.MaxInt64, false, nil }
