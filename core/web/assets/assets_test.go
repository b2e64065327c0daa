package assets

import (
	"compress/gzip"
	"io"
	"strings"
	"testing"
	"testing/fstest"
)

// TestPacked compresses a file that the build did not, and the result is the file.
func TestPacked(t *testing.T) {
	long := &fstest.MapFile{Data: []byte(strings.Repeat("long ", 1000))}
	s := New(fstest.MapFS{"licenses.txt": long, "secret.key": long})
	if s.Has("/secret.key") || s.Has("/") || !s.Has("/licenses.txt") {
		t.Error("the wrong files are served")
	}
	a := s.files["/licenses.txt"]
	z, err := gzip.NewReader(strings.NewReader(string(a.bodies["gzip"])))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(z); err != nil || string(plain) != string(a.bodies[""]) {
		t.Errorf("%.40q, %v", plain, err)
	}
}
