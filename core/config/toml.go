package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"teamtalk/core/config/spelling"
	"teamtalk/core/tomlfile"
)

// readTOML stores the file's settings in c. Origins contain the file's name.
func (c *Config) readTOML(name string, data []byte) []Problem {
	var tree map[string]any
	data, err := tomlfile.PlainText(data)
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
	r := fileReader{config: c, name: name, lines: tomlfile.KeyLines(data),
		settings: map[string]Setting{}, sections: map[string]bool{}}
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
			like := spelling.DidYouMean(r.unknownLike(key))
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
	if like := spelling.Nearest(key, names); len(like) > 0 {
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

func cutLast(key string) (section, name string) {
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return "", key
}
