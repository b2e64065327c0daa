package obs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/porttest"
)

func TestLoggerLevelsAndFormats(t *testing.T) {
	for _, x := range []struct {
		opt  LogOptions
		want string // the lowest level that is logged
		json bool
	}{
		{LogOptions{}, "INFO", false}, {LogOptions{Level: "debug"}, "DEBUG", false},
		{LogOptions{Level: "warn", Format: "json"}, "WARN", true},
		{LogOptions{Level: "error", Format: "text"}, "ERROR", false},
	} {
		var out bytes.Buffer
		log, err := NewLogger(&out, x.opt)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("m", "user", 1)
		log.Info("m", "user", 1)
		log.Warn("m", "user", 1)
		log.Error("m", "user", 1)
		first, _, _ := strings.Cut(out.String(), "\n")
		if !strings.Contains(first, x.want) || json.Valid([]byte(first)) != x.json {
			t.Errorf("%+v: first line %q", x.opt, first)
		}
	}
	for _, opt := range []LogOptions{{Level: "loud"}, {Format: "xml"}} {
		if _, err := NewLogger(io.Discard, opt); err == nil {
			t.Errorf("%+v: no error", opt)
		}
	}
}

func TestVersionSources(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"},
		{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}}}
	v := versionOf("", "", "", info)
	if got := v.String(); !strings.HasPrefix(got,
		"teamtalk dev (0123456789ab, 2026-01-02T03:04:05Z, modified) go") {
		t.Error(got)
	}
	if v = versionOf("v1", "f00", "now", info); v.Version != "v1" ||
		v.Revision != "f00" || v.Built != "now" {
		t.Errorf("the linker's values are ignored: %+v", v)
	}
	if v = versionOf("", "", "", nil); !strings.HasPrefix(v.String(), "teamtalk dev go") {
		t.Error(v)
	}
}

// get sends a request to an admin port.
func get(t *testing.T, a *Admin, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + a.Addr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func start(t *testing.T, opt AdminOptions) *Admin {
	t.Helper()
	opt.Addr = "127.0.0.1:0"
	a, err := StartAdmin(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestAdminPages(t *testing.T) {
	ready := NewReady(0)
	a := start(t, AdminOptions{Gatherer: NewRegistry(Version{Version: "v1"}), Ready: ready})
	var storeErr error
	ready.Set("start", errors.New("starting"))
	for _, x := range []struct {
		change func()
		path   string
		code   int
		body   string
	}{
		{nil, "/healthz", 200, "ok\n"},
		{nil, "/", 200, "/readyz"},
		{nil, "/metrics", 200,
			`teamtalk_build_info{goversion="",modified="false",revision="",version="v1"} 1`},
		{nil, "/metrics", 200, "go_goroutines"},
		{nil, "/metrics", 200, "process_open_fds"},
		{nil, "/debug/pprof/", 404, ""},
		{nil, "/nothing", 404, ""},
		{nil, "/readyz", 503, `{"ready":false,"checks":{"start":"starting"}}`},
		{func() {
			ready.Set("start", nil)
		}, "/readyz", 200, `{"ready":true,"checks":{"start":"ok"}}`},
		{func() {
			ready.Add("store", func(context.Context) error { return storeErr })
		}, "/readyz", 200, `{"ready":true,"checks":{"start":"ok","store":"ok"}}`},
		{func() {
			storeErr = errors.New("gone")
		}, "/readyz", 503, `{"ready":false,"checks":{"start":"ok","store":"gone"}}`},
		{func() {
			ready.Remove("store")
		}, "/readyz", 200, `{"ready":true,"checks":{"start":"ok"}}`},
		{func() {
			ready.Add("bad", func(context.Context) error { panic("oops") })
		}, "/readyz", 503, `"bad":"panic: oops"`},
	} {
		if x.change != nil {
			x.change()
		}
		code, body := get(t, a, x.path)
		if code != x.code || !strings.Contains(body, x.body) {
			t.Errorf("%s: %d %q, want %d %q", x.path, code, body, x.code, x.body)
		}
	}
}

func TestProcessWithoutEntriesIsNotReady(t *testing.T) {
	a := start(t, AdminOptions{PProf: true})
	if code, body := get(t, a, "/readyz"); code != 503 {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := get(t, a, "/debug/pprof/cmdline"); code != 200 {
		t.Errorf("profiler: %d", code)
	}
}

func TestStartAdminFailsOnAPortInUse(t *testing.T) {
	a := start(t, AdminOptions{})
	_, err := StartAdmin(AdminOptions{Addr: a.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "admin port") {
		t.Errorf("got %v", err)
	}
}

func TestCloseFreesThePort(t *testing.T) {
	a, err := StartAdmin(AdminOptions{Addr: porttest.Reserve(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// TestHangingCheckDoesNotDelayTheReport has a check that ignores its context. The report
// is in time, and the check is not started again.
func TestHangingCheckDoesNotDelayTheReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready, release := NewReady(3*time.Second), make(chan struct{})
		var runs atomic.Int32
		// Enough checks that some results are read after the timeout. They count as
		// ready.
		for i := range 40 {
			ready.Set(fmt.Sprint("other", i), nil)
		}
		ready.Add("store", func(context.Context) error {
			runs.Add(1)
			<-release
			return nil
		})
		begin := time.Now()
		got := ready.Check(t.Context())
		if got.Ready || got.Checks["store"] != "no answer in time" {
			t.Errorf("first: %+v", got)
		}
		delete(got.Checks, "store")
		for name, state := range got.Checks {
			if state != "ok" {
				t.Errorf("%s: %s", name, state)
			}
		}
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("took %v", d)
		}
		if got := ready.Check(t.Context()); got.Ready ||
			got.Checks["store"] != "no answer in time" || runs.Load() != 1 {
			t.Errorf("second: %+v", got)
		}
		close(release)
		synctest.Wait()
		if got := ready.Check(t.Context()); !got.Ready || runs.Load() != 2 {
			t.Errorf("third: %+v after %d runs", got, runs.Load())
		}
	})
}

// TestConcurrentReportsShareARun asks while a check runs for another request. Both get
// the result of that run.
func TestConcurrentReportsShareARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := NewReady(0)
		var runs atomic.Int32
		ready.Add("store", func(ctx context.Context) error {
			runs.Add(1)
			time.Sleep(time.Second)
			return ctx.Err()
		})
		first, cancel := context.WithCancel(t.Context())
		go ready.Check(first)
		synctest.Wait()
		cancel() // ends the first request; the run continues
		if got := ready.Check(t.Context()); !got.Ready || runs.Load() != 1 {
			t.Errorf("%+v after %d runs", got, runs.Load())
		}
	})
}

// TestDegradedStaysReady requires that a degraded part is named and keeps nobody out, also
// beside a part that is not ready.
func TestDegradedStaysReady(t *testing.T) {
	ready := NewReady(0)
	ready.Set("store", nil)
	ready.Set("replica", Degraded(errors.New("it is behind")))
	ready.Set("other", Degraded(nil))
	got := ready.Check(t.Context())
	if !got.Ready || got.Checks["replica"] != "degraded: it is behind" ||
		got.Checks["other"] != "ok" {
		t.Errorf("%+v", got)
	}
	ready.Set("store", errors.New("down"))
	if got := ready.Check(t.Context()); got.Ready {
		t.Errorf("%+v", got)
	}
}
