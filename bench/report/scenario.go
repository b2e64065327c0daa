package report

import (
	"regexp"
	"slices"
	"strings"

	"teamtalk/bench"
)

// setting is one of a scenario's, by its name in the scenario's file.
type setting struct {
	name, flag, value string
	standard          bool // it has its default
}

// settings are those of a scenario's kind, in the order of the documentation. The password is left out, for what is printed is passed on.
func settings(s *bench.Scenario) []setting {
	standard := bench.NewScenario(s.Kind)
	var out []setting
	for _, f := range bench.Fields(s.Kind) {
		if f.Key == "password" {
			continue
		}
		v := f.Get(s)
		out = append(out, setting{f.Key, f.Flag(), v, v == f.Get(&standard)})
	}
	return out
}

// Title is a scenario in one line: its kind, what it is about, and what is not as it usually is.
func Title(s *bench.Scenario) string {
	about := []string{"of", "rate", "population", "pairs", "groups", "members", "senders", "connections", "online", "duration"}
	parts := []string{s.Kind}
	if s.Name != "" {
		parts = []string{s.Name + " (" + s.Kind + ")"}
	}
	all := settings(s)
	for _, name := range about {
		i := slices.IndexFunc(all, func(set setting) bool { return set.name == name })
		switch {
		case i < 0:
		case name == "rate" && s.Rate == 0:
			parts = append(parts, "as fast as it goes")
		case all[i].value != "0":
			parts = append(parts, name+" "+all[i].value)
		}
	}
	for _, set := range all {
		if !set.standard && !slices.Contains(about, set.name) && !slices.Contains([]string{"kind", "name", "addr"}, set.name) {
			parts = append(parts, strings.TrimSpace(strings.ReplaceAll(set.name, "_", " ")+" "+set.value))
		}
	}
	return strings.Join(parts, " · ")
}

// repeat is the command that does the scenario again. Its password, if it is not the usual one, has to be added.
func repeat(s *bench.Scenario) string {
	args := []string{"teamtalk", "bench", s.Kind}
	for _, set := range settings(s) {
		if set.name != "kind" && !set.standard {
			args = append(args, "--"+set.flag, quote(set.value))
		}
	}
	return strings.Join(args, " ")
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_./:,%@+-]+$`)

// quote makes a text one word for a shell.
func quote(s string) string {
	if bare.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
