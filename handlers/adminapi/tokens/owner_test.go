//go:build unix

package tokens

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestOwnerRemains: a file of the account of a server stays its own after root has changed it, and
// keeps its permissions.
func TestOwnerRemains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 65534, 65533
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := Change(path, func([]Token) ([]Token, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if of := info.Sys().(*syscall.Stat_t); int(of.Uid) != uid || int(of.Gid) != gid ||
		info.Mode().Perm() != 0o640 {
		t.Errorf("owner %d:%d, mode %v; want %d:%d, 0640", of.Uid, of.Gid, info.Mode(), uid, gid)
	}
}
