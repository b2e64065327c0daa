//go:build unix

package blob

import "golang.org/x/sys/unix"

// freeBytes returns the number of bytes that may still be written to the disk of dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
