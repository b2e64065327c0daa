package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLoggerKeepsErrorsAndHidesWarnings(t *testing.T) {
	var out bytes.Buffer
	l := logger{log: slog.New(slog.NewTextHandler(&out, nil))}
	l.Warnf("received event[fd=%d] of a stale connection", 7)
	l.Infof("chatter")
	if out.Len() > 0 {
		t.Errorf("logged: %s", out.String())
	}
	l.Errorf("failed to accept: %s", "EMFILE")
	if got := out.String(); !strings.Contains(got, "level=ERROR") ||
		!strings.Contains(got, "failed to accept: EMFILE") {
		t.Errorf("an error is logged as %q", got)
	}
}
