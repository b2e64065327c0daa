//go:build unix

package blob

import "golang.org/x/sys/unix"

// freeSpace returns the number of bytes that may still be written to the disk of dir, and
// whether less than 1 % of its inodes are free: many tiny files use them up while the disk has
// room. Some file systems report no number of inodes.
func freeSpace(dir string) (bytes int64, fewFiles bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false, err
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Ffree) < int64(st.Files)/100, nil
}
