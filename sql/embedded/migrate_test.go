package embedded

import (
	"path/filepath"
	"testing"
	"time"
)

// TestAdminAtFirstStart requires that a command waits for a server that makes the schema at this
// moment.
func TestAdminAtFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	looks := 0
	lock, err := lockToMigrate(t.Context(), dir, time.Hour, func() (bool, error) {
		looks++
		return looks == 3, nil
	})
	if lock != nil || err != nil || looks != 3 {
		t.Errorf("beside the server: lock %v, error %v after %d looks", lock, err, looks)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	lock, err = lockToMigrate(t.Context(), dir, 0, nil)
	if err != nil {
		t.Fatalf("without a server: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}
