package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"teamtalk/proto/pb"
)

// TestCommandsPage: the page lists all commands, and the files of handlers and the tests
// that it names exist. Only commands of the file server may have no test.
func TestCommandsPage(t *testing.T) {
	page, err := os.ReadFile("../../handlers/COMMANDS.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	row := regexp.MustCompile(
		`^\| (0x[0-9a-f]{4}) \| (\w+) \| [^|]+ \| ([^|]+) \| ([^|]+) \| [^|]*\|$`)
	named := regexp.MustCompile("`([^`]+)`")
	seen := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| 0x") {
			continue
		}
		cells := row.FindStringSubmatch(line)
		if cells == nil {
			t.Errorf("not a row of the table: %s", line)
			continue
		}
		id, files := cells[1], named.FindAllStringSubmatch(cells[3], -1)
		test := strings.Trim(cells[4], "`")
		key := id + " " + cells[2]
		if seen[key] {
			t.Errorf("%s is listed twice", key)
		}
		seen[key] = true
		if later := strings.Contains(line,
			"later: the file server"); later != (len(files) == 0) || later != (test == "–") {
			t.Errorf("%s: handler %s, test %s", id, cells[3], test)
		}
		for _, f := range files {
			if _, err := os.Stat(filepath.Join("../../handlers", f[1])); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		if test != "–" && !tests[test] {
			t.Errorf("%s: no test %s", id, test)
		}
	}
	for _, c := range pb.Commands() {
		if key := fmt.Sprintf("0x%04x %s", uint16(c), c); !seen[key] {
			t.Errorf("%s is missing", key)
		}
	}
	if len(seen) != len(pb.Commands()) {
		t.Errorf("%d rows for %d commands", len(seen), len(pb.Commands()))
	}
}

// testNames returns the names of the end-to-end tests.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("e2e_*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing.T\)`)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
	}
	return names
}
