package msfs

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMarks: reads in every form mark a file, once a day, also after a restart.
func TestMarks(t *testing.T) {
	a := newAging(t, func(o *Options) { o.ScaledCache = 1 << 20 })
	u := a.upload("a.png", picture(t, ".png", 400, 300))
	scaled := "/" + u.Path + "_100x100.jpg"
	written := func() float64 {
		return testutil.ToFloat64(a.server.metrics.marks.WithLabelValues("written"))
	}
	etag := ""
	for i, read := range []func() *http.Response{
		func() *http.Response { rsp, _ := a.get("/" + u.Path); return rsp },
		func() *http.Response { rsp, _ := a.get("//" + u.Path); return rsp },
		func() *http.Response { rsp, _ := a.get("/"+u.Path, "If-None-Match", etag); return rsp },
		func() *http.Response { rsp, _ := a.get(scaled); return rsp }, // scaled now
		func() *http.Response { rsp, _ := a.get(scaled); return rsp }, // from the cache
		func() *http.Response {
			rsp, err := http.Head(a.url + "/" + u.Path)
			if err != nil {
				t.Fatal(err)
			}
			rsp.Body.Close()
			return rsp
		},
		func() *http.Response {
			if b, err := a.server.Open(t.Context(), "http://x/"+u.Path); err != nil {
				t.Error(err)
			} else {
				b.Close()
			}
			return nil
		},
		func() *http.Response { a.server.Use(t.Context(), u.Path); return nil },
		func() *http.Response { a.server.Use(t.Context(), u.Path+"_100x100.jpg"); return nil },
	} {
		for again := range 3 {
			if rsp := read(); rsp != nil {
				etag = rsp.Header.Get("ETag")
			}
			if got := written(); got != float64(i+1) {
				t.Fatalf("read %d, time %d: %v marks", i, again, got)
			}
			a.server.uses.of.Purge() // as after a restart
		}
		if age, err := a.store.Age(t.Context(), u.Path); err != nil || !age.Read.Equal(a.Now()) {
			t.Errorf("read %d: %+v, %v, at %v", i, age, err, a.Now())
		}
		a.add(day)
	}
	a.get("/g0/000/000/none")
	for _, name := range []string{"g0/000/000/none", "g0/../x", "/etc/passwd", ""} {
		a.server.Use(t.Context(), name)
	}
	failed := testutil.ToFloat64(a.server.metrics.marks.WithLabelValues("failed"))
	if a.files() != 2 || failed != 0 {
		t.Errorf("%d files, %v failures", a.files(), failed)
	}
}

// TestCachesAskAgain: caches may keep a file for half of the time after which it expires.
func TestCachesAskAgain(t *testing.T) {
	for e, want := range map[Expiry]string{
		{}:                  "public, max-age=31536000, immutable",
		{Unused: day}:       "public, max-age=31536000, immutable",
		{After: 2 * day}:    "public, max-age=86400, immutable",
		{After: 3000 * day}: "public, max-age=31536000, immutable",
	} {
		a := newAging(t, func(o *Options) { o.Expiry = e })
		if rsp, _ := a.get("/" + a.put()); rsp.Header.Get("Cache-Control") != want {
			t.Errorf("%+v: %s, want %s", e, rsp.Header.Get("Cache-Control"), want)
		}
	}
}

// TestFileInURL finds the names of files in the forms of avatars that clients store.
func TestFileInURL(t *testing.T) {
	for url, want := range map[string]string{
		"http://files:8700/g0/000/001/a.jpg":       "g0/000/001/a.jpg",
		"http://files/msfs/g0/000/001/a_10x10.jpg": "g0/000/001/a_10x10.jpg",
		"/g0/000/001/a.jpg":                        "g0/000/001/a.jpg",
		"g0/000/001/a.jpg":                         "g0/000/001/a.jpg",
		"http://elsewhere/a.jpg":                   "", "": "", "g0/000/001/": "", "g0/0/1/a.jpg": "",
		"http://files/g0/000/001/../../../a": "", "http://files/g0/000/001/.a": "",
		"http://files/g0/000/001/a.jpg?x=y": "", "http://files/g0/000/001/a.jpg!": "",
	} {
		if got := FileInURL(url); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}
