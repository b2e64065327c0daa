package store

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"teamtalk/sql/store/database"
)

// TestEvictionIsReported sets the maxmemory-policy of Redis. Each setting that may drop
// data is logged once, and the metric follows the setting.
func TestEvictionIsReported(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.redis.Do("CONFIG SET maxmemory-policy allkeys-lru")
	var log bytes.Buffer
	e.o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s := e.store(t)
	s.stop() // ends housekeeping, which calls CheckEviction too
	s.running.Wait()
	for _, step := range []struct {
		policy string
		logs   int // so far
		metric float64
	}{{"allkeys-lru", 1, 1}, {"allkeys-lru", 1, 1}, {"noeviction", 1, 0}, {"volatile-ttl", 2, 1},
		{"noeviction", 2, 0}} {
		e.redis.Do("CONFIG SET maxmemory-policy " + step.policy)
		s.db.Epoch.Next() // as after a reconnect
		s.db.CheckEviction(t.Context())
		if n := strings.Count(log.String(), "level=WARN"); n != step.logs {
			t.Errorf("%s: %d warnings, want %d:\n%s", step.policy, n, step.logs, &log)
		}
		if v := metric(t, s, "redis_evicts", e.redis.Addr()); v != step.metric {
			t.Errorf("%s: metric %v, want %v", step.policy, v, step.metric)
		}
	}
	if !strings.Contains(log.String(), "maxmemory-policy=volatile-ttl") {
		t.Errorf("the setting is missing:\n%s", &log)
	}
	e.redis.Do("CONFIG SET maxmemory-policy allkeys-lru")
	s.db.CheckEviction(t.Context())
	if n := strings.Count(log.String(), "level=WARN"); n != 2 {
		t.Error("the servers are asked although no connection failed and no minute has passed")
	}
	e.clock.ahead.Add(int64(2 * database.EvictionInterval))
	s.db.CheckEviction(t.Context())
	if n := strings.Count(log.String(), "level=WARN"); n != 3 {
		t.Error("the servers are not asked again after a minute")
	}
}
