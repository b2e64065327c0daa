//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package folderlock

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMovedFolder requires that a lock is that of the folder which has the name, also when a
// command has moved the folder away after its file was opened.
func TestMovedFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if movedAway(f) {
		t.Error("a file that has its name counts as moved")
	}
	if err := os.Rename(dir, dir+".before"); err != nil {
		t.Fatal(err)
	}
	if !movedAway(f) {
		t.Error("a file of a moved folder counts as that of its name")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := LockCommand(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if !movedAway(f) {
		t.Error("a file of a moved folder counts as that of a new one")
	}
}

// TestTakenBy requires that the error says which kind of process has the lock.
func TestTakenBy(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		content, want string
		command       bool
	}{
		{"17\n", dir + " is in use by another server (process 17); stop it", false},
		{"", dir + " is in use by another server; stop it", false},
		{"17 command\n", dir + " is in use (process 17): " + ErrCommand.Error(), true},
	} {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		err = takenBy(f, dir, "stop it")
		if err.Error() != c.want || errors.Is(err, ErrCommand) != c.command {
			t.Errorf("%q: %v", strings.TrimSpace(c.content), err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
