package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"teamtalk/bench"
	"teamtalk/bench/ranks"
)

// chance is the probability up to which a difference between the runs of two builds that do not
// differ is accepted: one row in twenty is then called better or worse although nothing changed.
const chance = 0.05

// fewestRuns is the number of runs of each build from which on a difference can be told from
// chance: with three the probability is 0.1 at least.
const fewestRuns = 4

// CompareRuns prepares a comparison of builds that ran several times each: groups[i] are the
// results of build i, and paths[i] is where they come from. Each value is the median of the runs.
// Two builds with four runs and more differ in a value when their runs would differ that much by
// chance with a probability of 5 % at most, and when the medians differ by more than noise; 0 for
// noise means DefaultNoise. With one run of each it is Compare.
func CompareRuns(groups [][]*File, paths []string, noise float64) (*Comparison, error) {
	var first []*File
	for i, g := range groups {
		if len(g) == 0 {
			return nil, fmt.Errorf("compare: %s has no result", paths[i])
		}
		for _, f := range g {
			if f.Result == nil {
				return nil, fmt.Errorf("compare: %s is a sweep, want a result", f.Name)
			}
		}
		first = append(first, g[0])
	}
	c, err := Compare(first, noise)
	if err != nil {
		return nil, err
	}
	c.runs, c.names = groups, shortNames(paths)
	return c, nil
}

// several reports whether a build has more than one run.
func (c *Comparison) several() bool {
	return slices.ContainsFunc(c.runs, func(g []*File) bool { return len(g) > 1 })
}

// results calls f for each result, with the number of its build and its name.
func (c *Comparison) results(f func(i int, name string, r *bench.Result)) {
	for i, g := range c.runs {
		for k, file := range g {
			name := c.names[i]
			if len(g) > 1 {
				name = fmt.Sprintf("%s, run %d", name, k+1)
			}
			f(i, name, file.Result)
		}
	}
}

// differs says whether the runs of build i differ from those of the first in the values of a row.
type differs int

const (
	equal   differs = iota
	unsure          // too few runs
	certain         // in either direction
)

// differs compares the runs of build i with those of the first. q is the ratio of the medians.
func (r *row) differs(i int, q float64) differs {
	a, b := r.samples[0], r.samples[i]
	if len(a) == 1 && len(b) == 1 {
		if math.Abs(q-1) <= r.noise {
			return equal
		}
		return certain
	}
	x, y := ranks.SpreadOf(a), ranks.SpreadOf(b)
	switch apart := x.High < y.Low || y.High < x.Low; {
	case math.Abs(q-1) <= r.least:
		return equal
	case min(len(a), len(b)) >= fewestRuns && ranks.ByChance(a, b) <= chance:
		return certain
	case min(len(a), len(b)) < fewestRuns && apart:
		return unsure
	}
	return equal
}

// verdictPart says of each build that ran several times what it does better and worse.
func (c *Comparison) verdictPart(rows []row) part {
	p := part{Title: "Verdict"}
	for i := 1; i < len(c.names); i++ {
		var better, worse, maybe []string
		for _, r := range rows {
			text, t := r.ratio(i)
			is := r.group + " " + r.name + " " + strings.Fields(text + " –")[0]
			switch {
			case t == good:
				better = append(better, is)
			case t == bad:
				worse = append(worse, is)
			case strings.HasSuffix(text, unsureText):
				maybe = append(maybe, is)
			}
		}
		say := func(t tone, what string, list []string) {
			if len(list) > 0 {
				p.Notes = append(p.Notes, note{t, c.names[i] + " " + what + ": " +
					strings.Join(list, ", ")})
			}
		}
		say(good, "is better", better)
		say(bad, "is WORSE", worse)
		say(warn, fmt.Sprintf("may differ, and has too few runs (want %d of each)", fewestRuns),
			maybe)
		if len(better)+len(worse)+len(maybe) == 0 {
			p.Notes = append(p.Notes, note{plain, c.names[i] + ": no difference from " +
				c.names[0]})
		}
	}
	return p
}

// unsureText marks a difference of too few runs.
const unsureText = "unsure"

// legend explains the marks.
func (c *Comparison) legend() string {
	rest := fmt.Sprintf("Ratios are to %s. Values marked ! belong to a result that is not clean.",
		c.names[0])
	if c.several() {
		return fmt.Sprintf("Medians of the runs, with the lowest and the highest. ≈: no "+
			"difference of the runs by more than chance (Mann-Whitney, 5 %%), or of the medians "+
			"by more than %.3g %%. Charts show the first run of each. %s", 100*c.noise, rest)
	}
	return fmt.Sprintf("≈: within the noise of ±%.3g %% (p99 ±%.3g %%, p99.9 and max ±%.3g %%). %s",
		100*c.noise, 200*c.noise, 400*c.noise, rest)
}

// generatorBound returns a warning for each build with runs that measure the generator.
func (c *Comparison) generatorBound() []note {
	bound := make([]int, len(c.runs))
	c.results(func(i int, _ string, r *bench.Result) {
		if r.GeneratorBound {
			bound[i]++
		}
	})
	var out []note
	for i, n := range bound {
		of := ""
		if runs := len(c.runs[i]); runs > 1 {
			of = fmt.Sprintf(" in %d of %d runs", n, runs)
		}
		if n > 0 {
			out = append(out, note{warn, c.names[i] + " is GENERATOR-BOUND" + of +
				": it measures the generator, not the servers"})
		}
	}
	return out
}
