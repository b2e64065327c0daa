//go:build !unix

package blob

import "math"

// freeBytes is unknown on this system.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }
