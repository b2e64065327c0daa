package core_test

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumns is the longest line of code, with a tab counted as four columns.
const maxColumns = 100

// phrasings are forms that hide the subject of a sentence or force the reader to parse it twice.
// Each has the advice that the test prints.
var phrasings = []struct {
	form   *regexp.Regexp
	advice string
}{
	{
		regexp.MustCompile(`(?i)\bwho(ever|m)?\b`),
		"name the subject: the client, the user, the session, the caller",
	},
	{regexp.MustCompile(`(?i)\bof (which|whom)\b`), "split the sentence, or write whose or that"},
	{regexp.MustCompile(`(?i)\bbe (it|they)\b`), "write if or whether"},
	{regexp.MustCompile(`(?i)\bis there\b`), "write there is, or use a verb of effect"},
	{
		regexp.MustCompile(`(?i)\b(has|have|had) ` +
			`(it|them|(the|a|an|its|their|all) [\w-]+( [\w-]+){0,4}) (done|stored|sent|asked for|` +
			`told|closed|deleted|removed|answered|delivered|checked)\b`),
		`no causative: name the actor and the verb, as in "the server stores the message"`,
	},
	{regexp.MustCompile(`(?i)\bgoes? on\b`), "write continues, proceeds or remains"},
	{
		regexp.MustCompile(`(^|[.;] )What (is|was|are|were|has|does|did|a|an|the|it|they|this)\b` +
			`[^?]*$`),
		"name the subject: the field, the error, the part that remains",
	},
}

// allowedPhrasings are sentences that a form catches and that are right as they stand: by a
// part of the sentence, with the reason.
var allowedPhrasings = []struct{ part, reason string }{
	{"whois", "a name, not the word"},
	{"who w contacts", "names of a command of the chat client"},
}

// awkward returns the advice for the first form that text contains; "" when there is none.
func awkward(text string) (found, advice string) {
	for _, p := range phrasings {
		for _, at := range p.form.FindAllStringIndex(text, -1) {
			around := text[max(0, at[0]-40):min(len(text), at[1]+40)]
			if !excused(around) {
				return text[at[0]:at[1]], p.advice
			}
		}
	}
	return "", ""
}

// excused reports whether the words around a find belong to an allowed sentence.
func excused(around string) bool {
	return slices.ContainsFunc(allowedPhrasings, func(a struct{ part, reason string }) bool {
		return strings.Contains(around, a.part)
	})
}

// TestLineLength limits the length of lines.
func TestLineLength(t *testing.T) {
	goFiles(t, func(dir, name string, file *ast.File, fset *token.FileSet) {
		if ast.IsGenerated(file) {
			return
		}
		path := filepath.Join(root, filepath.FromSlash(dir), name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(data)) {
			n++
			line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    ")
			if c := utf8.RuneCountInString(line); c > maxColumns && !strings.Contains(line, "://") {
				t.Errorf("%s:%d: the line has %d columns, the limit is %d", path, n, c, maxColumns)
			}
		}
	})
}

// TestProse looks for awkward phrasings in the comments, the string literals and the Markdown
// pages of the project.
func TestProse(t *testing.T) {
	goFiles(t, func(dir, name string, file *ast.File, fset *token.FileSet) {
		if ast.IsGenerated(file) || dir == "core" && name == "prose_test.go" {
			return
		}
		for _, group := range file.Comments {
			text := strings.Join(strings.Fields(group.Text()), " ")
			report(t, fset.Position(group.Pos()).String(), text)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil {
				report(t, fset.Position(lit.Pos()).String(), text)
			}
			return true
		})
	})
	for _, page := range pages(t) {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(data)) {
			n++
			report(t, page+":"+strconv.Itoa(n), line)
		}
	}
}

// pages returns the paths of the Markdown pages of the project, without test data and packages of
// npm.
func pages(t *testing.T) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != root &&
			(d.Name() == "testdata" || d.Name() == "node_modules" || hidden(d.Name())):
			return filepath.SkipDir
		case strings.HasSuffix(d.Name(), ".md"):
			found = append(found, p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("no page found: the test looks in the wrong folder")
	}
	return found
}

// report fails the test when text, which stands at a place, contains a form to avoid.
func report(t *testing.T, place, text string) {
	t.Helper()
	if found, advice := awkward(text); found != "" {
		t.Errorf("%s: %q: %s", place, found, advice)
	}
}

// TestPhrasings tries the forms on sentences that they must catch and on plain ones.
func TestPhrasings(t *testing.T) {
	for _, c := range []struct {
		text string
		want bool
	}{
		{"Who waits longest makes room.", true},
		{"overflowed notes whom a frame that was refused was for", true},
		{"has the conversations of the user asked for", true},
		{"a table of which the last row is empty", true},
		{"uses what is there", true},
		{"What is left is cut off.", true},
		{"Stored records the id under which the message was stored.", false},
		{"The connection that has been idle longest is closed to make room.", false},
		{"has stored the message", false},
		{"What now?", false},
	} {
		if found, _ := awkward(c.text); (found != "") != c.want {
			t.Errorf("%q: found %q, want a find: %v", c.text, found, c.want)
		}
	}
}
