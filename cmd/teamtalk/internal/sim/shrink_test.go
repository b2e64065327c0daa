package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// shrink drops steps of a plan while the run still fails in the same way. It returns the
// steps that are left and the failures of their run; none when the plan does not fail.
func shrink(t *testing.T, r setup, kind string) ([]step, []failure) {
	t.Helper()
	fails := func(s []step) []failure {
		r.steps = s
		return slices.DeleteFunc(play(t, r).failures,
			func(f failure) bool { return f.kind != kind })
	}
	steps := r.steps
	best := fails(steps)
	if len(best) == 0 {
		return nil, nil
	}
	for size := (len(steps) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(steps); {
			fewer := slices.Delete(slices.Clone(steps), at, min(at+size, len(steps)))
			if f := fails(fewer); len(f) > 0 {
				steps, best = fewer, f
			} else {
				at += size
			}
		}
	}
	return steps, best
}

// goCode returns steps as they are written in a test.
func goCode(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "\t\t{at: %d, act: %s, a: %d, b: %d, n: %d, d: %d},\n", s.at,
			actIdents[s.act], s.a, s.b, s.n, s.d)
	}
	return b.String()
}
