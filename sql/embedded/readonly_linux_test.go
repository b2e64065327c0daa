package embedded

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"teamtalk/sql/embedded/folderlock"
)

// TestReadOnly opens a database as a user without permission to write.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o777, filepath.Dir(dir): 0o755,
		filepath.Join(dir, folderlock.FileName): 0o666, filepath.Join(dir, FileName): 0o444} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() {
		// Root may write everywhere. The file system user belongs to this thread, which
		// ends with the goroutine.
		runtime.LockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Error(err)
		}
		s, err := Open(context.Background(), Options{Dir: dir})
		if err == nil {
			_ = s.Close()
		}
		done <- err
	}()
	wantError(t, <-done, dir, "cannot be written", "owner and mode")
}
