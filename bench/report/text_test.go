package report

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"teamtalk/bench"
)

func TestText(t *testing.T) {
	for name, r := range map[string]*bench.Result{"clean": fixture(), "lossy": lossy()} {
		var b bytes.Buffer
		if err := Text(&b, r, false); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", b.Bytes())
		b.Reset()
		if err := Markdown(&b, r); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".md", b.Bytes())
	}
}

// TestFaultsAreRed checks that a failed check is red, is named without colour too, and
// stands beside a rate.
func TestFaultsAreRed(t *testing.T) {
	const red = "\x1b[1;31m"
	text := func(r *bench.Result, color bool) string {
		var b strings.Builder
		if err := Text(&b, r, color); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if s := text(fixture(), true); strings.Contains(s, red) || strings.Contains(s, "NOT CLEAN") {
		t.Errorf("a clean result is red: %q", s)
	}
	for name, spoil := range map[string]func(*bench.Checks){
		"unacked":            func(c *bench.Checks) { c.Unacked = 7 },
		"lost":               func(c *bench.Checks) { c.Lost = 7 },
		"duplicates":         func(c *bench.Checks) { c.Duplicates = 7 },
		"reordered":          func(c *bench.Checks) { c.Reordered = 7 },
		"corrupt":            func(c *bench.Checks) { c.Corrupt = 7 },
		"connections broken": func(c *bench.Checks) { c.Broken = 7 },
		"refused":            func(c *bench.Checks) { c.Refused = 7 },
	} {
		r := fixture()
		r.Totals["logins"] = 400
		spoil(&r.Checks)
		colored, bare := text(r, true), text(r, false)
		if !strings.Contains(colored, red+"NOT CLEAN: 7 "+name) {
			t.Errorf("7 %s are not red: %s", name, colored)
		}
		if strings.Contains(bare, "\x1b") || !strings.Contains(bare, "NOT CLEAN: 7 "+name) {
			t.Errorf("7 %s without colour: %s", name, bare)
		}
		if strings.Count(bare, "7 "+name) < 2 {
			t.Errorf("7 %s stand beside no rate: %s", name, bare)
		}
		if strings.Count(colored, red) < 5 { // the verdict, the three cells of a row, the latencies
			t.Errorf("with 7 %s a rate is not red: %q", name, colored)
		}
	}
}

// TestTextOfOthers checks that texts from a file cannot move the cursor or set colours.
func TestTextOfOthers(t *testing.T) {
	r := lossy()
	evil := "\x1b[2J\u009b1m\nx"
	r.Build, r.Machine.Host, r.Processes[0].Name, r.Checks.Examples[0], r.Ceilings[0].Error = evil,
		evil, evil, evil, evil
	r.Totals[evil] = 1
	var b bytes.Buffer
	if err := Text(&b, r, false); err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(b.Bytes(), "\x1b\u009b") {
		t.Errorf("%q", b.String())
	}
}

// TestStopped checks that a run ended early is reported so, except kinds that end by
// themselves.
func TestStopped(t *testing.T) {
	for _, c := range []struct {
		kind, after string
		seconds     float64
		want        bool
	}{{"single", "", 30, false}, {"single", "", 12.3, true}, {"idle", "", 2, false},
		{"connect", "logout", 12, true}, {"connect", "stay", 12, false}} {
		r := fixture()
		r.Seconds, r.Scenario.Kind, r.Scenario.After = c.seconds, c.kind, c.after
		var b strings.Builder
		if err := Text(&b, r, false); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "stopped early, of 30s") != c.want {
			t.Errorf("%+v: %s", c, b.String())
		}
	}
}

func TestColors(t *testing.T) {
	env := func(string) string { return "" }
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if Colors(f, env) {
		t.Error("a file is coloured")
	}
	_, tty := terminal(t)
	for _, c := range []struct {
		name, value string
		want        bool
	}{{"TERM", "xterm", true}, {"NO_COLOR", "1", false}, {"TERM", "dumb", false}} {
		if got := Colors(tty,
			func(k string) string { return map[string]string{c.name: c.value}[k] }); got != c.want {
			t.Errorf("%s=%s: %v", c.name, c.value, got)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{
		{0, "0"}, {0.0001234, "0.000123"}, {0.0123, "0.012"}, {0.5, "0.500"}, {0.9996, "1.00"},
		{1.234, "1.23"}, {9.996, "10.0"}, {12.34, "12.3"},
		{99.96, "100"}, {1234.5, "1,235"}, {1234567, "1,234,567"}, {-1234.5, "-1,235"},
		{1e18, "1.00e+18"},
	} {
		if got := number(c.v); got != c.want {
			t.Errorf("%v: %q, want %q", c.v, got, c.want)
		}
	}
}
