package obs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestLasting: failures that last are logged once a minute with their number, and another reason
// at once.
func TestLasting(t *testing.T) {
	var l Lasting
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	now := time.Now()
	full, other := errors.New("the disk is full"), errors.New("the network is away")
	for i := range 241 { // two a second for two minutes
		at := now.Add(time.Duration(i) * time.Second / 2)
		l.Warn(log, at, "not stored", full, "user", 7)
		if i == 20 {
			l.Warn(log, at.Add(time.Millisecond), "not stored", other)
		}
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{`user=7 err="the disk is full" held=0`, `err="the network is away" held=0`,
		`err="the disk is full" held=119`, `err="the disk is full" held=119`}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d is %q, want %s", i, line, want[i])
		}
	}
}

// TestLastingOfManyReasons: reasons that always differ are at most one line a second, and each
// line is logged or counted.
func TestLastingOfManyReasons(t *testing.T) {
	var l Lasting
	now := time.Now()
	lines, counted := 0, int64(0)
	const all = 10_001
	for i := range all {
		held, ok := l.Allow(now.Add(time.Duration(i)*time.Millisecond), fmt.Sprint(i))
		if ok {
			lines++
			counted += held
		}
	}
	if lines != 11 || counted != all-11 {
		t.Errorf("%d lines and %d held, want 11 and %d", lines, counted, all-11)
	}
}
