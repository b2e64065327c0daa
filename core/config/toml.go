package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// readTOML stores the file's settings in c. Origins contain the file's name.
func (c *Config) readTOML(name string, data []byte) []Problem {
	var tree map[string]any
	data, err := PlainText(data)
	if err != nil {
		return []Problem{{Origin: Origin(name + ":1"), Msg: err.Error()}}
	}
	if err := toml.Unmarshal(data, &tree); err != nil {
		var bad *toml.DecodeError
		if errors.As(err, &bad) {
			row, col := bad.Position()
			return []Problem{{Origin: Origin(fmt.Sprintf("%s:%d:%d", name, row, col)),
				Msg: strings.TrimPrefix(bad.Error(), "toml: ")}}
		}
		return []Problem{{Origin: Origin(name), Msg: strings.TrimPrefix(err.Error(), "toml: ")}}
	}
	r := fileReader{config: c, name: name, lines: keyLines(data), settings: map[string]Setting{},
		sections: map[string]bool{}}
	settings, sections := definition()
	for _, s := range settings {
		r.settings[s.Key] = s
		r.keys = append(r.keys, s.Key)
	}
	for _, s := range sections {
		r.sections[s.name] = true
	}
	r.table("", tree)
	// Maps do not keep the order of the file.
	slices.SortStableFunc(r.problems, func(a, b lineProblem) int { return a.line - b.line })
	problems := make([]Problem, len(r.problems))
	for i, p := range r.problems {
		problems[i] = p.Problem
	}
	return problems
}

// byteOrderMark is what some editors write before the text of a file in UTF-8.
const byteOrderMark = "\ufeff"

// PlainText returns the content of a file of TOML without the mark that editors on Windows
// write at its begin. It returns an error for UTF-16, since TOML allows only UTF-8.
func PlainText(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, errors.New("the file is in UTF-16: save it in UTF-8")
	}
	return bytes.TrimPrefix(data, []byte(byteOrderMark)), nil
}

// fileReader walks the tables of a file.
type fileReader struct {
	config   *Config
	name     string
	lines    map[string]int
	settings map[string]Setting
	sections map[string]bool
	keys     []string
	problems []lineProblem
}

type lineProblem struct {
	Problem
	line int
}

func (r *fileReader) table(prefix string, tree map[string]any) {
	names := make([]string, 0, len(tree))
	for n := range tree {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		key, value := prefix+n, tree[n]
		sub, isTable := value.(map[string]any)
		s, isSetting := r.settings[key]
		switch {
		case strings.Contains(n, "."):
			r.wrong(key, "no such setting; a name with a dot is written without quotes")
		case isSetting:
			if err := s.setTOML(r.config, value); err != nil {
				r.wrong(key, "%v", err)
			} else {
				r.config.origin[key] = r.origin(key)
			}
		case r.sections[key] && isTable:
			r.table(key+".", sub)
		case r.sections[key]:
			r.wrong(key, "is a section: write [%s] on a line of its own", key)
		case isTable && len(sub) > 0 && len(r.unknownLike(key)) == 0:
			// Each setting of an unknown section gets an error of its own, because it may
			// belong to another section.
			r.table(key+".", sub)
		default:
			like := didYouMean(r.unknownLike(key))
			if like == "" {
				like = `; "teamtalk config" lists all`
			}
			r.wrong(key, "no such setting%s", like)
		}
	}
}

// unknownLike returns the names that resemble an unknown name.
func (r *fileReader) unknownLike(key string) []string {
	names := slices.Clone(r.keys)
	for s := range r.sections {
		names = append(names, s)
	}
	slices.Sort(names)
	if like := nearest(key, names); len(like) > 0 {
		return like
	}
	// The name may be right and its section wrong.
	var same []string
	_, last := cutLast(key)
	for _, k := range r.keys {
		if _, l := cutLast(k); l == last && len(same) < 3 {
			same = append(same, k)
		}
	}
	return same
}

func (r *fileReader) origin(key string) Origin {
	if line := r.lines[key]; line > 0 {
		return Origin(fmt.Sprintf("%s:%d", r.name, line))
	}
	return Origin(r.name)
}

func (r *fileReader) wrong(key, format string, args ...any) {
	p := Problem{key, r.origin(key), fmt.Sprintf(format, args...)}
	r.problems = append(r.problems, lineProblem{p, r.lines[key]})
}

// keyLines returns the line of every key and table of a valid document. The decoder
// reports lines only for unknown keys, and errors in values need them too.
func keyLines(data []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = addKeyLines(lines, &p, "", e)
			if table != "" {
				table += "."
			}
		case unstable.KeyValue:
			addValueLines(lines, &p, table, e)
		}
	}
	return lines
}

func addValueLines(lines map[string]int, p *unstable.Parser, prefix string, e *unstable.Node) {
	key := addKeyLines(lines, p, prefix, e)
	if v := e.Value(); v.Valid() && v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			if n := it.Node(); n.Kind == unstable.KeyValue {
				addValueLines(lines, p, key+".", n)
			}
		}
	}
}

// addKeyLines stores the line of each prefix of e's key (for a.b.c: a, a.b and a.b.c)
// unless an earlier line has that prefix. It returns the whole key.
func addKeyLines(lines map[string]int, p *unstable.Parser, prefix string, e *unstable.Node) string {
	var key string
	for it := e.Key(); it.Next(); {
		n := it.Node()
		key = prefix + string(n.Data)
		if _, ok := lines[key]; !ok {
			lines[key] = p.Shape(n.Raw).Start.Line
		}
		prefix = key + "."
	}
	return key
}

func cutLast(key string) (section, name string) {
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return "", key
}

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(names, " or ") + "?"
}

// nearest returns up to three names with the smallest distance from name. It returns none
// when more than a quarter of the letters differ.
func nearest(name string, names []string) []string {
	best := max(1, len(name)/4) + 1
	if len(name) > 64 { // longer than any setting: no typing error
		return nil
	}
	var found []string
	for _, n := range names {
		d := distance(name, n)
		if d < best {
			best, found = d, found[:0]
		}
		if d == best && len(found) < 3 && d <= max(1, len(name)/4) {
			found = append(found, n)
		}
	}
	return found
}

// distance returns the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
