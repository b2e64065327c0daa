package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/bench/scenario"
	"teamtalk/cmd/teamtalk/internal/benchcmd"
	"teamtalk/cmd/teamtalk/internal/cli"
)

// TestBenchUsage checks the errors of wrong usage, and of servers that cannot be reached.
func TestBenchUsage(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "s.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"sinlge"}, `did you mean "single"?`},
		{[]string{"single", "--pairs", "0"},
			"pairs: want 1 or more, got 0 (see teamtalk bench single --help)"},
		{[]string{"single", "--pairs", "x"}, "want a whole number"},
		{[]string{"single", "--members", "3"}, "unknown flag: --members"},
		{[]string{"single", "--arrivals", "never"}, "arrivals: want one of constant, poisson"},
		{[]string{"single", "x"}, `want no arguments, got "x"`},
		{[]string{"single", "--generators", "-1"}, "--generators: want 0 to 1000"},
		{[]string{"run"}, "want one SCENARIO.toml, got 0 arguments"},
		{[]string{"run", file("kind = 'single'\nnothing = 1")},
			"nothing: no such setting of single"},
		{[]string{"run", file("x")}, "line 1"},
		{[]string{"run", file("kind = 'single'"), "--set", "rate"},
			"--set rate: want setting=value"},
		{[]string{"run", file("kind = 'single'"), "--set", "members=3"},
			"--set members=3: no such setting of single"},
		{[]string{"run", file("kind = 'single'"), "--set", "pairs=x"},
			"--set pairs=x: want a whole number"},
		{[]string{"run", file("kind = 'single'"), "--set", "pairs=0"}, "pairs: want 1 or more"},
		{[]string{"sweep", "run", file("kind = 'single'"), "--from", "1", "--to", "2", "--set",
			"pairs=0"}, "pairs: want 1 or more"},
	} {
		command(t, "", append([]string{"bench"}, x.args...)...).want(t, cli.ExitUsage, "", x.want)
	}
	command(t, "", "bench", "run", "none.toml").want(t, cli.ExitFailure, "",
		"none.toml: no such file")
	for addr, want := range map[string]string{
		"127.0.0.1:1": "teamtalk: user u00001 at 127.0.0.1:1: connect: connection refused",
		"nowhere":     `teamtalk: message server "nowhere": want host:port`,
	} {
		r := command(t, "", "bench", "idle", "--addr", addr, "--connections", "1")
		told := strings.Split(strings.TrimSpace(r.err), "\n")
		if r.code != cli.ExitFailure || told[len(told)-1] != want {
			t.Errorf("%s: exit code %d, %q", addr, r.code, r.err)
		}
	}
}

// TestBenchHelp checks the help of every kind of scenario: lines that fit a terminal, and
// examples that parse.
func TestBenchHelp(t *testing.T) {
	for _, kind := range scenario.Kinds() {
		k, ok := benchcmd.Kinds[kind]
		if !ok || k.Short == "" || strings.HasSuffix(k.Short, ".") || k.Example == "" {
			t.Errorf("%s: %+v", kind, k)
		}
		for line := range strings.Lines(k.Long) {
			if len([]rune(line)) > 110 {
				t.Errorf("%s: line of %d letters: %s", kind, len([]rune(line)), line)
			}
		}
		for line := range strings.Lines(k.Example) {
			args := strings.Fields(line)
			if len(args) < 3 || args[1] != "bench" || args[2] != kind {
				t.Errorf("%s: example %q", kind, line)
				continue
			}
			s := scenario.New(kind)
			cmd := benchcmd.NewKindCommand(kind, k)
			if !strings.Contains(line, "$(") {
				if err := cmd.ParseFlags(args[3:]); err != nil {
					t.Errorf("%s: example %q: %v", kind, line, err)
				}
			}
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestBenchExamples parses the example scenarios.
func TestBenchExamples(t *testing.T) {
	files, err := filepath.Glob("example/bench/*.toml")
	if err != nil || len(files) < 4 {
		t.Fatalf("examples: %q, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scenario.Parse(data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
