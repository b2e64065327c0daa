package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestQuotaOfSmallFiles starts a process whose folder has used up its quota. The files are
// counted in the background, uploads are refused, and the process stays ready.
func TestQuotaOfSmallFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old.jpg"), make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := start(t.Context(), testOptions(t, map[string]string{"msfs.dir": dir,
		"msfs.quota": "64KiB", "msfs.min_free": "0B"}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	put := func() error {
		_, err := s.msfs.server.Put(t.Context(), "a.jpg", strings.NewReader("x"))
		return err
	}
	for err = put(); err == nil; err = put() { // the old file may not be counted yet
		time.Sleep(time.Millisecond)
	}
	if !strings.Contains(err.Error(), "quota") {
		t.Errorf("upload: %v", err)
	}
	report := s.ready.Check(t.Context())
	if state := report.Checks["msfs quota"]; !report.Ready ||
		!strings.Contains(state, "degraded: new files are refused: 65536 of 65536 bytes") {
		t.Errorf("%+v", report)
	}
}
