package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAbusePage: every attack on the page names tests, and the tests exist in the folders
// that the section names.
func TestAbusePage(t *testing.T) {
	page, err := os.ReadFile("../../handlers/ABUSE.md")
	if err != nil {
		t.Fatal(err)
	}
	ports := []string{"8080", "8008", "8000", "8700", "8400", "8500", "8601", "8600"}
	_, all, _ := strings.Cut(string(page), "\n## ")
	sections := strings.Split(all, "\n## ")
	quoted := regexp.MustCompile("`([^`]+)`")
	row := regexp.MustCompile("^\\| .+ \\| .+ \\| `Test\\w+`(, `Test\\w+`)* \\|$")
	for i, section := range sections {
		if i >= len(ports) || !strings.HasPrefix(section, ports[i]+": ") {
			t.Errorf("section %.30q: want one for each of the ports %v", section, ports)
			continue
		}
		var tests string
		lines := 0
		for line := range strings.Lines(section) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "Tests: "):
				for _, dir := range quoted.FindAllStringSubmatch(line, -1) {
					tests += testSource(t, filepath.Join("../..", dir[1]))
				}
			case strings.HasPrefix(line, "| what is tried"), !strings.HasPrefix(line, "| "):
			case !row.MatchString(line):
				t.Errorf("%s: names no test: %s", ports[i], line)
			default:
				lines++
				last := line[strings.LastIndex(strings.TrimSuffix(line, " |"), " | ")+3:]
				for _, name := range quoted.FindAllStringSubmatch(last, -1) {
					if !strings.Contains(tests, "\nfunc "+name[1]+"(t *testing.T)") {
						t.Errorf("%s: no test %s: %s", ports[i], name[1], line)
					}
				}
			}
		}
		if lines < 3 {
			t.Errorf("%s: %d lines", ports[i], lines)
		}
	}
	if len(sections) != len(ports) {
		t.Errorf("%d sections for %d ports", len(sections), len(ports))
	}
}

// testSource returns the text of all test files of a folder.
func testSource(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
