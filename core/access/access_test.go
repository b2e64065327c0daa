package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAccess asks about files and folders that could be used, and such that could not. Nothing is
// made.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for _, x := range []struct {
		name string
		err  error
		want string // "": no error
	}{
		{"file", File(file), ""},
		{"new file", File(in("new")), ""},
		{"file in a missing folder", File(in("none", "new")), "no such file"},
		{"file below a file", File(in("file", "new")), "not a directory"},
		{"folder as a file", File(dir), "is a directory"},
		{"folder", Folder(dir), ""},
		{"new folders", Folder(in("a", "b", "c")), ""},
		{"new folder", NewFolder(in("a")), ""},
		{"folder in a missing one", NewFolder(in("a", "b")), "no such file"},
		{"file as a new folder", NewFolder(file), "is not a directory"},
		{"file as a folder", Folder(file), "is not a directory"},
		{"folder below a file", Folder(in("file", "a", "b")), "not a directory"},
	} {
		if x.want == "" && x.err != nil || x.want != "" &&
			(x.err == nil || !strings.Contains(x.err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", x.name, x.err, x.want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
}

// TestReadOnly asks about a file and a folder without the right to write.
func TestReadOnly(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write to everything")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"file": File(file), "folder": Folder(dir),
		"new file": File(filepath.Join(dir, "new"))} {
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
