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
	steps []step // nil: the plan of the seed
	harm  func(w *world)
	log   bool
}

// play carries out a run.
func play(t *testing.T, r setup) (o outcome) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w := newWorld(r.seed)
		if r.log {
			w.log = &strings.Builder{}
		}
		if r.steps == nil {
			r.steps = plan(w.sched, len(w.clients))
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

// planOf returns the plan of a seed.
func planOf(t *testing.T, seed uint64) (steps []step) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w := newWorld(seed)
		steps = plan(w.sched, len(w.clients))
	})
	return steps
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
		o := play(t, setup{seed: seed})
		events, texts = events+o.events, texts+o.texts
		if len(o.failures) == 0 {
			continue
		}
		for _, f := range o.failures {
			t.Errorf("seed %d: %v: %s: %s", seed, f.at, f.kind, f.text)
		}
		if *one {
			return
		}
		if failed++; failed <= maxShrunk {
			explain(t, seed, o.failures[0].kind)
		}
	}
	t.Logf("%d seeds, %d events, %d texts stored, %v", seed-*firstSeed, events, texts,
		time.Since(begin).Round(time.Millisecond))
}

// explain prints the shrunk plan of a seed that fails.
func explain(t *testing.T, seed uint64, kind string) {
	t.Helper()
	steps, failures := shrink(t, setup{seed: seed, steps: planOf(t, seed)}, kind)
	for _, f := range failures {
		t.Logf("seed %d, shrunk: %v: %s: %s", seed, f.at, f.kind, f.text)
	}
	t.Logf("As a test:\n\t{%d, []step{\n%s\t}},", seed, goCode(steps))
	if *traced {
		t.Logf("%s", play(t, setup{seed: seed, steps: steps, log: true}).log)
	}
}

// TestReplay: all runs of a seed have the same events at the same times. In the first two
// seeds a message server asks for the members of two groups again at the same instant, which
// package time does in either order. In the third one it releases the acks of a map.
func TestReplay(t *testing.T) {
	if raced {
		t.Skip(".ci/seeds runs it without the race detector")
	}
	for _, seed := range []uint64{29, 64, 1145} {
		a := play(t, setup{seed: seed})
		for range 3 {
			b := play(t, setup{seed: seed})
			if a.trace != b.trace || a.events != b.events {
				t.Errorf("seed %d: %d events with hash %x, then %d with %x", seed, a.events,
					a.trace, b.events, b.trace)
			}
		}
	}
}

// TestChecksFindFaults breaks the world on purpose. Each check must find its fault.
func TestChecksFindFaults(t *testing.T) {
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
			steps, failures = shrink(t, setup{seed: seed, steps: planOf(t, seed), harm: c.harm},
				c.kind)
		}
		if len(failures) == 0 {
			t.Errorf("%s: not found in 50 seeds", c.kind)
		} else if len(steps) > 6 {
			t.Errorf("%s: %d steps are left:\n%s", c.kind, len(steps), goCode(steps))
		}
	}
}

// TestFound runs plans that once failed.
func TestFound(t *testing.T) {
	for name, c := range map[string]struct {
		seed  uint64
		steps []step
	}{
		// A text that waited 8 s for a dead db_proxy was given up, and with it the texts
		// that its sender had written just before. The next text overtook those.
		// A text that had waited behind one in doubt was given up, and with it forgotten as
		// one of a sender that never repeats: an older text was not repeated in time. The next
		// text overtook it.
		"expired behind one in doubt": {16, []step{
			{at: 3450366593, act: actCutClient, a: 900, b: 0, n: 3, d: 6057985334},
			{at: 5127498548, act: actStop, a: 831, b: 0, n: 3, d: 1842330807},
			{at: 15158150553, act: actVanish, a: 0, b: 0, n: 2, d: 3351843611},
			{at: 18847257727, act: actWrite, a: 0, b: 3, n: 1, d: 0},
			{at: 18847606059, act: actHalfLink, a: 567, b: 0, n: 1, d: 7920807000},
			{at: 28901582586, act: actWrite, a: 0, b: 1002, n: 3, d: 0},
			{at: 29745939934, act: actWrite, a: 4, b: 3, n: 1, d: 0},
			{at: 29746429509, act: actCrashAtCommit, a: 535, b: 0, n: 2, d: 5107475978},
			{at: 33171531922, act: actWrite, a: 0, b: 3, n: 1, d: 0},
			{at: 39935225674, act: actWrite, a: 0, b: 3, n: 1, d: 0},
		}},
		"given up with another one": {253, []step{
			{at: 8923474 * time.Microsecond, act: actVanish, a: 307, d: 4439 * time.Millisecond},
			{at: 27551181 * time.Microsecond, act: actWrite, a: 0, b: 4, n: 1},
			{at: 35561650 * time.Microsecond, act: actWrite, a: 0, b: 4, n: 2},
			{at: 36015631 * time.Microsecond, act: actWrite, a: 0, b: 4, n: 1},
		}},
		// A text was repeated while its first attempt waited for a dead db_proxy. It was given
		// up 8 s after it was written, not after the repeat, and the next text overtook it.
		"repeated while unanswered": {14243, []step{
			{at: 4098127577, act: actStop, a: 164, b: 0, n: 3, d: 4284502814},
			{at: 10495283101, act: actHalfLink, a: 148, b: 0, n: 2, d: 1681798477},
			{at: 24108378869, act: actWrite, a: 3, b: 1, n: 1, d: 0},
			{at: 35989499853, act: actWrite, a: 3, b: 1, n: 1, d: 0},
			{at: 35991884208, act: actHangUp, a: 3, b: 0, n: 1, d: 5714984490},
		}},
		// The only repeat of a text arrived while its first attempt waited for a dead db_proxy,
		// and was forgotten. The repeat of the next text overtook it.
		"the only repeat unanswered": {14109, []step{
			{at: 3334725470, act: actHalfLink, a: 463, b: 0, n: 2, d: 1023833574},
			{at: 20128250452, act: actWrite, a: 3, b: 2, n: 3, d: 0},
			{at: 25738286221, act: actWrite, a: 3, b: 2, n: 1, d: 0},
			{at: 29813518065, act: actWrite, a: 3, b: 2, n: 4, d: 0},
			{at: 37405294940, act: actHangUp, a: 75, b: 0, n: 1, d: 3678587910},
		}},
		// The answers to the removal of a member and to a text after it were lost. The text was
		// found in the history, and delivered to that user by the other message server.
		"found after an unknown change": {1266, []step{
			{at: 5757734582, act: actWrite, a: 5, b: 1001, n: 1, d: 0},
			{at: 8100927025, act: actWrite, a: 2, b: 3, n: 5, d: 0},
			{at: 22343649075, act: actMood, a: 96, b: 0, n: 3, d: 5406200212},
			{at: 23339466347, act: actWrite, a: 2, b: 1002, n: 1, d: 0},
			{at: 23484147391, act: actWrite, a: 5, b: 1002, n: 1, d: 0},
			{at: 25232841704, act: actMembers, a: 1001, b: 2, n: 2, d: 0},
			{at: 25755133433, act: actWrite, a: 5, b: 1001, n: 1, d: 0},
		}},
		// The ack of a stored text waited for the receiver, and its connection ended.
		"drained without an ack": {828, []step{
			{at: 3946939879, act: actWrite, a: 5, b: 1, n: 1},
			{at: 3958264401, act: actStop, a: 5, d: 5654840664},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range play(t, setup{seed: c.seed, steps: c.steps}).failures {
				t.Errorf("%v: %s: %s", f.at, f.kind, f.text)
			}
		})
	}
}
