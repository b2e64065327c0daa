//go:build !unix

package obs

import "errors"

// diskOf returns an error: disks of this system are not asked.
func diskOf(string) (free, size float64, err error) {
	return 0, 0, errors.ErrUnsupported
}
