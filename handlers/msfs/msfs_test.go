package msfs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"teamtalk/core/blob"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/opt/opttest"
	"teamtalk/core/web"
	"teamtalk/core/web/webtest"
)

// rig is a server on a temporary folder with a TCP port.
type rig struct {
	*testing.T
	dir string
	url string
	web *web.Server

	server *Server
}

// in returns r for a subtest.
func (r *rig) in(t *testing.T) *rig {
	sub := *r
	sub.T = t
	return &sub
}

func newRig(t *testing.T, change func(o *Options)) *rig {
	t.Helper()
	return newRigOn(t, change, web.Options{})
}

// newRigOn starts a server on a port with these limits.
func newRigOn(t *testing.T, change func(o *Options), limits web.Options) *rig {
	t.Helper()
	r := &rig{T: t, dir: t.TempDir()}
	store, err := blob.OpenFolder(r.dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	o := Options{Store: store, MaxSize: 1 << 20}
	if change != nil {
		change(&o)
	}
	r.server = newServer(o)
	limits.Handler = r.server
	r.web = webtest.Serve(t, limits)
	r.url = "http://" + r.web.Addr().String()
	return r
}

// form returns the body of an upload and its type.
func form(t *testing.T, field, name string, data []byte) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.WriteField("comment", "not a file"); err != nil {
		t.Fatal(err)
	}
	part, err := w.CreateFormFile(field, name)
	if err != nil {
		t.Fatal(err)
	}
	part.Write(data)
	w.Close()
	return b.Bytes(), w.FormDataContentType()
}

func (r *rig) post(body []byte, contentType string) uploaded {
	r.Helper()
	return r.postTo("/", body, contentType)
}

func (r *rig) postTo(path string, body []byte, contentType string) uploaded {
	r.Helper()
	rsp, err := http.Post(r.url+path, contentType, bytes.NewReader(body))
	return r.answerOf(rsp, err)
}

// answerOf reads the answer to an upload.
func (r *rig) answerOf(rsp *http.Response, err error) uploaded {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
	defer rsp.Body.Close()
	if typ := rsp.Header.Get("Content-Type"); typ != "text/html; charset=utf-8" {
		r.Errorf("the answer is of type %q", typ)
	}
	var u uploaded
	if err := json.NewDecoder(rsp.Body).Decode(&u); err != nil || rsp.StatusCode != 200 {
		r.Fatalf("status %d, %v", rsp.StatusCode, err)
	}
	return u
}

func (r *rig) upload(name string, data []byte) uploaded {
	r.Helper()
	body, contentType := form(r.T, "file", name, data)
	return r.post(body, contentType)
}

func (r *rig) get(path string, header ...string) (*http.Response, []byte) {
	r.Helper()
	req, err := http.NewRequest(http.MethodGet, r.url+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rsp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.Fatal(err)
	}
	defer rsp.Body.Close()
	data, err := io.ReadAll(rsp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return rsp, data
}

// files returns the number of files in the folder, including incomplete uploads.
func (r *rig) files() int {
	n := 0
	filepath.WalkDir(r.dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}

// TestUploadAndDownload: an uploaded file is served whole, in ranges and with an ETag,
// with the type of its extension.
func TestUploadAndDownload(t *testing.T) {
	r := newRig(t, nil)
	data := make([]byte, 1<<20) // as large as may be
	_, _ = rand.Read(data)
	for _, c := range []struct{ name, path, contentType, disposition string }{
		{"photo.jpg", `\.jpg`, "image/jpeg", ""},
		{"photo_640x480.PNG", `_640x480\.png`, "image/png", ""},
		{"voice.amr", `\.amr`, "audio/amr", ""},
		{"evil.html", `\.html`, "application/octet-stream", "attachment"},
		{"evil.svg", `\.svg`, "application/octet-stream", "attachment"},
		{"noending", ``, "application/octet-stream", "attachment"},
		{"a.b/c_1x2x3.j%20g", ``, "application/octet-stream", "attachment"},
		{`..\..\x_10x20.exe`, `_10x20\.exe`, "application/octet-stream", "attachment"},
		{"文件_3x4.jpg", `_3x4\.jpg`, "image/jpeg", ""},
	} {
		u := r.upload(c.name, data)
		if u.Code != 0 || u.Text != "成功" || !regexp.MustCompile(`^g0/\d{3}/\d{3}/[0-9a-f]{32}`+
			c.path+`$`).MatchString(u.Path) || u.URL != r.url+"/"+u.Path {
			t.Errorf("%s: %+v", c.name, u)
			continue
		}
		rsp, got := r.get("/" + u.Path)
		h := rsp.Header
		if rsp.StatusCode != 200 || !bytes.Equal(got, data) ||
			h.Get("Content-Type") != c.contentType ||
			h.Get("Content-Disposition") != c.disposition ||
			h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: status %d, %d bytes, %v", c.name, rsp.StatusCode, len(got), h)
		}
		if rsp, got := r.get("/"+u.Path, "Range", "bytes=10-19"); rsp.StatusCode != 206 ||
			!bytes.Equal(got, data[10:20]) {
			t.Errorf("%s: range: status %d, %d bytes", c.name, rsp.StatusCode, len(got))
		}
		if rsp, _ := r.get("/"+u.Path, "If-None-Match", h.Get("ETag")); rsp.StatusCode != 304 {
			t.Errorf("%s: with its ETag: status %d", c.name, rsp.StatusCode)
		}
	}
	if one, two := r.upload("a.jpg", data[:1]), r.upload("a.jpg", data[:1]); one.Path == two.Path {
		t.Error("two files of one name")
	}
}

// TestPaths: clients upload to the announced address and to upload/ below it, and
// download with superfluous slashes.
func TestPaths(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/", "/upload/", "/upload", "//upload/"} {
		body, contentType := form(t, "file", "a.jpg", []byte("picture"))
		u := r.postTo(path, body, contentType)
		if u.Code != 0 {
			t.Errorf("POST %s: %+v", path, u)
			continue
		}
		for _, at := range []string{"/" + u.Path, "//" + u.Path,
			"///" + strings.ReplaceAll(u.Path, "/", "//")} {
			if rsp, got := r.get(at); rsp.StatusCode != 200 || string(got) != "picture" {
				t.Errorf("GET %s: status %d, %q", at, rsp.StatusCode, got)
			}
		}
	}
}

// TestRefused: uploads that are too large, empty or malformed are refused, and paths
// outside the folder are not found.
func TestRefused(t *testing.T) {
	r := newRig(t, nil)
	body, contentType := form(t, "file", "a.jpg", make([]byte, 1<<20+1))
	if u := r.post(body, contentType); u.Code != 1 {
		t.Errorf("one byte too many: %+v", u)
	}
	if u := r.post(append(body, make([]byte, 1<<20)...), contentType); u.Code != 1 {
		t.Errorf("a form much too long: %+v", u)
	}
	if u := r.upload("a.jpg", nil); u.Code != 1 {
		t.Errorf("an empty file: %+v", u)
	}
	body, contentType = form(t, "file", "", []byte("x"))
	if u := r.post(body, contentType); u.Code != 1 {
		t.Errorf("no file name: %+v", u)
	}
	if u := r.post([]byte("x"), "text/plain"); u.Code != 1 {
		t.Errorf("no form: %+v", u)
	}
	if u := r.post([]byte("--x\r\n\r\n"), "multipart/form-data; boundary=x"); u.Code != 1 {
		t.Errorf("half a form: %+v", u)
	}
	body, contentType = form(t, "file", "a.jpg", make([]byte, 1000))
	if u := r.post(body[:600], contentType); u.Code != 1 {
		t.Errorf("a form cut off in its file: %+v", u)
	}
	var many bytes.Buffer
	w := multipart.NewWriter(&many)
	for i := range 100 {
		w.WriteField(fmt.Sprint(i), "x")
	}
	w.Close()
	if u := r.post(many.Bytes(), w.FormDataContentType()); u.Code != 1 {
		t.Errorf("fields without end: %+v", u)
	}
	if n := r.files(); n != 0 {
		t.Errorf("%d files left", n)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(r.dir), "outside"), []byte("secret"),
		0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/..", "/../outside", "/%2e%2e/outside", "/..%2foutside",
		"//etc/passwd", "/.tmp/x", "/g0/../../outside", "/g0%00", "/g0"} {
		if rsp, got := r.get(path); rsp.StatusCode != 404 {
			t.Errorf("GET %s: status %d, %q", path, rsp.StatusCode, got)
		}
	}
	req, _ := http.NewRequest(http.MethodDelete, r.url+"/g0/x", nil)
	rsp, err := http.DefaultClient.Do(req)
	if err != nil || rsp.StatusCode != 405 {
		t.Errorf("DELETE: %v, %v", rsp, err)
	}
}

// TestSlow: an upload that stalls is refused and leaves no file. Until then it occupies
// its slot.
func TestSlow(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxUploads, o.Progress = 1, 50*time.Millisecond })
	body, contentType := form(t, "file", "a.jpg", make([]byte, 1000))
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		contentType, len(body), body[:500])
	answer, err := io.ReadAll(c) // the server answers and closes without the rest
	if err != nil || !bytes.Contains(answer, []byte(`"error_code":1`)) {
		t.Errorf("a client that stopped got %q, %v", answer, err)
	}
	if n := r.files(); n != 0 {
		t.Errorf("%d files left", n)
	}
	if u := r.upload("a.jpg", []byte("x")); u.Code != 0 {
		t.Errorf("after it: %+v", u)
	}
}

// blocked is a store whose Put waits.
type blocked struct {
	blob.Store
	entered, leave chan struct{}
}

func (b *blocked) Put(ctx context.Context, name string, r io.Reader, contentType string) (int64,
	error) {
	b.entered <- struct{}{}
	<-b.leave
	return b.Store.Put(ctx, name, r, contentType)
}

// TestBusy: an upload above MaxUploads is refused at once.
func TestBusy(t *testing.T) {
	b := &blocked{entered: make(chan struct{}), leave: make(chan struct{})}
	r := newRig(t, func(o *Options) { b.Store, o.Store, o.MaxUploads = o.Store, b, 1 })
	first := make(chan uploaded)
	go func() { first <- r.upload("a.jpg", []byte("x")) }()
	<-b.entered
	if u := r.upload("b.jpg", []byte("x")); u.Code != 9 {
		t.Errorf("the second of one upload allowed: %+v", u)
	}
	close(b.leave)
	if u := <-first; u.Code != 0 {
		t.Errorf("the first: %+v", u)
	}
}

// TestPut: Open finds files that Put stored, also under an earlier address, and no
// others.
func TestPut(t *testing.T) {
	dir := t.TempDir()
	store, err := blob.OpenFolder(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s := newServer(Options{Store: store, URL: "http://files:8700/", MaxSize: 10})
	url, err := s.Put(context.Background(), "x.amr", strings.NewReader("sound"))
	if err != nil || !strings.HasPrefix(url, "http://files:8700/g0/") || !strings.HasSuffix(url, ".amr") {
		t.Errorf("Put: %s, %v", url, err)
	}
	// MaxSize is for HTTP
	if _, err := s.Put(context.Background(), "x.amr",
		strings.NewReader("eleven byte")); err != nil {
		t.Errorf("Put of more than MaxSize: %v", err)
	}
	name := strings.TrimPrefix(url, "http://files:8700")
	for _, at := range []string{url, "https://earlier.example.com/files" + name, name} {
		b, err := s.Open(context.Background(), at)
		if err != nil || b.Size != 5 {
			t.Fatalf("Open %s: %v, %v", at, b, err)
		}
		b.Close()
	}
	for _, at := range []string{"", url + "x", url + "/", url[:len(url)-1],
		"http://files:8700/g0/../x", name[1:], "http://files:8700/g0/000/000/" + strings.Repeat("0", 32)} {
		if _, err := s.Open(context.Background(), at); im.KindOf(err) != im.NotFound {
			t.Errorf("Open %q: %v", at, err)
		}
	}
}

// newServer returns a server with the defaults of the settings where opt has no value.
func newServer(opt Options) *Server {
	c := config.Default().MSFS
	return New(opttest.Fill(opt, Options{
		MaxSize: int64(c.MaxSize), MaxUploads: c.MaxUploads, ScalePixels: c.ScalePixels,
		Linger: 20 * time.Millisecond,
	}))
}
