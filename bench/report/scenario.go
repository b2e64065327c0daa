package report

import (
	"regexp"
	"slices"
	"strings"

	"teamtalk/bench/scenario"
)

// setting is a setting of a scenario, with its name in the scenario file.
type setting struct {
	name, flag, value string
	standard          bool // it has its default
}

// settings returns the settings of a scenario's kind, in the order of the documentation.
// The password is left out, because people pass reports to others.
func settings(s *scenario.Scenario) []setting {
	standard := scenario.New(s.Kind)
	var out []setting
	for _, f := range scenario.Fields(s.Kind) {
		if f.Key == "password" {
			continue
		}
		v := f.Get(s)
		out = append(out, setting{f.Key, f.Flag(), v, v == f.Get(&standard)})
	}
	return out
}

// Title describes a scenario in one line: its kind, its size, and the settings that
// differ from their defaults.
func Title(s *scenario.Scenario) string {
	about := []string{"of", "rate", "population", "pairs", "groups", "members", "senders",
		"connections", "online", "duration"}
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
			parts = append(parts, "as fast as possible")
		case all[i].value != "0":
			parts = append(parts, name+" "+all[i].value)
		}
	}
	for _, set := range all {
		if !set.standard && !slices.Contains(about, set.name) &&
			!slices.Contains([]string{"kind", "name", "addr"}, set.name) {
			parts = append(parts, strings.TrimSpace(strings.ReplaceAll(set.name, "_",
				" ")+" "+set.value))
		}
	}
	return strings.Join(parts, " · ")
}

// repeat returns the command that repeats the scenario. A password that is not the
// default has to be added.
func repeat(s *scenario.Scenario) string {
	args := []string{"teamtalk", "bench", s.Kind}
	for _, set := range settings(s) {
		if set.name != "kind" && !set.standard {
			args = append(args, "--"+set.flag, quote(set.value))
		}
	}
	return strings.Join(args, " ")
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_./:,%@+-]+$`)

// quote quotes a text as one word for a shell.
func quote(s string) string {
	if bare.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
