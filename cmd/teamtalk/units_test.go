package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"teamtalk/core/config"
)

// unit holds the lines NAME=VALUE of a unit of systemd, by name.
type unit map[string][]string

// readUnit reads a unit of the examples. Lines that are commented out with a # alone, as examples,
// count as well.
func readUnit(t *testing.T, name string) unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("example", name))
	if err != nil {
		t.Fatal(err)
	}
	u := unit{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "#")
		if key, value, ok := strings.Cut(line, "="); ok && !strings.Contains(key, " ") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

// TestUnits checks that the units of systemd fit the program: the type, the time for a stop, the
// exit codes that a restart does not help, and the settings.
func TestUnits(t *testing.T) {
	var known []string
	for _, s := range config.Settings() {
		known = append(known, s.Env())
	}
	known = append(known, config.EnvFile)
	for _, name := range []string{"teamtalk.service", "teamtalk@.service"} {
		u := readUnit(t, name)
		for key, want := range map[string]string{"Type": "notify", "User": "teamtalk",
			"RestartPreventExitStatus": "2 3", "ExecReload": "/bin/kill -HUP $MAINPID"} {
			if got := u[key]; !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s=%q, want %q", name, key, got, want)
			}
		}
		stop, err := time.ParseDuration(u["TimeoutStopSec"][0])
		if least := config.Default().ShutdownTimeout; err != nil || stop <= least {
			t.Errorf("%s: TimeoutStopSec=%v (%v), shutdown_timeout is %v", name, stop, err, least)
		}
		for _, assignments := range u["Environment"] {
			for a := range strings.FieldsSeq(assignments) {
				if variable, _, _ := strings.Cut(a, "="); !slices.Contains(known, variable) {
					t.Errorf("%s: %s is no setting", name, variable)
				}
			}
		}
	}
}

// TestUnitsVerified lets systemd check the units, which finds keys that are misspelled.
func TestUnitsVerified(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this machine has no systemd")
	}
	dir := t.TempDir()
	for from, to := range map[string]string{"teamtalk.service": "teamtalk.service",
		"teamtalk@.service": "teamtalk@msg.service"} {
		text, err := os.ReadFile(filepath.Join("example", from))
		if err != nil {
			t.Fatal(err)
		}
		// The binary must be there.
		text = []byte(strings.ReplaceAll(string(text), "/usr/local/bin/teamtalk", "/bin/true"))
		file := filepath.Join(dir, to)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "verify", "--man=no", "--recursive-errors=no",
			file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", from, err, out)
		}
	}
}
