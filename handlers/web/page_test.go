package web

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	port "teamtalk/core/web"
	"teamtalk/core/web/assets"
)

// TestPage fetches files of the page in the forms that a client accepts.
func TestPage(t *testing.T) {
	w := serve(t, Options{}, port.Options{}, nil)
	const forever, check = "public, max-age=31536000, immutable", "no-cache"
	for _, test := range []struct {
		path, accept          string
		status                int
		kind, coding, cache   string
		body                  string
		varies, beginningOnly bool
	}{
		{"/", "gzip, br", 200, "text/html; charset=utf-8", "", check, "<html>page</html>", false,
			false},
		{"/index.html", "", 200, "text/html; charset=utf-8", "", check, "<html>", false, true},
		{"/assets/app-1a2b.js", "gzip, deflate, br", 200, "text/javascript; charset=utf-8", "br",
			forever, "brotli", true, false},
		{"/assets/app-1a2b.js", "br;q=0, GZIP;q=0.5", 200, "text/javascript; charset=utf-8", "gzip",
			forever, "gzip", true, false},
		{"/assets/app-1a2b.js", "gzip;q=x", 200, "text/javascript; charset=utf-8", "", forever,
			"long long", true, true},
		{"/assets/x.png", "gzip", 200, "image/png", "", forever, "long long", false, true},
		{"/licenses.txt", "gzip", 200, "text/plain; charset=utf-8", "gzip", check, "\x1f\x8b", true,
			true},
		{"/sources.sha256", "", 404, "text/plain; charset=utf-8", "", "", "404", false, true},
		{"/secret.key", "", 404, "text/plain; charset=utf-8", "", "", "404", false, true},
		{"/assets/app-1a2b.js.gz", "", 404, "text/plain; charset=utf-8", "", "", "404", false,
			true},
		{"/other", "", 404, "text/plain; charset=utf-8", "", "", "404", false, true},
	} {
		got, body := w.ask(t, "GET", test.path, "", "Accept-Encoding", test.accept)
		h := got.Header
		is := []any{got.StatusCode, h.Get("Content-Type"), h.Get("Content-Encoding"),
			h.Get("Cache-Control"), h.Get("Vary") != ""}
		want := []any{test.status, test.kind, test.coding, test.cache, test.varies}
		if diff := cmp.Diff(want, is); diff != "" {
			t.Errorf("%s, %s: (-want +got)\n%s", test.path, test.accept, diff)
		}
		if !strings.HasPrefix(body, test.body) || !test.beginningOnly && body != test.body {
			t.Errorf("%s, %s: body %.40q, want %q", test.path, test.accept, body, test.body)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") !=
			"no-referrer" || !strings.Contains(h.Get("Content-Security-Policy"), "'self'") {
			t.Errorf("%s: headers %v", test.path, h)
		}
	}
	got, _ := w.ask(t, "POST", "/", "x")
	if got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %s, %v", got.Status, got.Header)
	}
	got, _ = w.ask(t, "HEAD", "/licenses.txt", "")
	if got.StatusCode != 200 || got.ContentLength != 5000 {
		t.Errorf("HEAD: %s, %d bytes", got.Status, got.ContentLength)
	}
}

// TestUnchanged answers 304 to a client that has the file in the form that it would get.
func TestUnchanged(t *testing.T) {
	w := serve(t, Options{}, port.Options{}, nil)
	got, _ := w.ask(t, "GET", "/licenses.txt", "", "Accept-Encoding", "gzip")
	tag := got.Header.Get("ETag")
	plain, _ := w.ask(t, "GET", "/licenses.txt", "")
	if tag == "" || plain.Header.Get("ETag") == tag {
		t.Errorf("the plain form has the tag %s, the other %s", plain.Header.Get("ETag"), tag)
	}
	for given, want := range map[string]int{
		tag: 304, `"x", W/` + tag: 304, "*": 304, `"x"`: 200, "": 200,
		plain.Header.Get("ETag"): 200,
	} {
		got, body := w.ask(t, "GET", "/licenses.txt", "", "Accept-Encoding", "gzip",
			"If-None-Match", given)
		if got.StatusCode != want || (want == 304) != (body == "") {
			t.Errorf("%s: %s, %d bytes, want %d", given, got.Status, len(body), want)
		}
		if want == 304 && (got.Header.Get("ETag") != tag || got.Header.Get("Vary") == "" ||
			got.Header.Get("Content-Encoding") != "") {
			t.Errorf("304: %v", got.Header)
		}
	}
}

// TestEmbedded serves the page of the binary.
func TestEmbedded(t *testing.T) {
	if !assets.New(dist).Has("/") {
		t.Fatal("the binary has no page")
	}
}

// apiOf is an HTTP API with an answer to the question for its terms.
func apiOf(status int, terms string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == "POST" && r.URL.Path == "/query/Register" {
			w.WriteHeader(status)
			_, _ = w.Write(append([]byte("registered "), body...))
			return
		}
		if r.Method != "GET" || r.URL.Path != "/query/Register" || len(body) > 0 {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, terms)
	})
}

// TestConfig tells the page what the settings and the HTTP API say.
func TestConfig(t *testing.T) {
	open := registration{Enabled: true}
	for name, test := range map[string]struct {
		opt  Options
		want settings
		csp  string
	}{
		"least": {Options{}, settings{WebSocket: "/ws"}, "connect-src 'self';"},
		"all": {Options{WebSocket: "wss://ws.example.com:8001/chat?", TextKey: "k", Version: "v1",
			Register: apiOf(200, `{"error_code":0,"invite_needed":true}`)},
			settings{WebSocket: "wss://ws.example.com:8001/chat?", TextKey: "k", Version: "v1",
				Register: registration{true, true}},
			"connect-src 'self' wss://ws.example.com:8001;"},
		"open": {Options{Register: apiOf(200, `{"error_code":0}`)},
			settings{WebSocket: "/ws", Register: open}, ""},
		"closed": {Options{Register: apiOf(200, `{"error_code":5}`)}, settings{WebSocket: "/ws"},
			""},
		"no JSON":  {Options{Register: apiOf(200, "hi")}, settings{WebSocket: "/ws"}, ""},
		"no terms": {Options{Register: apiOf(200, "{}")}, settings{WebSocket: "/ws"}, ""},
		"failed": {Options{Register: apiOf(500, `{"error_code":0}`)}, settings{WebSocket: "/ws"},
			""},
		"too long": {Options{Register: apiOf(200, `{"error_code":0,"x":"`+
			strings.Repeat("x", maxAnswer)+`"}`)}, settings{WebSocket: "/ws"}, ""},
	} {
		w := serve(t, test.opt, port.Options{}, nil)
		got, body := w.ask(t, "GET", "/config.json", "", "If-None-Match", "*")
		var is settings
		if err := json.Unmarshal([]byte(body), &is); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		test.want.Name = "TeamTalk"
		if diff := cmp.Diff(test.want, is); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		h := got.Header
		if h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" ||
			!strings.Contains(h.Get("Content-Security-Policy"), test.csp) {
			t.Errorf("%s: %v", name, h)
		}
	}
}

// TestRegister passes registrations of the page on, and none of other pages.
func TestRegister(t *testing.T) {
	w := serve(t, Options{Register: apiOf(200, "")}, port.Options{}, nil)
	got, body := w.ask(t, "POST", "/register?x=1", "carol", "Sec-Fetch-Site", "same-origin")
	if got.StatusCode != 200 || body != "registered carol" {
		t.Errorf("%s, %q", got.Status, body)
	}
	got, _ = w.ask(t, "POST", "/register", "carol", "Sec-Fetch-Site", "cross-site")
	if got.StatusCode != http.StatusForbidden {
		t.Errorf("of another page: %s", got.Status)
	}
	none := serve(t, Options{}, port.Options{}, nil)
	if got, _ := none.ask(t, "POST", "/register", "carol"); got.StatusCode < 400 {
		t.Errorf("without registration: %s", got.Status)
	}
}

// TestSmallFiles passes on what follows /msfs, and keeps the headers of the answer.
func TestSmallFiles(t *testing.T) {
	w := serve(t, Options{SmallFiles: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Security-Policy", "sandbox")
			_, _ = io.Copy(w, io.MultiReader(strings.NewReader(r.Method+" "+r.URL.Path+" "),
				r.Body))
		})}, port.Options{}, nil)
	got, body := w.ask(t, "POST", "/msfs/upload/", "picture")
	if csp := got.Header.Values("Content-Security-Policy"); body != "POST /upload/ picture" ||
		len(csp) != 1 || csp[0] != "sandbox" {
		t.Errorf("%q, %v", body, got.Header)
	}
	if _, body := w.ask(t, "GET", "/msfs/g0/000/001/a.jpg", ""); body != "GET /g0/000/001/a.jpg " {
		t.Errorf("%q", body)
	}
	if got, _ := w.ask(t, "POST", "/msfs/upload/", "x", "Origin", "http://evil.example.com"); got.
		StatusCode != http.StatusForbidden {
		t.Errorf("an upload of another page: %s", got.Status)
	}
}
