package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// sumOf returns the sum of the sources of a page, all files but those that the build and npm
// write. The build computes the same: over the files in the order of their paths, path, a line
// feed, the size in bytes, a line feed, and the contents.
func sumOf(page fs.FS) (string, error) {
	sum := sha256.New()
	var paths []string
	err := fs.WalkDir(page, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == "dist" || path == "node_modules":
			return fs.SkipDir
		case !d.IsDir():
			paths = append(paths, path)
		}
		return nil
	})
	slices.Sort(paths) // WalkDir sorts by the names of folders
	for _, path := range paths {
		if err != nil {
			break
		}
		var body []byte
		if body, err = fs.ReadFile(page, path); err == nil {
			fmt.Fprintf(sum, "%s\n%d\n", path, len(body))
			sum.Write(body)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), err
}

// TestFresh compares the sources of the page with the sum that their build wrote into dist.
func TestFresh(t *testing.T) {
	if _, err := os.Stat("page/package.json"); err != nil {
		t.Skip("there is no page to build yet")
	}
	built, err := os.ReadFile("page/dist/sources.sha256")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := sumOf(os.DirFS("page"))
	if err != nil {
		t.Fatal(err)
	}
	if sum != strings.TrimSpace(string(built)) {
		t.Errorf("page/dist is older than the sources of the page: run make page, and commit dist "+
			"(built from %.12s, the sources are %.12s)", built, sum)
	}
}

// TestSum fixes the sum, which the build of the page computes as well.
func TestSum(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	page := fstest.MapFS{
		"src/a.ts": file("a\n"), "src-b.ts": file(""), "package.json": file("{}"),
		"dist/x.js": file("x"), "node_modules/y/y.js": file("y"),
	}
	got, err := sumOf(page)
	text := "package.json\n2\n{}src-b.ts\n0\nsrc/a.ts\n2\na\n"
	want := sha256.Sum256([]byte(text))
	if err != nil || got != hex.EncodeToString(want[:]) {
		t.Errorf("%s, %v, want the sum of %q", got, err, text)
	}
}
