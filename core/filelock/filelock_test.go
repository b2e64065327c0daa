//go:build unix

package filelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// open opens a folder or file as a process does that wants its lock.
func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestWait: the second holder waits until the first one has closed, and gives up when its context
// ends.
func TestWait(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, t.TempDir()} {
		first, second := open(t, path), open(t, path)
		if err := Wait(t.Context(), first, time.Hour); err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Wait(ended, second, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("%s is locked twice: %v", path, err)
		}
		got := make(chan error, 1)
		go func() { got <- Wait(t.Context(), second, time.Millisecond) }()
		first.Close()
		if err := <-got; err != nil {
			t.Errorf("%s after its release: %v", path, err)
		}
	}
}
