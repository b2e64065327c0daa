package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// embedded holds the files of the page, which its build has written.
//
//go:embed all:page/dist
var embedded embed.FS

// dist holds the files of the page by their paths in URLs.
var dist, _ = fs.Sub(embedded, "page/dist") // the path is valid

// types are the content types of the page's files. Other files are not served. The table of the
// system would make them depend on the machine.
var types = map[string]string{
	".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8",
	".ico": "image/x-icon", ".js": "text/javascript; charset=utf-8",
	".json": "application/json", ".png": "image/png", ".svg": "image/svg+xml",
	".txt": "text/plain; charset=utf-8", ".wasm": "application/wasm",
	".webmanifest": "application/manifest+json", ".woff2": "font/woff2",
}

// packed are the content types that are compressed already.
var packed = map[string]bool{".ico": true, ".png": true, ".woff2": true}

// asset is a file of the page.
type asset struct {
	kind   string // Content-Type
	cache  string // Cache-Control
	tag    string // of the plain body, without quotes
	bodies map[string][]byte
}

// encodings are the forms of a file, the best one first, with the ending of a file that the build
// of the page compressed.
var encodings = []struct{ name, ending string }{{"br", ".br"}, {"gzip", ".gz"}, {"", ""}}

// minPacked is the shortest file that is compressed, in bytes: shorter ones fit into one packet.
const minPacked = 1 << 10

// assets reads all files of the page.
func assets(files fs.FS) map[string]*asset {
	all := map[string]*asset{}
	_ = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		kind := types[path.Ext(name)]
		if err != nil || d.IsDir() || kind == "" {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		a := &asset{kind: kind, cache: "no-cache", tag: hex.EncodeToString(sum[:12]),
			bodies: map[string][]byte{"": body}}
		if strings.HasPrefix(name, "assets/") { // its name changes with its contents
			a.cache = "public, max-age=31536000, immutable"
		}
		a.pack(files, name)
		all["/"+name] = a
		return nil
	}) // embedded files do not fail
	return all
}

// pack adds the compressed forms of a file: those of the build, and gzip in any case.
func (a *asset) pack(files fs.FS, name string) {
	plain := a.bodies[""]
	if packed[path.Ext(name)] || len(plain) < minPacked {
		return
	}
	for _, e := range encodings {
		if body, err := fs.ReadFile(files, name+e.ending); err == nil && len(body) < len(plain) {
			a.bodies[e.name] = body
		}
	}
	if a.bodies["gzip"] != nil {
		return
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = z.Write(plain)                                 // to memory
	_ = z.Close()
	if b.Len() < len(plain) {
		a.bodies["gzip"] = b.Bytes()
	}
}

// page answers with a file of the page. A request for a WebSocket is one at any path, as at the
// message servers' own port: web clients of others ask for the root.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	if upgrades(r) {
		s.socket(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name := r.URL.Path
	if name == "/" {
		name = "/index.html"
	}
	a := s.files[name]
	if a == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	coding, body := a.best(r.Header.Values("Accept-Encoding"))
	tag := a.tag
	if coding != "" {
		h.Set("Content-Encoding", coding)
		tag += "-" + coding
	}
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Cache-Control", a.cache)
	if len(a.bodies) > 1 {
		h.Set("Vary", "Accept-Encoding")
	}
	if matches(r.Header.Values("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone needs nothing
	}
}

// best returns the smallest form of a file that the client accepts.
func (a *asset) best(accept []string) (coding string, body []byte) {
	for _, e := range encodings {
		body := a.bodies[e.name]
		if body != nil && (e.name == "" || accepts(accept, e.name)) {
			return e.name, body
		}
	}
	return "", a.bodies[""]
}

// accepts reports whether the lines of Accept-Encoding name a coding, with a weight that is not 0.
func accepts(lines []string, coding string) bool {
	for _, line := range lines {
		for e := range strings.SplitSeq(line, ",") {
			name, weight, _ := strings.Cut(e, ";")
			if strings.EqualFold(strings.TrimSpace(name), coding) {
				_, q, _ := strings.Cut(weight, "=")
				n, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
				return weight == "" || err == nil && n > 0
			}
		}
	}
	return false
}

// matches reports whether the lines of If-None-Match name a tag.
func matches(lines []string, tag string) bool {
	for _, line := range lines {
		for e := range strings.SplitSeq(line, ",") {
			e = strings.TrimPrefix(strings.TrimSpace(e), "W/")
			if e == "*" || e == `"`+tag+`"` {
				return true
			}
		}
	}
	return false
}
