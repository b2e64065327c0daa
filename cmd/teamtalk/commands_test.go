package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"teamtalk/proto/pb"
)

// TestCommandsPage checks that the page of all commands has one row for each command,
// that the files and tests in the rows exist, and that each note belongs to a row that
// refers to it.
func TestCommandsPage(t *testing.T) {
	page, err := os.ReadFile("../../handlers/COMMANDS.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, notes := testNames(t), map[string]bool{}
	note := regexp.MustCompile(`(?m)^- \*\*(0x[0-9a-f]{4} \w+)\.\*\* `)
	for _, m := range note.FindAllStringSubmatch(string(page), -1) {
		notes[m[1]] = true
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| 0x") {
			continue
		}
		key, differs := commandRow(t, tests, line)
		if seen[key] {
			t.Errorf("%s has two rows", key)
		}
		if (differs == "note") != notes[key] {
			t.Errorf("%s: the row has %q, the page has a note: %v", key, differs, notes[key])
		}
		seen[key] = true
		delete(notes, key)
	}
	for _, c := range pb.Commands() {
		if key := fmt.Sprintf("0x%04x %s", uint16(c), c); !seen[key] {
			t.Errorf("%s is missing", key)
		}
	}
	if len(seen) != len(pb.Commands()) || len(notes) > 0 {
		t.Errorf("%d rows for %d commands, notes without a row: %v", len(seen), len(pb.Commands()),
			notes)
	}
}

// commandRow checks a row of the page. It returns the command and the cell on
// differences.
func commandRow(t *testing.T, tests map[string]bool, line string) (key, differs string) {
	t.Helper()
	row := regexp.MustCompile(`^\| (0x[0-9a-f]{4}) \| (\w+) \| [^|]+ \| ([^|]+) \| ` + "`(\\w+)`" +
		` \| ([^|]*)\|$`)
	cells := row.FindStringSubmatch(line)
	if cells == nil {
		t.Errorf("not a row of the table: %s", line)
		return line, ""
	}
	key, differs = cells[1]+" "+cells[2], strings.TrimSpace(cells[5])
	if n := utf8.RuneCountInString(differs); n > 20 {
		t.Errorf("%s: a cell of %d characters, write a note", key, n)
	}
	files := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[3], -1)
	if len(files) == 0 {
		t.Errorf("%s: no file of a handler", key)
	}
	for _, f := range files {
		if _, err := os.Stat(filepath.Join("../../handlers", f[1])); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if !tests[cells[4]] {
		t.Errorf("%s: no test %s", key, cells[4])
	}
	return key, differs
}

// testNames returns the names of the end-to-end tests.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("e2e/*_test.go")
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
