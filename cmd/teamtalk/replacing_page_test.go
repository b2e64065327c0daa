package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"teamtalk/core/config"
)

// TestReplacingPage checks that the settings and metrics that the page names exist.
func TestReplacingPage(t *testing.T) {
	text, err := os.ReadFile("REPLACING.md")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]bool{}
	for _, s := range config.Settings() {
		settings[s.Key] = true
	}
	code := sources(t, "../../handlers") + sources(t, "../../core") + sources(t, "../../sql")
	checked := 0
	names := regexp.MustCompile("`([a-z0-9_.]+)`")
	for _, m := range names.FindAllStringSubmatch(string(text), -1) {
		name := m[1]
		section, _, setting := strings.Cut(name, ".")
		switch {
		case strings.HasPrefix(name, "teamtalk_"):
			_, of, _ := strings.Cut(strings.TrimPrefix(name, "teamtalk_"), "_")
			short := strings.TrimSuffix(of, "_total") // the store adds both ends
			if !strings.Contains(code, `"`+name+`"`) && !strings.Contains(code, `"`+of+`"`) &&
				!strings.Contains(code, `"`+short+`"`) {
				t.Errorf("no metric %s", name)
			}
		case setting && section != "":
			if !settings[name] {
				t.Errorf("no setting %s", name)
			}
		default:
			continue
		}
		checked++
	}
	if checked < 20 {
		t.Errorf("only %d names found on the page", checked)
	}
}

// sources returns the code of a folder, without tests.
func sources(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		b, err := os.ReadFile(p)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
