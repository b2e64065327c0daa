package prune_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/daily"
	"teamtalk/core/im"
	"teamtalk/sql/prune"
)

// runs is the name of the metric of the runs of a rule.
const runs = "teamtalk_dbproxy_message_expiries_total"

// process is a db_proxy that keeps a rule.
type process struct {
	*world
	opt  prune.RuleOptions
	reg  *prometheus.Registry
	log  bytes.Buffer // read it when the rule has ended
	mu   sync.Mutex
	now  time.Time
	end  context.CancelFunc
	over chan struct{}

	paths int                         // files of sounds that were deleted
	hook  func(context.Context) error // of each deletion of files; set before the start
}

// newProcess makes a process on a store. The messages of say count as three days older than they
// are.
func (w *world) newProcess(s prune.Store, turns im.PruneTurns) *process {
	p := &process{world: w, reg: prometheus.NewRegistry(), now: time.Now()}
	p.opt = prune.RuleOptions{Store: s, Turns: turns, Age: im.MinPruneAge,
		Now:        func() time.Time { return time.Unix(int64(w.before), 0).Add(im.MinPruneAge) },
		Files:      func() (prune.Files, error) { return files{p}, nil },
		Log:        slog.New(slog.NewTextHandler(&p.log, nil)),
		Registerer: p.reg,
	}.Fast(func() time.Time {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now
	})
	return p
}

// files are the files of a process.
type files struct{ p *process }

func (f files) Delete(ctx context.Context, paths []string) error {
	f.p.paths += len(paths)
	if f.p.hook != nil {
		return f.p.hook(ctx)
	}
	return nil
}

func (f files) Found() (deleted, left int) { return f.p.paths, 0 }

func (f files) Close() {}

// start starts the rule.
func (p *process) start() {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	p.end, p.over = cancel, over
	rule := prune.NewRule(p.opt)
	go func() {
		defer close(over)
		rule.Run(ctx)
	}()
	p.Cleanup(p.stop)
}

// stop ends the rule, and returns when it has ended.
func (p *process) stop() {
	p.end()
	<-p.over
}

// later sets the clock of the process forward.
func (p *process) later(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

// count returns a counter of the process by its label.
func (p *process) count(name, label string) float64 {
	p.Helper()
	families, err := p.reg.Gather()
	p.check(err)
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && m.Label[0].GetValue() == label {
				return m.Counter.GetValue()
			}
		}
	}
	return -1
}

// waitFor waits until a counter of runs has a value.
func (p *process) waitFor(result string, n float64) {
	p.Helper()
	for end := time.Now().Add(time.Minute); p.count(runs, result) < n; {
		if time.Now().After(end) {
			p.Fatalf("%v runs %s, want %v\n%s", p.count(runs, result), result, n, p.log.String())
		}
		time.Sleep(time.Millisecond)
	}
}

// turns are the runs of a store.
func (w *world) turns() im.PruneTurns {
	if t, ok := w.server.(im.PruneTurns); ok {
		return t
	}
	return prune.File(filepath.Join(w.TempDir(), prune.FileName))
}

// TestRule keeps a rule for two days, beside a server that stores messages.
func TestRule(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		a, b := w.u[0], w.u[1]
		turns := w.turns()
		w.say(a, b, text, 5, false)
		w.say(b, a, voice, 2, false)
		w.say(a, b, text, 1, true) // 8
		p := w.newProcess(w.command, turns)
		p.start()
		p.waitFor("done", 1)
		w.wantIDs("after a run", a, b, false, 8)
		w.wantUnread("after a run", b, a, 1, 1)
		if at, err := turns.LastPruned(w.Context()); err != nil || at != p.now.Unix() {
			w.Errorf("the last run was at %d, %v, want %d", at, err, p.now.Unix())
		}
		w.say(a, b, text, 3, false)
		w.say(a, b, text, 1, true)
		p.later(23 * time.Hour)
		if n, err := testutil.GatherAndCount(p.reg); err != nil || n != 9 {
			w.Errorf("%d metrics, %v, want 9", n, err)
		}
		p.later(time.Hour)
		p.stop() // its next look may be an hour away
		today := p.opt.Now
		p.opt.Now = func() time.Time { return today().Add(24 * time.Hour) }
		p.start2()
		p.waitFor("done", 1)
		w.wantIDs("a day later", a, b, false, 12)
		p.stop()
		for kind, want := range map[string]float64{"text": 4, "sound": 0, "group_text": 0} {
			if got := p.count("teamtalk_dbproxy_messages_expired_total", kind); got != want {
				w.Errorf("%v messages of kind %s were deleted, want %v", got, kind, want)
			}
		}
		if log := p.log.String(); strings.Count(log, "old messages are deleted") != 2 ||
			!strings.Contains(log, "texts=5 sounds=2 bytes=250 busy_conversations=0") ||
			!strings.Contains(log, "files=2 files_not_here=0") {
			w.Errorf("log:\n%s", log)
		}
	})
}

// start2 starts the rule again, as a new process with new metrics.
func (p *process) start2() {
	p.reg = prometheus.NewRegistry()
	p.opt.Registerer = p.reg
	p.start()
}

// TestRuleStops ends the process in the middle of a run. The next one does the rest.
func TestRuleStops(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		a, b := w.u[0], w.u[1]
		turns := w.turns()
		w.say(a, b, voice, 3, false)
		w.say(a, b, text, 1, true)
		p := w.newProcess(w.command, turns)
		p.hook = func(ctx context.Context) error {
			p.end()
			<-ctx.Done()
			return ctx.Err()
		}
		p.start()
		p.waitFor("paused", 1)
		p.stop()
		if at, err := turns.LastPruned(w.Context()); err != nil || at != 0 {
			w.Errorf("the run that was stopped is recorded: %d, %v", at, err)
		}
		p.hook = nil
		p.start2() // at once: the lease was given up
		p.waitFor("done", 1)
		if n := p.count(runs, "passed"); n != 0 {
			w.Errorf("the lease was not free %v times", n)
		}
		w.wantIDs("after the rest", a, b, false, 4)
	})
}

// TestRuleInOneProcess runs two db_proxies on one database. One deletes, the other waits, and does
// the rest when the first one ends.
func TestRuleInOneProcess(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		turns, shared := w.server.(im.PruneTurns)
		if !shared {
			return // the embedded store has one process
		}
		a, b := w.u[0], w.u[1]
		w.say(a, b, voice, 3, false)
		w.say(a, b, text, 1, true)
		first := w.newProcess(w.server.(prune.Store), turns)
		second := w.newProcess(w.command, w.command.(im.PruneTurns))
		inside := make(chan struct{}, 1)
		first.hook = func(ctx context.Context) error {
			inside <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		first.start()
		<-inside
		second.start()
		second.waitFor("passed", 3)
		if second.paths > 0 {
			w.Error("two processes delete")
		}
		first.stop()
		second.waitFor("done", 1)
		w.wantIDs("after the rest", a, b, false, 4)
		first.hook = nil
		first.later(time.Hour)
		first.start2() // it learns of the run, and does none
		for end := time.Now().Add(time.Minute); age(first) < 3000; {
			if time.Now().After(end) {
				w.Fatalf("the last run is %v seconds old, want 3600", age(first))
			}
			time.Sleep(time.Millisecond)
		}
		first.stop()
		second.stop()
		if n := first.count(runs, "done"); n != 0 {
			w.Errorf("the other process ran %v times again", n)
		}
	})
}

// age is the age of the last run that a process knows, in seconds.
func age(p *process) float64 {
	families, err := p.reg.Gather()
	p.check(err)
	for _, f := range families {
		if f.GetName() == "teamtalk_dbproxy_message_expiry_age_seconds" {
			return f.Metric[0].Gauge.GetValue()
		}
	}
	return -1
}

// TestRuleHours runs in the hours of a rule alone. Their end ends a run.
func TestRuleHours(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		a, b := w.u[0], w.u[1]
		turns := w.turns()
		w.say(a, b, voice, 3, false)
		w.say(a, b, text, 1, true)
		p := w.newProcess(w.command, turns)
		hours, err := daily.Parse("01:00-06:00")
		w.check(err)
		p.opt.Hours = hours
		at := func(hour, minute, second int) {
			y, m, d := p.now.Date()
			p.now = time.Date(y, m, d, hour, minute, second, 0, time.Local)
		}
		at(0, 59, 59)
		asked := &asks{PruneTurns: turns}
		p.opt.Turns = asked
		p.start2()
		// It looks once and waits for an hour: nothing else happens in this process.
		p.stop()
		if asked.n != 0 {
			w.Errorf("before the hours it asked for the last run %d times", asked.n)
		}
		at(5, 59, 59) // a second is left
		p.hook = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		p.start2()
		p.waitFor("paused", 1)
		p.stop()
		p.hook = nil
		p.now = p.now.Add(20 * time.Hour)
		at(1, 0, 0)
		p.start2()
		p.waitFor("done", 1)
		p.stop()
		w.wantIDs("the next night", a, b, false, 4)
		at(3, 0, 0)
		p.start2()
		p.stop()
		if n := p.count(runs, "done"); n != 0 {
			w.Errorf("a second run in the same night")
		}
	})
}

// asks counts the questions for the last run.
type asks struct {
	im.PruneTurns
	n int
}

func (a *asks) LastPruned(ctx context.Context) (int64, error) {
	a.n++
	return a.PruneTurns.LastPruned(ctx)
}

// TestRuleFails counts and logs a failure, and tries again.
func TestRuleFails(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		a, b := w.u[0], w.u[1]
		w.say(a, b, voice, 3, false)
		w.say(a, b, text, 1, true)
		p := w.newProcess(w.command, w.turns())
		left := 2
		p.hook = func(context.Context) error {
			if left--; left >= 0 {
				return im.Errorf(im.Unavailable, "the disk of the files is away")
			}
			return nil
		}
		p.start()
		p.waitFor("done", 1)
		p.stop()
		if n := p.count(runs, "failed"); n != 2 {
			w.Errorf("%v runs failed, want 2", n)
		}
		if log := p.log.String(); strings.Count(log, "level=ERROR") != 2 ||
			!strings.Contains(log, `err="the disk of the files is away"`) {
			w.Errorf("log:\n%s", log)
		}
	})
}
