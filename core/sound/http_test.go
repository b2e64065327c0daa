package sound_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/sound"
)

// smallFiles is a small file server: POST of a form, GET of the path.
type smallFiles struct {
	mu    sync.Mutex
	names []string
	files map[string][]byte
	host  string // the beginning of the URLs in answers; "" gives paths only
}

func (s *smallFiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodGet {
		data, ok := s.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
		return
	}
	part, header, err := r.FormFile("file")
	if err != nil || r.URL.Path != "/" {
		fmt.Fprintf(w, `{"error_code":1,"error_msg":"%v","path":"","url":""}`, err)
		return
	}
	data, err := io.ReadAll(part)
	if err != nil {
		panic(err)
	}
	path := "/g0/000/001/" + strconv.Itoa(len(s.names)) + "_" + header.Filename
	s.names = append(s.names, header.Filename)
	s.files[path] = data
	fmt.Fprintf(w, `{"error_code":0,"error_msg":"成功","path":%q,"url":%q}`, path[1:], s.host+path)
}

func newHTTP(t *testing.T, o sound.HTTPOptions) *sound.HTTP {
	t.Helper()
	o.Timeout = 5 * time.Second
	h, err := sound.NewHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestHTTPReturnsWhatWasPut(t *testing.T) {
	store := &smallFiles{files: map[string][]byte{}}
	server := httptest.NewServer(store)
	defer server.Close()
	for _, host := range []string{server.URL, ""} {
		store.host = host
		for _, base := range []string{server.URL, server.URL + "/"} {
			h := newHTTP(t, sound.HTTPOptions{URL: base, MaxSize: 100_000})
			data := bytes.Repeat([]byte("\r\n--\x00\xff"), 10_000)
			url, err := h.Put(t.Context(), "sound.amr", data)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(url, server.URL+"/g0/") || !strings.HasSuffix(url, "sound.amr") {
				t.Errorf("url %s", url)
			}
			got, err := h.Get(t.Context(), url)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
			}
			if _, err := h.Get(t.Context(), url+"x"); im.KindOf(err) != im.NotFound {
				t.Errorf("Get of a file that does not exist: %v, want NotFound", err)
			}
			if _, err := h.Put(t.Context(), "big",
				make([]byte, 100_001)); im.KindOf(err) != im.Invalid {
				t.Errorf("Put of a file that is too large: %v, want Invalid", err)
			}
			if _, err := newHTTP(t, sound.HTTPOptions{URL: base, MaxSize: len(data) - 1}).Get(
				t.Context(), url); im.KindOf(err) != im.Invalid {
				t.Errorf("Get of a file that is too large: %v, want Invalid", err)
			}
		}
	}
}

// TestHTTPMapsBadAnswersToKinds talks to servers that break the protocol.
func TestHTTPMapsBadAnswersToKinds(t *testing.T) {
	var answer http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, r)
	}))
	defer server.Close()
	h := newHTTP(t, sound.HTTPOptions{URL: server.URL, MaxSize: 1000})
	for _, test := range []struct {
		name     string
		answer   http.HandlerFunc
		put, get im.Kind
	}{
		{"refused", text(`{"error_code":1,"error_msg":"no"}`), im.Unavailable, 255},
		{"no JSON", text("<html>"), im.Unavailable, 255},
		{"empty", text(""), im.Unavailable, 255},
		{"no place", text(`{"error_code":0}`), im.Unavailable, 255},
		{"no web place", text(`{"error_code":0,"url":"file:///etc/passwd"}`), im.Unavailable, 255},
		{"broken place", text(`{"error_code":0,"url":"http://[::1"}`), im.Unavailable, 255},
		{"not found", status(404), im.NotFound, im.NotFound},
		{"server error", status(500), im.Unavailable, im.Unavailable},
		{"elsewhere", status(302), im.Unavailable, im.Unavailable},
		{"no content", status(204), im.Unavailable, im.Unavailable},
		{"endless", endless, im.Invalid, im.Invalid},
		{"cut", cut, im.Unavailable, im.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer = test.answer
			if url, err := h.Put(t.Context(), "x", []byte("y")); err == nil ||
				im.KindOf(err) != test.put {
				t.Errorf("put: %q, %v", url, err)
			}
			if test.get == 255 {
				return
			}
			if data, err := h.Get(t.Context(), server.URL+"/x"); err == nil ||
				im.KindOf(err) != test.get {
				t.Errorf("get: %q, %v", data, err)
			}
		})
	}
}

// text answers with a text.
func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

// status answers with a status code.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
	}
}

// endless answers until the client leaves.
func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}

// cut answers with a part of the announced bytes.
func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, "half")
}

func TestHTTPReportsUnreachableServers(t *testing.T) {
	var answer http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, r)
	}))
	defer server.Close()
	h := newHTTP(t, sound.HTTPOptions{URL: server.URL, MaxSize: 1000})
	if _, err := h.Get(t.Context(), "ftp://host/x"); im.KindOf(err) != im.NotFound {
		t.Errorf("ftp: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answer = func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }
	if _, err := h.Get(ctx, server.URL+"/x"); im.KindOf(err) != im.Unavailable {
		t.Errorf("a context that was cancelled: %v", err)
	}
	server.Close()
	if _, err := h.Put(t.Context(), "x", nil); im.KindOf(err) != im.Unavailable {
		t.Errorf("Put without a server: %v", err)
	}
	for _, url := range []string{"", "host:8700", "ftp://host", "http://", "http://[::1"} {
		if _, err := sound.NewHTTP(sound.HTTPOptions{URL: url}); im.KindOf(err) != im.Invalid {
			t.Errorf("%q: %v", url, err)
		}
	}
}
