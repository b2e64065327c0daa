//go:build unix

package obs

import "golang.org/x/sys/unix"

// diskOf returns the bytes that may still be written to the disk of dir, and its size in bytes.
func diskOf(dir string) (free, size float64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	block := float64(st.Bsize)
	return float64(st.Bavail) * block, float64(st.Blocks) * block, nil
}
