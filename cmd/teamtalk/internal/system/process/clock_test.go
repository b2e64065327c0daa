package process

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"teamtalk/core/mono"
)

// TestFollowClock steps the clock by a file. Without the variable nothing steps it. The
// clock is the process's, so the test runs alone.
func TestFollowClock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(file, []byte("-2h0m0s"), 0o600); err != nil {
		t.Fatal(err)
	}
	off := func() time.Duration { return mono.Now().Round(0).Sub(time.Now().Round(0)) }
	FollowClock(slog.New(slog.DiscardHandler))()
	if d := off(); d < -time.Hour {
		t.Errorf("without the variable the clock is off by %v", d)
	}
	t.Setenv(clockFile, file)
	stop := FollowClock(slog.New(slog.DiscardHandler))
	defer mono.StepWall(0)
	defer stop()
	if d := off(); d > -time.Hour {
		t.Errorf("the clock is off by %v, want -2h", d)
	}
	for _, bad := range []string{"soon", "1.5s", "900s"} { // the last one is good
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for seen := ""; seen != "900s"; { // polls the goroutine, which confirms through a file only
		b, _ := os.ReadFile(file + ".seen")
		seen = string(b)
		time.Sleep(time.Millisecond)
	}
	if d := off(); d < 14*time.Minute {
		t.Errorf("the clock is off by %v, want 15m", d)
	}
}
