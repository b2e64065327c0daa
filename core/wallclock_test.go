package core_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// wallClock names the files that may compute with times of the wall clock, and the reasons.
// Everywhere else a step of the wall clock must not change a duration: times are compared
// with Sub, Before and After, or as numbers of core/mono.
var wallClock = map[string]string{
	"bench/":                          "compares the clocks of several machines",
	"core/mono/mono.go":               "its start",
	"core/mono/steady.go":             "the reading of another clock",
	"core/trace/encode.go":            "times for a collector",
	"core/blob/folder.go":             "a tag of a file's time on disk",
	"core/session/loop.go":            "milliseconds from the loop's begin on, with Sub",
	"handlers/msg/turns/repeat":       "times in the database, with a margin",
	"sql/store/outbox/kept.go":        "an order, which an owner makes never go back",
	"sql/store/sessions/sync.go":      "times in the database, with a margin",
	"sql/store/messages/clientids.go": "times in the database, a day long",
	"sql/store/logins/budgets.go":     "times in the database, bounded by the window",
	"handlers/dbproxy/settle":         "times in the database, with a margin",
}

// wallNames are the methods of time.Time that return its wall time as a number, first the one in
// seconds.
var wallNames = []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano"}

// wallCall reports whether x calls one of wallNames without arguments, also in a conversion or
// in parentheses.
func wallCall(x ast.Expr) (name string, ok bool) {
	switch x := x.(type) {
	case *ast.ParenExpr:
		return wallCall(x.X)
	case *ast.CallExpr:
		if s, isMethod := x.Fun.(*ast.SelectorExpr); isMethod && len(x.Args) == 0 {
			return s.Sel.Name, slices.Contains(wallNames, s.Sel.Name)
		}
		if _, isName := x.Fun.(*ast.Ident); isName && len(x.Args) == 1 {
			return wallCall(x.Args[0])
		}
	}
	return "", false
}

// wallArithmetic returns the places of a file that compute with wall times: all times finer than
// a second, and differences and comparisons of seconds. Seconds alone are stored and sent.
func wallArithmetic(file *ast.File) (places []token.Pos) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			for _, x := range []ast.Expr{n.X, n.Y} {
				if name, ok := wallCall(x); ok && name == "Unix" {
					places = append(places, x.Pos())
				}
			}
		case *ast.CallExpr:
			s, ok := n.Fun.(*ast.SelectorExpr)
			if ok && len(n.Args) == 0 && slices.Contains(wallNames[1:], s.Sel.Name) {
				places = append(places, n.Pos())
			}
		}
		return true
	})
	return places
}

// TestDurationsIgnoreTheWallClock forbids durations computed from times of the wall clock.
func TestDurationsIgnoreTheWallClock(t *testing.T) {
	used := map[string]bool{}
	goFiles(t, func(dir, name string, file *ast.File, fset *token.FileSet) {
		if strings.HasSuffix(name, "_test.go") || ast.IsGenerated(file) {
			return
		}
		p := path.Join(dir, name)
		for _, at := range wallArithmetic(file) {
			allowed := false
			for prefix := range wallClock {
				if strings.HasPrefix(p, prefix) {
					allowed, used[prefix] = true, true
				}
			}
			if !allowed {
				t.Errorf("%s:%d computes with the wall clock: use core/mono, or Sub", p,
					fset.Position(at).Line)
			}
		}
	})
	for prefix := range wallClock {
		if !used[prefix] {
			t.Errorf("%s does not compute with the wall clock: remove it from the list", prefix)
		}
	}
}

// TestWallArithmetic checks the check.
func TestWallArithmetic(t *testing.T) {
	for code, want := range map[string]int{
		"now.UnixNano()":                         1,
		"now.UnixMilli()-e.at >= w":              1,
		"now.Unix() - last":                      1,
		"int64(now.Unix()) > last":               1,
		"uint32(now.Unix())":                     0,
		"now.Sub(then) > limit":                  0,
		"time.UnixMilli(n)":                      0,
		"mono.Of(now)-e.at":                      0,
		"f(now.Unix(), last - 1)":                0,
		"(now.Unix()) < then.Unix()":             2,
		"now.Sub(time.Unix(0, x.Load())) > five": 0,
	} {
		source := "package p\nvar x = " + code
		file, err := parser.ParseFile(token.NewFileSet(), "", source, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(wallArithmetic(file)); got != want {
			t.Errorf("%s: %d places, want %d", code, got, want)
		}
	}
}
