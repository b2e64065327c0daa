package dbproxy_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
)

// syncStore is a store that implements only SyncSessions.
type syncStore struct {
	im.Store
	runs atomic.Int32
	do   atomic.Value // func(ctx context.Context) (int, error)
}

func (s *syncStore) set(do func(ctx context.Context) (int, error)) *syncStore {
	s.do.Store(do)
	return s
}

func (s *syncStore) SyncSessions(ctx context.Context) (int, error) {
	s.runs.Add(1)
	return s.do.Load().(func(ctx context.Context) (int, error))(ctx)
}

// tasks runs each task in a goroutine, unless it is full.
type tasks struct{ full atomic.Bool }

func (t *tasks) Do(_ uint64, task func(ctx context.Context)) error {
	if t.full.Load() {
		return im.Errorf(im.Busy, "full")
	}
	go task(context.Background())
	return nil
}

// syncRun is a server in a bubble of virtual time whose RunSync runs every 5 s.
type syncRun struct {
	t      *testing.T
	server *dbproxy.Server
	store  *syncStore
	pool   *tasks
	reg    *prometheus.Registry
	log    bytes.Buffer
	ended  chan struct{} // closed when RunSync has returned
}

func newSyncRun(t *testing.T) *syncRun {
	r := &syncRun{t: t, pool: &tasks{}, reg: prometheus.NewRegistry(), ended: make(chan struct{}),
		store: new(syncStore).set(func(context.Context) (int, error) { return 3, nil })}
	r.server = newServer(dbproxy.Options{Store: r.store, Tasks: r.pool, Registerer: r.reg,
		Log: slog.New(slog.NewTextHandler(&r.log, nil)), Timeout: 8 * time.Second})
	go func() {
		defer close(r.ended)
		r.server.RunSync(t.Context(), 5*time.Second)
	}()
	return r
}

// after waits for d, and checks how many runs began in it.
func (r *syncRun) after(d time.Duration, runs int32) {
	r.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if n := r.store.runs.Swap(0); n != runs {
		r.t.Errorf("%d runs, want %d", n, runs)
	}
}

// runsWithFaults goes through runs in time, slow, stuck and failed ones.
func (r *syncRun) runsWithFaults() {
	r.after(4*time.Second, 0)
	r.after(12*time.Second, 3)
	r.store.set(func(context.Context) (int, error) { time.Sleep(7 * time.Second); return 1, nil })
	// The second run waits for the first, and missed runs are not repeated.
	r.after(10*time.Second, 1)
	r.store.set(func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
	r.after(15*time.Second, 2)
	r.store.set(func(context.Context) (int, error) { return 0, errors.New("broken") })
	r.after(10*time.Second, 1) // the last one ended late
	if !strings.Contains(r.log.String(), "broken") {
		r.t.Errorf("log: %s", r.log.String())
	}
}

// drainWaitsForARun drains the server in the middle of a run.
func (r *syncRun) drainWaitsForARun() {
	slow := make(chan struct{})
	r.store.set(func(context.Context) (int, error) { <-slow; return 1, nil })
	r.after(5*time.Second, 1)
	drained := make(chan error, 1)
	go func() { drained <- r.server.Drain(context.Background()) }()
	synctest.Wait()
	select {
	case err := <-drained:
		r.t.Errorf("drained in the middle of a run: %v", err)
	default:
	}
	close(slow)
	if err := <-drained; err != nil {
		r.t.Error(err)
	}
	<-r.ended
}

// TestRunSync goes through its life: runs in time, one that is slow, one that is stuck,
// failures, a full pool, and Drain, which waits for the last.
func TestRunSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSyncRun(t)
		r.runsWithFaults()
		r.pool.full.Store(true)
		r.after(10*time.Second, 0)
		r.pool.full.Store(false)
		r.drainWaitsForARun()
		// Nine by the three runs in time, one by the slow run, one by the last.
		if n := counted(t, r.reg, "teamtalk_dbproxy_session_synced_total"); n != 11 {
			t.Errorf("%g entries counted", n)
		}
		// Two of them did not start.
		if n := counted(t, r.reg, "teamtalk_dbproxy_session_syncs_total"); n != 10 {
			t.Errorf("%g runs counted", n)
		}
	})
}

// TestRunSyncEnds: RunSync returns when its context ends, also during a run that never
// ends.
func TestRunSyncEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		never := make(chan struct{})
		store := new(syncStore).set(func(context.Context) (int, error) { <-never; return 0, nil })
		s := newServer(dbproxy.Options{Store: store, Tasks: &tasks{}})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.RunSync(ctx, time.Second)
		}()
		time.Sleep(2 * time.Second)
		cancel()
		<-ended
		close(never)
	})
}

// counted returns the sum of a counter over all its labels.
func counted(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
