// Package core_test checks the rules of the whole project that the compiler does not know: which
// package may import which, the files of the top level, doc comments of exported names, the size
// of code, and the language of prose.
package core_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path in go.mod.
const module = "teamtalk"

// root is the top of the tree, seen from this folder, where go test runs.
const root = ".."

// levels orders the folders of the top level: imports go down only.
var levels = map[string]int{
	"cmd": 3, "handlers": 2, "sql": 2, "pool": 2, "bench": 2, "core": 1, "proto": 0,
}

// everywhere is the owner of the libraries that all parts of the project use.
var everywhere = []string{"bench", "cmd", "core", "handlers", "pool", "proto", "sql"}

// owners are the folders that may import a library. Most libraries have one folder, which hides
// them from the rest. TestOwners wants an entry for every direct dependency of go.mod.
var owners = []struct {
	module  string // and everything below it
	folders []string
	tests   []string // folders whose tests may import it as well
}{
	{"database/sql", []string{"sql", "cmd"}, []string{"pool"}},
	{"github.com/HdrHistogram/hdrhistogram-go", []string{"bench"}, nil},
	{"github.com/bufbuild/protocompile", []string{"proto/gen"}, nil},
	{"github.com/chromedp", nil, []string{"cmd"}},
	{"github.com/creack/pty", nil, []string{"bench", "cmd"}},
	{"github.com/ergochat/readline", []string{"cmd"}, nil},
	{"github.com/go-sql-driver", []string{"sql", "cmd"}, []string{"pool"}},
	{"github.com/gobwas/ws", []string{"core/websocket", "cmd/teamtalk/internal/persona"},
		[]string{"core/engine", "cmd"}},
	{"github.com/golang-jwt/jwt", []string{"core/notify"}, nil},
	{"github.com/KimMachineGun/automemlimit", []string{"cmd"}, nil},
	{"github.com/google/go-cmp", nil, everywhere},
	{"github.com/google/uuid", everywhere, nil},
	{"github.com/hashicorp/golang-lru", []string{"core/pusher", "handlers", "sql"}, nil},
	{"github.com/johannesboyne/gofakes3", nil, []string{"core/blob", "handlers/msfs"}},
	{"github.com/mattn/go-runewidth", []string{"bench", "cmd"}, nil},
	{"github.com/minio/minio-go", []string{"core/blob"}, nil},
	{"github.com/panjf2000/ants", []string{"core/carrier"}, nil},
	{"github.com/panjf2000/gnet", []string{"core/engine"}, nil},
	{"github.com/pelletier/go-toml", []string{"core/config", "core/tomlfile", "bench"}, nil},
	{"github.com/prometheus/client_golang", everywhere, nil},
	{"github.com/redis", []string{"sql", "cmd"}, []string{"pool"}},
	{"github.com/spf13/cobra", []string{"cmd"}, nil},
	{"github.com/spf13/pflag", []string{"cmd", "core/config"}, nil},
	{"go.opentelemetry.io/proto/otlp", []string{"core/trace"}, []string{"cmd"}},
	{"golang.org/x/crypto", []string{"core/acme", "core/kdf", "core/notify"}, nil},
	{"golang.org/x/image", []string{"core/thumb"}, nil},
	{"golang.org/x/oauth2", []string{"core/notify"}, nil},
	{"golang.org/x/sync", []string{"core/notify"}, nil},
	{"golang.org/x/sys", everywhere, nil},
	{"golang.org/x/term", []string{"bench", "cmd"}, nil},
	{"golang.org/x/text", []string{"core/im"}, nil},
	{"golang.org/x/time", []string{"core/client", "handlers/httpapi"}, nil},
	{"google.golang.org/protobuf", everywhere, nil},
	{"modernc.org", []string{"sql", "cmd"}, []string{"pool"}},
}

// topLevel lists the files that the top level may hold. Files whose names begin with a dot are
// allowed as well.
var topLevel = []string{
	"go.mod", "go.sum", "README.md", "LICENSE", "Makefile",
	"CHANGELOG.md", "CONTRIBUTING.md", "PROTOCOL.md", "SECURITY.md",
}

// topFolders are the folders of the top level that hold no Go package.
var topFolders = []string{"findings"}

// under reports whether p is dir or lies below it.
func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// forbidden returns the reason why a file of folder dir, a path from the top, may not import imp.
// It returns "" when the import is allowed.
func forbidden(dir, imp string, test bool) string {
	if !under(imp, module) {
		return forbiddenLibrary(dir, imp, test)
	}
	to := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
	from, target := top(dir), top(to)
	toLevel, known := levels[target]
	if under(to, "sql/store") {
		if why := forbiddenPart(dir, to); why != "" {
			return why
		}
	}
	switch {
	case !known:
		return "no such folder"
	case dir == "core/web" && to == "core/engine":
		return "core/web carries HTTP on net/http, without gnet"
	case from == target:
		if from == "handlers" && second(dir) != second(to) {
			return "handlers do not know each other: declare the interface here, cmd hands it in"
		}
		return ""
	case from == "handlers" && to == "core/engine" && !test:
		return "handlers know sessions, not what carries them"
	case toLevel < levels[from]:
		return ""
	case test && target != "cmd" && levels[from] == toLevel:
		return "" // tests of handlers run on the real stores
	}
	return "imports go down only: cmd, then handlers, sql, pool, bench, then core, then proto"
}

func forbiddenLibrary(dir, imp string, test bool) string {
	if imp == "testing" && !test && !strings.HasSuffix(dir, "test") {
		return "only tests, and packages for tests, import testing"
	}
	for _, o := range owners {
		if !under(imp, o.module) {
			continue
		}
		in := func(f string) bool { return under(dir, f) }
		if !slices.ContainsFunc(o.folders, in) && (!test || !slices.ContainsFunc(o.tests, in)) {
			return "only for " + strings.Join(slices.Concat(o.folders, o.tests), ", ")
		}
	}
	return ""
}

func top(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// second returns the name in p below the top folder. In handlers this is the role.
func second(p string) string {
	_, rest, _ := strings.Cut(p, "/")
	return top(rest)
}

// goFile is a parsed Go file.
type goFile struct {
	dir  string // path of its folder from the top
	name string
	file *ast.File
}

// parsed holds every Go file of the project. All tests share them: with the race detector,
// parsing takes seconds.
var parsed = sync.OnceValues(func() (goFileSet, error) {
	set := goFileSet{fset: token.NewFileSet()}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != root && (name == "testdata" || name == "node_modules" || hidden(name)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || hidden(name) {
			return nil
		}
		const mode = parser.ParseComments | parser.SkipObjectResolution
		file, err := parser.ParseFile(set.fset, p, nil, mode)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(p))
		if err != nil {
			return err
		}
		set.files = append(set.files, goFile{filepath.ToSlash(dir), name, file})
		return nil
	})
	return set, err
})

// goFileSet holds parsed files and their positions.
type goFileSet struct {
	fset  *token.FileSet
	files []goFile
}

// goFiles calls f with every Go file of the project and the file's folder as a path from the top.
// f must not change the file. goFiles fails when it finds no file.
func goFiles(t *testing.T, f func(dir, name string, file *ast.File, fset *token.FileSet)) {
	t.Helper()
	set, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(set.files) == 0 {
		t.Fatal("no Go files found: the test looks in the wrong folder")
	}
	for _, g := range set.files {
		f(g.dir, g.name, g.file, set.fset)
	}
}

// hidden reports whether the go command ignores files and folders with this name.
func hidden(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

// TestImports checks every import of the project.
func TestImports(t *testing.T) {
	goFiles(t, func(dir, name string, file *ast.File, fset *token.FileSet) {
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why := forbidden(dir, imp, strings.HasSuffix(name, "_test.go")); why != "" {
				t.Errorf("%s imports %s: %s", fset.Position(spec.Pos()), imp, why)
			}
		}
	})
}

// TestRules tries the rules on allowed imports and on imports that they must refuse.
func TestRules(t *testing.T) {
	for _, c := range ruleCases {
		why := forbidden(c.dir, c.imp, c.test)
		if (why == "") != c.want {
			t.Errorf("%s imports %s (test file: %v): got %q, want allowed: %v",
				c.dir, c.imp, c.test, why, c.want)
		}
	}
}

const allowed, refused = true, false

// ruleCases are imports with the answer that forbidden must give.
var ruleCases = []struct {
	dir, imp string
	test     bool // the importing file is a test
	want     bool
}{
	{"cmd/teamtalk", "teamtalk/handlers/msg", false, allowed},
	{"cmd/teamtalk", "teamtalk/sql/store", false, allowed},
	{"cmd/teamtalk", "teamtalk/core/engine", false, allowed},
	{"cmd/teamtalk", "teamtalk/cmd/teamtalk/chat", false, allowed},
	{"cmd/teamtalk", "github.com/go-sql-driver/mysql", false, allowed},
	{"handlers/msg", "teamtalk/core/session", false, allowed},
	{"handlers/msg", "teamtalk/proto/pb", false, allowed},
	{"handlers/msg", "teamtalk/handlers/msg/push", false, allowed},
	{"handlers/msg", "teamtalk/handlers/route", false, refused},
	{"handlers/msg", "teamtalk/handlers/route", true, refused},
	{"handlers/msg", "teamtalk/handlers", false, refused},
	{"handlers/msg", "teamtalk/sql/store", false, refused},
	{"handlers/msg", "teamtalk/sql/embedded", true, allowed},
	{"handlers/msg", "teamtalk/pool", false, refused},
	{"handlers/msg", "teamtalk/pool", true, allowed},
	{"handlers/msg", "teamtalk/cmd/teamtalk", true, refused},
	{"handlers/msg", "teamtalk/core/engine", false, refused},
	{"handlers/msg", "teamtalk/core/engine", true, allowed},
	{"handlers/msg", "github.com/redis/go-redis/v9", false, refused},
	{"handlers/msg", "modernc.org/sqlite", true, refused},
	{"handlers/msg", "database/sql", false, refused},
	{"handlers/login", "net/http", false, allowed},
	{"sql/store", "teamtalk/core/im", false, allowed},
	{"sql/store", "teamtalk/sql/schema", false, allowed},
	{"sql/store", "github.com/redis/go-redis/v9", false, allowed},
	{"sql/store", "teamtalk/sql/store/outbox", false, allowed},
	{"sql/store/groups", "teamtalk/sql/store/outbox", false, allowed},
	{"sql/store/outbox", "teamtalk/sql/store/groups", false, refused},
	{"sql/store/outbox", "teamtalk/sql/store/conversation", false, refused},
	{"sql/store/outbox", "teamtalk/sql/store", true, refused},
	{"sql/store/outbox", "teamtalk/sql/store/new", false, refused},
	{"sql/store/new", "teamtalk/sql/store/database", false, refused},
	{"sql/ceiling", "teamtalk/sql/store/redisconn", false, allowed},
	{"sql/ceiling", "teamtalk/sql/store/database", false, refused},
	{"cmd/teamtalk", "teamtalk/sql/store/unread", false, refused},
	{"sql/store", "teamtalk/pool", false, refused},
	{"sql/store", "teamtalk/handlers/dbproxy", false, refused},
	{"sql/storetest", "testing", false, allowed},
	{"sql/store", "testing", false, refused},
	{"core/carrier", "github.com/panjf2000/ants/v2", false, allowed},
	{"handlers/dbproxy", "github.com/panjf2000/ants/v2", false, refused},
	{"pool", "modernc.org/sqlite", true, allowed},
	{"pool", "modernc.org/sqlite", false, refused},
	{"bench", "teamtalk/core/pdu", false, allowed},
	{"bench", "teamtalk/sql/store", false, refused},
	{"core/engine", "github.com/panjf2000/gnet/v2", false, allowed},
	{"core/engine", "github.com/panjf2000/gnet/v2/pkg/logging", false, allowed},
	{"core/session", "github.com/panjf2000/gnet/v2", false, refused},
	{"core/notify", "github.com/golang-jwt/jwt/v5", false, allowed},
	{"core/im", "github.com/golang-jwt/jwt/v5", false, refused},
	{"core/blob", "github.com/johannesboyne/gofakes3", true, allowed},
	{"core/blob", "github.com/johannesboyne/gofakes3", false, refused},
	{"core/web", "teamtalk/core/engine", false, refused},
	{"core/web", "teamtalk/core/budget", false, allowed},
	{"core/link", "teamtalk/pool", true, refused},
	{"core/im", "teamtalk/proto/pb", false, allowed},
	{"proto/pb", "teamtalk/core/im", true, refused},
	{"proto/pb", "teamtalk/internal/x", false, refused},
}

// TestOwners requires an owner for every direct dependency, so that each new one is a decision.
func TestOwners(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	direct := directDependencies(string(b))
	if len(direct) == 0 {
		t.Fatal("no direct dependency found in go.mod")
	}
	for _, dep := range direct {
		if !owned(dep) {
			t.Errorf("the dependency %s has no owner: name the folders that may import it", dep)
		}
	}
	for _, o := range owners {
		used := func(dep string) bool { return under(dep, o.module) }
		if strings.Contains(o.module, ".") && !slices.ContainsFunc(direct, used) {
			t.Errorf("%s has an owner and is no direct dependency: remove its entry", o.module)
		}
	}
	if owned("github.com/panjf2000/antsy") || owned("example.com/new") {
		t.Error("an unknown dependency has an owner")
	}
}

// owned reports whether owners has an entry for a module.
func owned(module string) bool {
	for _, o := range owners {
		if under(module, o.module) {
			return true
		}
	}
	return false
}

// directDependencies returns the modules that a go.mod requires and that are not marked indirect.
func directDependencies(mod string) []string {
	var direct []string
	block := false
	for line := range strings.Lines(mod) {
		line = strings.TrimSpace(line)
		required, one := strings.CutPrefix(line, "require ")
		switch {
		case line == "require (":
			block = true
		case line == ")":
			block = false
		case (block || one) && line != "" && !strings.HasSuffix(line, "// indirect"):
			name, _, _ := strings.Cut(required, " ")
			direct = append(direct, name)
		}
	}
	return direct
}

// TestTopLevel checks the names of the files and folders at the top level.
func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	ignored := ignoredNames(t)
	for _, e := range entries {
		name := e.Name()
		_, folder := levels[name]
		switch {
		case strings.HasPrefix(name, "."):
		case e.IsDir() && (folder || slices.Contains(topFolders, name)):
		case !e.IsDir() && slices.Contains(topLevel, name):
		case matchesAny(ignored, name):
		default:
			t.Errorf("%s does not belong at the top level", name)
		}
	}
}

// matchesAny reports whether a name matches one of the patterns.
func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}

// ignoredNames returns the names that .gitignore allows at the top level: binaries, and the data
// folder of a server that a developer tried there.
func ignoredNames(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		name := strings.Trim(strings.TrimSpace(line), "/")
		if name != "" && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names
}

// TestDocumented requires a doc comment on every package, and on every exported name outside tests
// and generated code.
func TestDocumented(t *testing.T) {
	packages := map[string]bool{}
	goFiles(t, func(dir, name string, file *ast.File, fset *token.FileSet) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		packages[dir] = packages[dir] || file.Doc != nil
		if ast.IsGenerated(file) {
			return
		}
		for _, decl := range file.Decls {
			for _, n := range undocumented(decl) {
				t.Errorf("%s: %s has no doc comment", fset.Position(n.Pos()), n.Name)
			}
		}
	})
	for dir, documented := range packages {
		if !documented {
			t.Errorf("package %s has no doc comment", dir)
		}
	}
}

// undocumented returns the exported names of decl that have neither a comment of their own nor one
// on their group.
func undocumented(decl ast.Decl) []*ast.Ident {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		if d.Doc != nil {
			return nil
		}
		var names []*ast.Ident
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Doc == nil && s.Comment == nil && s.Name.IsExported() {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if s.Doc == nil && s.Comment == nil && n.IsExported() {
						names = append(names, n)
					}
				}
			}
		}
		return names
	}
	return nil
}

// exportedReceiver reports whether d is a function or a method of an exported type. Methods of
// unexported types only serve an interface.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	receiver := d.Recv.List[0].Type
	for {
		switch x := receiver.(type) {
		case *ast.StarExpr:
			receiver = x.X
		case *ast.IndexExpr:
			receiver = x.X
		case *ast.IndexListExpr:
			receiver = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			panic(fmt.Sprintf("receiver %T", receiver))
		}
	}
}
