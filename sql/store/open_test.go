package store

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
)

func TestOpenRefuses(t *testing.T) {
	e := bareEnv(t)
	if _, err := Open(t.Context(), e.o); im.KindOf(err) != im.Invalid || err == nil ||
		!strings.Contains(err.Error(), "migrate") {
		t.Errorf("not migrated: %v", err)
	}
	if err := schema.Migrate(t.Context(), e.db, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]struct {
		o    func(*Options)
		kind im.Kind
	}{
		"DSN":         {func(o *Options) { o.Master = "nonsense" }, im.Invalid},
		"no database": {func(o *Options) { o.Master = "root@tcp(127.0.0.1:1)/" }, im.Invalid},
		"no MySQL":    {func(o *Options) { o.Master = "root@tcp(127.0.0.1:1)/x" }, im.Unavailable},
		"slave's DSN": {func(o *Options) { o.Slave = "nonsense" }, im.Invalid},
		"no Redis": {func(o *Options) { o.Redis.Unread.Addrs = []string{"127.0.0.1:1"} },
			im.Unavailable},
		"wrong user of Redis": {func(o *Options) {
			o.Redis.Unread.Username, o.Redis.Unread.Password = "nobody", "x"
		}, im.Unavailable},
		"no address": {func(o *Options) { o.Redis.Unread.Addrs = nil }, im.Invalid},
	} {
		o := e.o
		change.o(&o)
		s, err := Open(t.Context(), o)
		if err == nil {
			s.Close()
		}
		if err == nil || im.KindOf(err) != change.kind {
			t.Errorf("%s: %v, want kind %v", name, err, change.kind)
			continue
		}
		at := "Redis at " + strings.Join(o.Redis.Unread.Addrs, ",") + ": "
		if named := strings.Contains(err.Error(), at); named != strings.Contains(name, "Redis") {
			t.Errorf("%s: %v, and %q is in it: %t", name, err, at, named)
		}
	}
}

func TestMetrics(t *testing.T) {
	e := newEnv(t)
	reg := prometheus.NewRegistry()
	e.o.Metrics = reg
	s := e.open(t)
	u := users(t, s, 2)
	e.refuse(t, "bad")
	batch := texts(u[0], u[1], 4)
	batch[1].Data = []byte("bad")
	s.AppendMessages(t.Context(), batch)
	for name, want := range map[string]float64{"rows": metric(t, s, "rows_total") - 3,
		"bisects": metric(t, s, "bisects_total") - 2,
		"failed":  metric(t, s, "failed_total", "internal") - 1} {
		if want != 0 {
			t.Errorf("%s is off by %v", name, want)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	s.Close()
	e.store(t) // registers the metrics again
}

func TestClosed(t *testing.T) {
	e := newEnv(t)
	s := e.open(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m := text(u[0], u[1], "late")
	if s.AppendMessages(t.Context(), []*im.Message{m}); m.Err == nil ||
		im.KindOf(m.Err) != im.Closed {
		t.Errorf("after Close: %v, want kind closed", m.Err)
	}
	if n := e.outboxRows(t); n != 0 {
		t.Errorf("%d outbox rows are left by a store that closed in order", n)
	}
}
