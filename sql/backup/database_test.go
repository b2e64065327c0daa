package backup

import (
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/sql/embedded"
)

// TestSnapshotErrors requires that the error of a copy names both files, the cause and the remedy.
func TestSnapshotErrors(t *testing.T) {
	dir := t.TempDir()
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	from, to := filepath.Join(dir, embedded.FileName), filepath.Join(dir, "none", "copy.db")
	_, err = snapshot(t.Context(), from, to)
	for _, want := range []string{"copy " + from + " to " + to, "owner and mode", "not read-only"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
