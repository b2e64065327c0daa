//go:build linux

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patience is the time after which a test gives up on an event. No test asserts a
// duration. The limit ends a test whose server hangs. It is long because an answer with all
// users of a large company takes more than 50 s on two cores with a load average of 45.
const patience = 4 * time.Minute

// teamtalk is the package of the binary under test.
const teamtalk = "teamtalk/cmd/teamtalk"

// plain builds the binary once, without the race detector.
var plain = sync.OnceValues(func() (string, error) { return build("plain") })

// racedFlags are the GOFLAGS of the binary with the race detector, for tests that have none
// themselves, see .ci/test. Empty: those of the tests.
var racedFlags = os.Getenv("TEAMTALK_TEST_RACE_GOFLAGS")

// raced builds the binary once, with the race detector when the tests have it or racedFlags say so.
var raced = sync.OnceValues(func() (string, error) {
	if !raceDetector && racedFlags == "" {
		return plain()
	}
	return build("race", "-race")
})

// raceEverywhere makes every process of the suite run with the race detector, see program.
var raceEverywhere = os.Getenv("TEAMTALK_TEST_RACE") != ""

// build builds the binary into a folder of binaryDir. Its name is that of the program:
// bench reports it.
func build(folder string, flags ...string) (string, error) {
	path := filepath.Join(binaryDir(), folder, "teamtalk")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", path}, flags,
		[]string{teamtalk})...)
	cmd.Env = toolEnvironment(len(flags) > 0)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, statSources()
}

// toolEnvironment returns the environment of a go command that builds with the race detector
// or without it, see .ci/test.
func toolEnvironment(race bool) []string {
	env, goflags := append(os.Environ(), "GOGC=400", "GOMEMLIMIT=2GiB"), racedFlags
	if !race {
		goflags = os.Getenv("TEAMTALK_TEST_GOFLAGS")
	}
	if goflags != "" {
		env = append(env, "GOFLAGS="+goflags)
	}
	return env
}

// statSources looks up every source file of the binary. The go command caches the result
// of a test until a file changes that the test looked up, or a package that it imports.
// The suite does not import the servers, so without this a change of a server would leave
// an old result in the cache.
func statSources() error {
	const files = "{{if and .Module .Module.Main}}{{.Dir}}\n" + // its time shows a new file
		"{{range .GoFiles}}{{$.Dir}}/{{.}}\n{{end}}" +
		"{{range .EmbedFiles}}{{$.Dir}}/{{.}}\n{{end}}{{end}}"
	list, err := exec.Command("go", "list", "-deps", "-f", files, teamtalk).Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	for path := range strings.Lines(string(list)) {
		if path = strings.TrimSpace(path); path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	return nil
}

// binaryDir is the folder of this process for the binaries.
func binaryDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprint("teamtalk-e2e-", os.Getpid()))
}

// TestMain runs the tests and removes the binaries.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		// Most tests wait, so more of them can run than there are processors.
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	closeBrowser()
	os.RemoveAll(binaryDir())
	os.Exit(code)
}

// processor limits the tests that use a processor all the time to one.
var processor = make(chan struct{}, 1)

// takeProcessor waits until no other heavy test runs. The processor is given back at the end of
// the test.
func takeProcessor(t testing.TB) {
	processor <- struct{}{}
	t.Cleanup(func() { <-processor })
}

// program returns the path of the binary for commands that run to their end, and for the
// load generator. It has no race detector: a process with it uses six times the processor
// time before it has done anything, and the suite starts hundreds of them. The tests of
// their packages run the same code with the race detector. TEAMTALK_TEST_RACE selects the
// race detector for these too.
func program(t testing.TB) string {
	t.Helper()
	if raceEverywhere {
		return racedProgram(t)
	}
	return path(t, plain)
}

// racedProgram returns the path of the binary with the race detector, if the tests have it.
func racedProgram(t testing.TB) string {
	t.Helper()
	return path(t, raced)
}

// path returns the path of a binary, which the first call builds.
func path(t testing.TB, built func() (string, error)) string {
	t.Helper()
	if testing.Short() {
		t.Skip("end to end: not with -short")
	}
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// until polls a condition that no event reports. It fails the test after patience.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !eventually(ok) {
		t.Fatalf("waited %v for: %s", patience, what)
	}
}

// The first and the longest pause between two polls of another process. Each pause is a
// quarter longer than the one before, so a wait is at most a quarter longer than what it waits
// for. With the race detector a poll of the metrics takes milliseconds of processor time in both
// processes, and a handshake with TLS more.
const (
	firstPause   = 3 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

// eventually calls ok until it returns true, or until patience has passed.
func eventually(ok func() bool) bool {
	deadline, pause := time.Now().Add(patience), firstPause
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
		pause = min(pause*5/4, longestPause)
	}
	return true
}

// bounded returns a context for one request to a server.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// equal compares a value with the one wanted, and prints the difference.
func equal(t testing.TB, what string, got, want any, opts ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, opts...); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}

// command runs a command line of the program to its end, in an empty folder.
func command(t testing.TB, args ...string) (code int, out, errOut string) {
	t.Helper()
	binary := program(t) // the first call builds it, which takes long on a busy machine
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = &o, &e, environment(), t.TempDir()
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// mustRun runs a command line that must succeed, and returns its output.
func mustRun(t testing.TB, args ...string) string {
	t.Helper()
	code, out, errOut := command(t, args...)
	if code != 0 {
		t.Fatalf("teamtalk %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// environment returns the environment of this process without the settings of its user, and
// without those of the garbage collector in .ci/test: servers have Go's own, as those of
// operators. It also removes the second that a program with the race detector sleeps before
// it exits: the suite starts hundreds of processes.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "TEAMTALK_") || strings.HasPrefix(kv, "GOGC=") ||
			strings.HasPrefix(kv, "GOMEMLIMIT=")
	})
	return append(env, "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
}
