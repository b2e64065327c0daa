package file_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAbusePage: every line of ABUSE.md names a test that is there.
func TestAbusePage(t *testing.T) {
	page, err := os.ReadFile("ABUSE.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	name := regexp.MustCompile("`(Test\\w+)` \\|$")
	lines := 0
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| what") {
			continue
		}
		lines++
		m := name.FindStringSubmatch(line)
		if m == nil || !strings.Contains(tests.String(), "func "+m[1]+"(t *testing.T)") {
			t.Errorf("no such test: %s", line)
		}
	}
	if lines < 20 {
		t.Errorf("%d lines", lines)
	}
}
