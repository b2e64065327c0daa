package sound

import (
	"net/url"
	"testing"
	"time"
)

// FuzzAnswer parses the answers of a small file server. Each one gives an http URL or an
// error.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"error_code":0,"url":"http://host/g0/x"}`,
		`{"error_code":0,"path":"g0/x"}`, `{"error_code":1}`, `{"url":"javascript:x"}`,
		`{"url":"//other/x"}`, `{"url":"http:x"}`, `[]`, `{"url":1}`} {
		f.Add([]byte(s))
	}
	h, err := NewHTTP(HTTPOptions{URL: "http://msfs:8700", MaxSize: 1000, Timeout: time.Second})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := h.parse(data)
		if err != nil {
			return
		}
		if u, err := url.Parse(got); err != nil || !web(u) {
			t.Errorf("%q became %q", data, got)
		}
	})
}
