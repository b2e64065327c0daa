package sim

import (
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	firstSeed = flag.Uint64("first", 1, "first seed of TestSeeds")
	seeds     = flag.Int("seeds", defaultSeeds, "number of seeds of TestSeeds")
	night     = flag.Duration("for", 0, "let TestSeeds take further seeds for so long")
	one       = flag.Bool("one", false, "end TestSeeds at the first seed that fails")
	meshes    = flag.Bool("mesh", false, "let no seed of TestSeeds have a route server")
	traced    = flag.Bool("trace", false, "print the events of seeds that fail, shrunk")
)

// TestMain runs everything on one processor. Two runs of a seed are then the same, and a
// switch between goroutines takes a fraction of the time.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// outcome is the result of a run.
type outcome struct {
	failures []failure
	events   int
	trace    uint64
	texts    int // stored
	log      string
}

// setup is a run: a seed, the steps of its plan, and what is broken on purpose.
type setup struct {
	seed  uint64
	mesh  bool   // there is no route server
	steps []step // nil: the plan of the seed
	harm  func(w *world)
	log   bool
	shake bool // goroutines give up the processor at random
}

// play carries out a run.
func play(t *testing.T, r setup) (o outcome) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w := newWorld(r.seed, r.mesh)
		if w.shaken = r.shake; r.log {
			w.log = &strings.Builder{}
		}
		if r.steps == nil {
			r.steps = plan(w)
		}
		if r.harm != nil {
			r.harm(w)
		}
		o.failures = w.run(r.steps)
		o.events, o.trace, o.texts = w.events, w.trace, len(w.stored)
		if r.log {
			o.log = w.log.String()
		}
	})
	return o
}

// planned returns a run with the plan of a seed.
func planned(t *testing.T, seed uint64, mesh bool) setup {
	t.Helper()
	r := setup{seed: seed, mesh: mesh}
	synctest.Test(t, func(*testing.T) { r.steps = plan(newWorld(seed, mesh)) })
	return r
}

// maxShrunk is the number of failing seeds that are shrunk. Each takes hundreds of runs.
const maxShrunk = 3

// TestSeeds runs a plan for each seed. A seed that fails is shrunk to the steps that
// matter, which are printed as a test.
func TestSeeds(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 10)
	}
	begin, events, texts, failed := time.Now(), 0, 0, 0
	seed := *firstSeed
	for ; seed < *firstSeed+uint64(n) || time.Since(begin) < *night; seed++ {
		mesh := *meshes || meshOf(seed)
		o := play(t, setup{seed: seed, mesh: mesh})
		events, texts = events+o.events, texts+o.texts
		if len(o.failures) == 0 {
			continue
		}
		for _, f := range o.failures {
			t.Errorf("seed %d%s: %v: %s: %s", seed, map[bool]string{true: " with meshes"}[mesh],
				f.at, f.kind, f.text)
		}
		if *one {
			return
		}
		if failed++; failed <= maxShrunk {
			explain(t, seed, mesh, o.failures[0].kind)
		}
	}
	t.Logf("%d seeds, %d events, %d texts stored, %v", seed-*firstSeed, events, texts,
		time.Since(begin).Round(time.Millisecond))
}

// explain prints the shrunk plan of a seed that fails.
func explain(t *testing.T, seed uint64, mesh bool, kind string) {
	t.Helper()
	r := planned(t, seed, mesh)
	steps, failures := shrink(t, r, kind)
	for _, f := range failures {
		t.Logf("seed %d, shrunk: %v: %s: %s", seed, f.at, f.kind, f.text)
	}
	t.Logf("As a test:\n\t{%d, %v, []step{\n%s\t}},", seed, mesh, goCode(steps))
	if *traced {
		r.steps, r.log = steps, true
		t.Logf("%s", play(t, r).log)
	}
}

// withoutRaces skips a test of many runs when the race detector runs: TestSeeds shows it the same
// code. .ci/seeds runs these tests without it.
func withoutRaces(t *testing.T) {
	t.Helper()
	if raced {
		t.Skip(".ci/seeds runs it without the race detector")
	}
}

// TestReplay: all runs of a seed have the same events at the same times. In the first two
// seeds a message server asks for the members of two groups again at the same instant, which
// package time does in either order. In the third one it releases the acks of a map. Seeds below
// 10 have the mesh: there goroutines of one process look up users, write them and mark groups at
// the same instant.
//
// On a busy machine the runtime takes the processor from a goroutine at any point. All runs but
// the first do so often.
func TestReplay(t *testing.T) {
	withoutRaces(t)
	for _, seed := range []uint64{29, 64, 1145, 2, 7} {
		r := setup{seed: seed, mesh: seed < 10}
		a := play(t, r)
		r.shake = true
		for range 2 {
			b := play(t, r)
			if a.trace != b.trace || a.events != b.events {
				t.Errorf("seed %d: %d events with hash %x, then %d with %x", seed, a.events,
					a.trace, b.events, b.trace)
			}
		}
	}
}

// TestChecksFindFaults breaks the world on purpose. Each check must find its fault.
func TestChecksFindFaults(t *testing.T) {
	withoutRaces(t)
	for _, c := range []struct {
		kind string
		harm func(w *world)
	}{
		{"not stored", func(w *world) { w.db.forgets = true }},
		{"twice", func(w *world) { w.db.namesLost = true }},
		{"order", func(w *world) { w.net.reorders = true }},
		{"not delivered", func(w *world) { w.net.loses = true }},
	} {
		var steps []step
		var failures []failure
		for seed := uint64(1); seed <= 50 && len(failures) == 0; seed++ {
			r := planned(t, seed, false)
			r.harm = c.harm
			steps, failures = shrink(t, r, c.kind)
		}
		if len(failures) == 0 {
			t.Errorf("%s: not found in 50 seeds", c.kind)
		} else if len(steps) > 6 {
			t.Errorf("%s: %d steps are left:\n%s", c.kind, len(steps), goCode(steps))
		}
	}
}
