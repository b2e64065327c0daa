package core_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// The largest sizes. A part of the project that is larger has more than one subject, and a
// reader cannot keep it in mind.
const (
	maxMethods  = 45   // of one type
	maxFunction = 60   // lines, with the signature
	maxFile     = 500  // lines
	maxPackage  = 3000 // lines, without tests
)

// large is a part that may exceed its limit, up to a limit of its own.
type large struct {
	name string // as TestSizes prints it
	max  int
	why  string
}

// largeTypes are types with many methods, largeFunctions and largeFiles are long functions and
// files. There are none.
var largeTypes, largeFunctions, largeFiles []large

// largePackages are packages of many lines.
var largePackages = []large{
	{"bench", 5200, "one load generator: all its loads share the loop of a worker"},
	{"bench/report", 3400, "one result in all its forms: terminal, live view, page, comparison"},
	{"sql/embedded", 4000, "an im.Store on one database file: its parts share the statements " +
		"and the caches of one writer, which a package of its own would have to export"},
	{"sql/storetest", 7050, "the contract of im.Store, a file for each part of the stores"},
}

// sizes holds the measured sizes, by name.
type sizes struct{ types, functions, files, packages map[string]int }

// measure measures the whole project without generated code.
func measure(t *testing.T) sizes {
	s := sizes{types: map[string]int{}, functions: map[string]int{}, files: map[string]int{},
		packages: map[string]int{}}
	goFiles(t, func(dir, name string, file *ast.File, fset *token.FileSet) {
		if !ast.IsGenerated(file) {
			s.add(dir, name, file, fset)
		}
	})
	return s
}

// add adds a file of folder dir.
func (s sizes) add(dir, name string, file *ast.File, fset *token.FileSet) {
	line := func(p token.Pos) int { return fset.Position(p).Line }
	lines := line(file.FileEnd)
	s.files[path.Join(dir, name)] = lines
	if !strings.HasSuffix(name, "_test.go") {
		s.packages[dir] += lines
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		function := f.Name.Name
		if f.Recv != nil {
			receiver := receiverName(f.Recv.List[0].Type)
			function = receiver + "." + function
			s.types[dir+"."+receiver]++
		}
		function = path.Join(dir, name) + " " + function
		s.functions[function] = max(s.functions[function], line(f.End())-line(f.Pos())+1)
	}
}

// receiverName returns the name of the type of a receiver.
func receiverName(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return receiverName(x.X)
	case *ast.IndexExpr:
		return receiverName(x.X)
	case *ast.IndexListExpr:
		return receiverName(x.X)
	case *ast.Ident:
		return x.Name
	}
	return "?"
}

// tooLarge returns a complaint for each part above its limit, and for each exception that
// is not needed or larger than necessary.
func tooLarge(unit string, limit int, measured map[string]int, exceptions []large) []string {
	var complaints []string
	limits := make(map[string]int, len(exceptions))
	for _, e := range exceptions {
		limits[e.name] = e.max
		switch size := measured[e.name]; {
		case e.why == "":
			complaints = append(complaints,
				fmt.Sprintf("%s: its exception gives no reason", e.name))
		case size <= limit:
			complaints = append(complaints, fmt.Sprintf("%s has %d %s and may have %d: "+
				"remove its exception in core/size_test.go", e.name, size, unit, limit))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		may := cmp.Or(limits[name], limit)
		if size := measured[name]; size > may {
			complaints = append(complaints, fmt.Sprintf("%s has %d %s, more than %d: split it by "+
				"subject, or name it in core/size_test.go with a reason", name, size, unit, may))
		}
	}
	return complaints
}

// TestSizes reports types, functions, files and packages that are too large.
func TestSizes(t *testing.T) {
	s := measure(t)
	for _, c := range slices.Concat(
		tooLarge("methods", maxMethods, s.types, largeTypes),
		tooLarge("lines", maxFunction, s.functions, largeFunctions),
		tooLarge("lines", maxFile, s.files, largeFiles),
		tooLarge("lines without tests", maxPackage, s.packages, largePackages),
	) {
		t.Error(c)
	}
}

// TestTooLarge checks the complaints themselves.
func TestTooLarge(t *testing.T) {
	measured := map[string]int{"fits": 10, "large": 11, "named": 15, "grown": 21}
	got := tooLarge("lines", 10, measured, []large{
		{"named", 20, "a reason"}, {"grown", 20, "a reason"},
		{"fits", 20, "a reason"}, {"gone", 20, "a reason"}, {"large", 12, ""},
	})
	want := []string{"fits has 10 lines and may have 10: remove",
		"gone has 0 lines and may have 10: remove", "large: its exception gives no reason",
		"grown has 21 lines, more than 20: split it by subject"}
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want a text that begins with %q", got[i], want[i])
		}
	}
}
