package msg

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// step is a file of a path and the functions to read in it.
type step struct {
	file  string
	funcs []string
}

// pathsOf returns the steps of each path of the page, by its heading.
func pathsOf(page string) map[string][]step {
	line := regexp.MustCompile("^\\d+\\. `([^`]+)`: (.+)$")
	quoted := regexp.MustCompile("`([^`]+)`")
	paths, heading := map[string][]step{}, ""
	for l := range strings.Lines(page) {
		l = strings.TrimRight(l, "\n")
		if h, ok := strings.CutPrefix(l, "## "); ok {
			heading = h
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		st := step{file: m[1]}
		for _, f := range quoted.FindAllStringSubmatch(m[2], -1) {
			st.funcs = append(st.funcs, f[1])
		}
		paths[heading] = append(paths[heading], st)
	}
	return paths
}

// funcsOf returns the lines of the functions and methods of a file, by name.
func funcsOf(t *testing.T, file string) map[string][]int {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return nil
	}
	lines := map[string][]int{}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			lines[fn.Name.Name] = append(lines[fn.Name.Name], fset.Position(fn.Pos()).Line)
		}
	}
	return lines
}

// TestPathsPage reads PATHS.md: its files and functions exist, the functions of a step
// stand in the file in the order of the page, and no path needs more files than it may,
// or one twice.
func TestPathsPage(t *testing.T) {
	page, err := os.ReadFile("PATHS.md")
	if err != nil {
		t.Fatal(err)
	}
	paths := pathsOf(string(page))
	for heading, limit := range map[string]int{"A text": 8, "A login": 6} {
		steps, seen := paths[heading], map[string]bool{}
		if len(steps) == 0 || len(steps) > limit {
			t.Errorf("%s: %d files, want 1 to %d", heading, len(steps), limit)
		}
		for _, st := range steps {
			if seen[st.file] {
				t.Errorf("%s: %s is needed twice", heading, st.file)
			}
			seen[st.file] = true
			checkStep(t, heading, st)
		}
	}
	file := regexp.MustCompile("`([a-z/_]+\\.go)`")
	for _, name := range file.FindAllStringSubmatch(string(page), -1) {
		if !findFile(name[1]) {
			t.Errorf("the page names %s, which does not exist", name[1])
		}
	}
}

func checkStep(t *testing.T, heading string, st step) {
	t.Helper()
	lines, last := funcsOf(t, filepath.Join("../..", st.file)), 0
	for _, name := range st.funcs {
		next := 0
		for _, l := range lines[name] {
			if l > last && (next == 0 || l < next) {
				next = l
			}
		}
		switch {
		case len(lines[name]) == 0:
			t.Errorf("%s: %s has no function %s", heading, st.file, name)
		case next == 0:
			t.Errorf("%s: in %s the function %s stands above the one before it", heading, st.file,
				name)
		default:
			last = next
		}
	}
}

// findFile reports whether a file exists from the top of the project, in this package, or
// in one of the packages that the page speaks of.
func findFile(name string) bool {
	for _, dir := range []string{"../..", ".", "conversation", "admission", "../../core/link"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
