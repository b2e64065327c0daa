package msfs

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/sound"
)

const day = 24 * time.Hour

// testExpiry is the rule of most tests.
var testExpiry = Expiry{After: 30 * day, Unused: 10 * day}

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func (c *clock) Now() time.Time                  { return time.Unix(0, c.ns.Load()) }
func (c *clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
func (c *clock) add(d time.Duration)             { c.ns.Add(int64(d)) }

// aging is a server whose files expire.
type aging struct {
	*rig
	*clock
	store blob.Aged
	stamp func(name string) // gives a file that was stored the time of the clock
}

// newAging starts a server on a folder.
func newAging(t *testing.T, change func(o *Options)) *aging {
	a := &aging{clock: new(clock)}
	a.ns.Store(time.Now().UnixNano())
	a.rig = newRig(t, func(o *Options) {
		o.Expiry, o.Now, o.Registerer = testExpiry, a.Now, prometheus.NewRegistry()
		if change != nil {
			change(o)
		}
		a.store = o.Store.(blob.Aged)
	})
	a.server.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	a.stamp = func(name string) {
		path := filepath.Join(a.dir, filepath.FromSlash(name))
		if err := os.Chtimes(path, a.Now(), a.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// newAgingS3 starts a server on a bucket.
func newAgingS3(t *testing.T) *aging {
	c := new(clock)
	c.ns.Store(time.Now().UnixNano())
	backend := s3mem.New(s3mem.WithTimeSource(c))
	if err := backend.CreateBucket("files"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(gofakes3.New(backend, gofakes3.WithTimeSource(c),
		gofakes3.WithTimeSkewLimit(0)).Server())
	t.Cleanup(srv.Close)
	s3, err := blob.OpenS3(blob.S3Options{Endpoint: strings.TrimPrefix(srv.URL, "https://"),
		Secure: true, Transport: srv.Client().Transport, Region: "us-east-1", Bucket: "files",
		AccessKey: "key", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	a := newAging(t, func(o *Options) { o.Store, o.Now = s3, c.Now })
	a.clock, a.stamp = c, func(string) {}
	return a
}

// put uploads a file, with headers.
func (a *aging) put(header ...string) (name string) {
	a.Helper()
	body, kind := form(a.T, "file", "a.jpg", []byte("content"))
	req := request(a.url, kind, body, "")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rsp, err := http.DefaultClient.Do(req)
	u := a.answerOf(rsp, err)
	if u.Code != 0 {
		a.Fatalf("%+v", u)
	}
	a.stamp(u.Path)
	return u.Path
}

// pass lets the server look for files that have expired.
func (a *aging) pass() {
	a.Helper()
	if err := a.server.expire(a.Context()); err != nil {
		a.Fatal(err)
	}
}

// there reports whether the store has a file. It does not read it.
func (a *aging) there(name string) bool {
	a.Helper()
	_, err := a.store.Age(a.Context(), name)
	if err != nil && im.KindOf(err) != im.NotFound {
		a.Fatal(err)
	}
	return err == nil
}

// read downloads a file.
func (a *aging) read(name string, status int) {
	a.Helper()
	if rsp, _ := a.get("/" + name); rsp.StatusCode != status {
		a.Errorf("GET %s: %d, want %d", name, rsp.StatusCode, status)
	}
}

// state returns the note of the store.
func (a *aging) state() expiryState {
	a.Helper()
	s, err := readState(a.Context(), a.store)
	if err != nil {
		a.Fatal(err)
	}
	return s
}

// days lets n days pass, with a look for expired files after each.
func (a *aging) days(n int) {
	a.Helper()
	for range n {
		a.add(day)
		a.pass()
	}
}

// TestExpiry: files expire that were never read, then those that nobody has read for a long time.
// Sounds count as read, and so do files while they are read. Other folders are left alone.
func TestExpiry(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *aging{
		"folder": func(t *testing.T) *aging { return newAging(t, nil) }, "s3": newAgingS3,
	} {
		t.Run(name, func(t *testing.T) { expires(t, start(t), name == "folder") })
	}
}

func expires(t *testing.T, a *aging, onDisk bool) {
	a.pass() // reads count from now on
	a.add(time.Hour)
	if _, err := a.store.Put(t.Context(), "other/a", strings.NewReader("x"), ""); err != nil {
		t.Fatal(err)
	}
	url, err := a.server.Put(t.Context(), "a.audio", strings.NewReader("here"))
	if err != nil {
		t.Fatal(err)
	}
	here := strings.TrimPrefix(url, "/")
	a.stamp(here)
	files := map[string]string{"unused": a.put(), "read": a.put(), "read later": a.put(),
		"sound": a.put(sound.Header, "1"), "sound of this process": here}
	a.read(files["read"], 200)
	a.read(files["read later"], 200)
	a.read("other/a", 200) // leaves no mark
	gone := map[string]int{}
	for today := 1; today <= 70; today++ {
		if today == 25 {
			a.read(files["read later"], 200)
		}
		a.days(1)
		for what, name := range files {
			if !a.there(name) && gone[what] == 0 {
				gone[what] = today
			}
		}
	}
	// A mark is up to a day old, so a day is added to expire_after.
	want := map[string]int{"unused": 10, "read": 31, "sound": 31,
		"sound of this process": 31, "read later": 24 + 31}
	if fmt.Sprint(gone) != fmt.Sprint(want) {
		t.Errorf("days of expiry: %v, want %v", gone, want)
	}
	for _, name := range files {
		a.read(name, 404)
		a.read(name+"_100x100.jpg", 404)
	}
	if !a.there("other/a") {
		t.Error("a file of another folder expired")
	}
	if onDisk && a.files() != 2 { // other/a and the note
		t.Errorf("%d files are left", a.files())
	}
	m := a.server.metrics
	if u, o, b := testutil.ToFloat64(m.expired.WithLabelValues(expiredUnused)),
		testutil.ToFloat64(m.expired.WithLabelValues(expiredOld)),
		testutil.ToFloat64(m.expiredBytes); u != 1 || o != 4 || b != 4*7+4 {
		t.Errorf("%v unused and %v old files of %v bytes", u, o, b)
	}
	if end := testutil.ToFloat64(m.expiryPass); end != float64(a.Now().Unix()) {
		t.Errorf("the last pass ended at %v", end)
	}
}

// TestExpiryIsOff: without the settings nothing is marked nor deleted.
func TestExpiryIsOff(t *testing.T) {
	a := newAging(t, func(o *Options) { o.Expiry = Expiry{} })
	name := a.put()
	a.read(name, 200)
	a.add(1000 * day)
	a.server.RunExpiry(t.Context()) // returns at once
	if a.files() != 1 || !a.there(name) {
		t.Errorf("%d files", a.files())
	}
}

// TestExpiryFreesTheQuota: when a flood of files has used up the quota, files are accepted again
// after the flood has expired. This is what an operator sets the quota and the expiry for.
func TestExpiryFreesTheQuota(t *testing.T) {
	a := newAging(t, func(o *Options) {
		folder := o.Store.(*blob.Folder)
		folder.SetQuota(32 << 10)
		if _, err := folder.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.Usage = folder.Usage
	})
	a.pass()
	kept := a.put()
	a.read(kept, 200)
	for range 7 {
		a.put()
	}
	if u := a.upload("a.jpg", []byte("x")); u.Code != 9 {
		t.Fatalf("the quota is not used up: %+v", u)
	}
	a.days(10)
	if used := a.server.opt.Usage().Bytes; used != 4<<10 {
		t.Errorf("%d bytes are used, want those of the file that was read", used)
	}
	a.put()
	a.read(kept, 200)
}

// TestExpiryOfOldFiles: when the settings are switched on, the files of earlier years expire no
// earlier than if they had been read at that time, and never as unused. The same holds after a
// gap without marks and after a step of the clock.
func TestExpiryOfOldFiles(t *testing.T) {
	for name, c := range map[string]struct {
		gap  time.Duration // on day 20
		lost bool          // the note
		want int           // days
	}{
		"switched on":         {0, false, 31},
		"a weekend":           {3 * day, false, 31 - 3},
		"a long gap":          {6 * day, false, 20 + 31},
		"a step of years":     {4000 * day, false, 20 + 31},
		"a step back":         {-4000 * day, false, 0}, // the file is of the future
		"the note is lost":    {0, true, 20 + 31},
		"a step of some days": {4 * day, false, 31 - 4},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAging(t, nil)
			old := a.put()
			a.add(700 * day)
			a.pass()
			expired := 0
			for today := 1; today <= 100 && expired == 0; today++ {
				if today == 21 {
					a.add(c.gap)
					if c.lost {
						if err := a.store.SetNote(t.Context(), []byte("{")); err != nil {
							t.Fatal(err)
						}
					}
				}
				a.days(1)
				if !a.there(old) {
					expired = today
				}
			}
			// The first day after a gap only restarts the count.
			if want := c.want; expired != want && expired != want+1 {
				t.Errorf("expired on day %d, want %d", expired, want)
			}
		})
	}
}

// TestRunExpiry runs the loop of the server, which says what it does in the log.
func TestRunExpiry(t *testing.T) {
	var log logged
	a := newAging(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.server.RunExpiry(ctx) }()
	a.await("a note", func() bool { return !a.state().Since.IsZero() })
	cancel()
	<-ended
	a.days(1)
	for _, want := range []string{"reads of small files count from now on", "looked_at=0"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
}

// FuzzExpiryState reads any note. No note lets a file expire that was stored at this moment.
func FuzzExpiryState(f *testing.F) {
	f.Add([]byte(`{"since":"2026-01-01T00:00:00Z","seen":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"since":"0001-01-01T00:00:00Z","seen":"9999-12-31T23:59:59Z","after":"g0/x"}`))
	f.Add([]byte("{"))
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, note []byte) {
		s, err := readState(t.Context(), noted(note))
		if err != nil {
			t.Fatal(err)
		}
		s.observe(now, testExpiry.longestGap())
		if s.Since.After(now) || !s.Seen.Equal(now) {
			t.Errorf("%+v", s)
		}
		if why := testExpiry.due(blob.Age{Name: "x", Stored: now}, s.Since, now); why != "" {
			t.Errorf("a new file is %s: %+v", why, s)
		}
	})
}

// noted is a store with a note.
type noted []byte

func (n noted) Note(context.Context) ([]byte, error) { return n, nil }
func (noted) Age(context.Context, string) (blob.Age, error) {
	return blob.Age{}, nil
}

func (noted) Ages(context.Context, string, string, func(blob.Age) error) error { return nil }
