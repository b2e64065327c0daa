package system

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// lockedBuffer is a buffer for the log of several goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestReloadLimits changes all limits that reload, and log.level, while the servers run. A quota of
// small files that begins needs a restart, and settings that cannot be loaded change nothing.
func TestReloadLimits(t *testing.T) {
	opt := testOptions(t, nil)
	var log lockedBuffer
	opt.Level = new(slog.LevelVar)
	logger, err := obs.NewLogger(&log, obs.LogOptions{Level: "info", Var: opt.Level})
	if err != nil {
		t.Fatal(err)
	}
	opt.Log = logger
	next, failure := *opt.Config, error(nil)
	next.Log.Level, next.Msg.MaxConnections, next.MSFS.MinFree = "debug", 7, 5<<20
	next.MSFS.Quota, next.Strangers.PerAddress, next.Msg.Rate = 1<<30, 3, 1
	opt.Reload = func() (*config.Config, error) { return &next, failure }
	s, err := start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	r := newReloader(s, &opt)
	failure = errors.New("a mistake")
	r.Again()
	if opt.Level.Level() != slog.LevelInfo || s.clientLimit() == 7 ||
		!strings.Contains(log.String(), "a mistake") {
		t.Errorf("settings that cannot be loaded: level %v, %d clients, log %s",
			opt.Level.Level(), s.clientLimit(), &log)
	}
	if report := s.ready.Check(t.Context()); !report.Ready ||
		!strings.Contains(report.Checks["settings"], "a mistake") {
		t.Errorf("ready after a refusal: %v", report)
	}
	failure = nil
	r.Again()
	if opt.Level.Level() != slog.LevelDebug || s.clientLimit() != 7 {
		t.Errorf("level %v, %d clients", opt.Level.Level(), s.clientLimit())
	}
	if u := s.msfs.folder.Usage(); u.Quota != 0 {
		t.Errorf("the quota of small files is %d", u.Quota)
	}
	for _, want := range []string{"log.level, msg.max_connections, msg.rate, msfs.min_free, " +
		"strangers.per_address", "settings=msfs.quota"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, &log)
		}
	}
	if report := s.ready.Check(t.Context()); report.Checks["settings"] != "ok" {
		t.Errorf("after a success: %v", report)
	}
	r.End()
	next.Msg.MaxConnections = 8
	if r.Again(); s.clientLimit() != 7 {
		t.Error("a stopping server took over a setting")
	}
}
