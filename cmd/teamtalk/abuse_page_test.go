package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAbusePage checks that each item of the page of what outsiders can try names tests,
// and that these tests exist in the folders that the item's section names.
func TestAbusePage(t *testing.T) {
	page, err := os.ReadFile("../../handlers/ABUSE.md")
	if err != nil {
		t.Fatal(err)
	}
	ports := []string{"8080", "8008", "8000", "8700", "8400", "9091", "8500", "8601", "8600",
		"8800"}
	_, all, _ := strings.Cut(string(page), "\n## ")
	sections := strings.Split(all, "\n## ")
	for i, section := range sections {
		if i >= len(ports) || !strings.HasPrefix(section, ports[i]+": ") {
			t.Errorf("section %.30q: want one for each of the ports %v", section, ports)
			continue
		}
		t.Run(ports[i], func(t *testing.T) { abuseSection(t, section) })
	}
	if len(sections) != len(ports) {
		t.Errorf("%d sections for %d ports", len(sections), len(ports))
	}
}

// abuseSection checks the items of one port's section.
func abuseSection(t *testing.T, section string) {
	quoted := regexp.MustCompile("`([^`]+)`")
	item := regexp.MustCompile("(?s)^\\*\\*.+?\\.\\*\\* .+\\. \\((`Test\\w+`(?:, `Test\\w+`)*)\\)$")
	head, list, _ := strings.Cut(section, "\n- ")
	_, folders, found := strings.Cut(head, "\nTests: ")
	if !found {
		t.Fatal("the section names no folders of tests")
	}
	folders, _, _ = strings.Cut(folders, "\n")
	var tests string
	for _, dir := range quoted.FindAllStringSubmatch(folders, -1) {
		tests += testSource(t, filepath.Join("../..", dir[1]))
	}
	items := strings.Split(list, "\n- ")
	for _, text := range items {
		text = strings.Join(strings.Fields(text), " ")
		m := item.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("not an item with its tests: %s", text)
			continue
		}
		for _, name := range quoted.FindAllStringSubmatch(m[1], -1) {
			if !strings.Contains(tests, "\nfunc "+name[1]+"(t *testing.T)") {
				t.Errorf("no test %s: %s", name[1], text)
			}
		}
	}
	if len(items) < 3 {
		t.Errorf("%d items", len(items))
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
