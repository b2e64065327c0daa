package msfs

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"teamtalk/core/blob"
	"teamtalk/core/web"
	"teamtalk/core/web/webtest"
)

// Requests that outsiders may try, as ABUSE.md lists them. TestRefused, TestSlow and
// TestUploadAndDownload contain more of them.

// head is the beginning of an upload request. More header lines may follow it.
const head = "POST / HTTP/1.1\nHost: x\nConnection: close\nContent-Type: multipart/form-data; " +
	"boundary=b\n"

// part is the beginning of a form.
const part = "--b\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jpg\"\n\n"

// upload1 returns a complete upload of one byte.
func upload1() string {
	body := part + "x\n--b--\n"
	return head + fmt.Sprintf("Content-Length: %d\n\n%s",
		len(strings.ReplaceAll(body, "\n", "\r\n")), body)
}

// taken and refused report the result in the answer to an upload.
func taken(answer string) bool   { return strings.Contains(answer, `"error_code":0,`) }
func refused(answer string) bool { return strings.Contains(answer, `"error_code":1,`) }

// TestAbuseUploadSizes: uploads with an invalid or excessive length, or with a body that
// does not end, are refused.
func TestAbuseUploadSizes(t *testing.T) {
	r := newRig(t, nil)
	if a := webtest.Raw(t, r.web, upload1()); !taken(a) {
		t.Fatalf("an upload: %q", a)
	}
	kept := r.files()
	// The last length is a byte more than a file and its form.
	for _, length := range []string{"99999999999", "9223372036854775807", "1114113"} {
		// No byte of the body is sent.
		if a := webtest.Raw(t, r.web, head+"Content-Length: "+length+"\n\n"); !refused(a) {
			t.Errorf("Content-Length %s: %q", length, a)
		}
	}
	for _, length := range []string{"9223372036854775808", "-1", "1e3", "0x10", "+5", ""} {
		if a := webtest.Raw(t, r.web, head+"Content-Length: "+length+
			"\n\n"); webtest.Status(a) != 400 {
			t.Errorf("Content-Length %q: %q", length, a)
		}
	}
	for what, begin := range map[string]string{"a file without end": part,
		"a form without a file": "--b\nContent-Disposition: form-data; name=\"x\"\n\n"} {
		c := webtest.Dial(t, r.web)
		go func() {
			io.WriteString(c, strings.ReplaceAll(head+"Transfer-Encoding: chunked\n\n"+
				fmt.Sprintf("%x\n%s\n", len(strings.ReplaceAll(begin, "\n", "\r\n")), begin), "\n",
				"\r\n"))
			for chunk := []byte(fmt.Sprintf("10000\r\n%s\r\n", make([]byte, 1<<16))); ; {
				if _, err := c.Write(chunk); err != nil {
					return // the server closed the connection
				}
			}
		}()
		b := make([]byte, 4096)
		n, err := io.ReadAtLeast(c, b, 12)
		if err != nil || !strings.Contains(string(b[:n]), "200 OK") {
			t.Errorf("%s: %q, %v", what, b[:n], err)
		}
	}
	r.await("the rest to be removed", func() bool { return r.files() == kept })
}

// await polls until ok, for a condition that no event reports.
func (r *rig) await(what string, ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(webtest.Patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("not reached in time: %s", what)
		}
	}
}

// TestAbuseForms: malformed forms, forms without an end and forms with excessive headers
// are refused, and leave no files.
func TestAbuseForms(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxSize = 64 << 20 })
	long := strings.Repeat("x", 32<<20)
	sized := func(body string) string { // with the length it would have
		return head + fmt.Sprintf("Content-Length: %d\n\n",
			len(strings.ReplaceAll(body, "\n", "\r\n"))) + body
	}
	for what, request := range map[string]string{
		"no end boundary":   sized(part + strings.Repeat("x", 1000)),
		"no boundary":       strings.Replace(upload1(), "; boundary=b", "", 1),
		"an empty boundary": strings.Replace(upload1(), "boundary=b", "boundary=", 1),
		"another boundary":  strings.Replace(upload1(), "boundary=b", "boundary=c", 1),
		"a boundary of 300": strings.Replace(upload1(), "boundary=b",
			"boundary="+strings.Repeat("b", 300), 1),
		"a url-encoded form": strings.Replace(upload1(), "multipart/form-data; boundary=b",
			"application/x-www-form-urlencoded", 1),
		"a part's header of 32 MB": sized("--b\nContent-Disposition: form-data; name=\"file\"; " +
			"filename=\"" + long + "\"\n\nx\n--b--\n"),
		"a field of 32 MB": sized("--b\nContent-Disposition: form-data; name=\"x\"\n\n" + long +
			"\n" + part + "x\n--b--\n"),
		"10,000 parts": sized(strings.Repeat("--b\nContent-Disposition: form-data; "+
			"name=\"x\"\n\n\n", 10_000) + part + "x\n--b--\n"),
		"no file": sized("--b--\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a := webtest.Raw(t, r.web, request)
		runtime.ReadMemStats(&after)
		// a client that is cut off while it sends may not receive the answer
		if a != "" && !refused(a) {
			t.Errorf("%s: %.300q", what, a)
		}
		// The test itself makes two copies of the request.
		if n := after.TotalAlloc - before.TotalAlloc; n > 80<<20 {
			t.Errorf("%s: %d MiB were allocated", what, n>>20)
		}
	}
	if n := r.files(); n != 0 {
		t.Errorf("%d files left", n)
	}
}

// TestAbuseNames: the client's file name does not choose where the file is stored, and
// the client's type does not choose how it is served.
func TestAbuseNames(t *testing.T) {
	r := newRig(t, nil)
	for _, name := range []string{"../../etc/passwd", "/etc/passwd", `C:\boot.ini`, "..",
		".htaccess", "a\r\nX: y.jpg", strings.Repeat("x", 10_000) + ".jpg",
		"%2e%2e%2fa.jpg", "a.jpg.", "a. jpg", "con.jpg", "a_99999999x1.jpg"} {
		u := r.upload(name, []byte("x"))
		if u.Code != 0 || !nameInURL.MatchString("/"+u.Path) {
			t.Errorf("%.50q: %+v", name, u)
		}
	}
	if u := r.upload("a.jpg\x00.php", []byte("x")); u.Code != 1 {
		t.Errorf("a name with NUL: %+v", u)
	}
	script := []byte("<script>alert(1)</script>")
	for _, c := range []struct{ name, typ, disposition string }{
		{"a.html", "application/octet-stream", "attachment"},
		{"a.svg", "application/octet-stream", "attachment"},
		{"a.js", "application/octet-stream", "attachment"},
		{"a.xhtml", "application/octet-stream", "attachment"},
		{"a.pdf", "application/octet-stream", "attachment"},
		{"a.swf", "application/octet-stream", "attachment"},
		// a page with this name is shown as a broken picture: nosniff forbids guessing
		{"a.jpg", "image/jpeg", ""},
	} {
		body, contentType := form(t, "file", c.name, script)
		// The uploader claims another type.
		u := r.post(bytes.Replace(body, []byte("application/octet-stream"), []byte("text/html"), 1),
			contentType)
		rsp, got := r.get("/" + u.Path)
		h := rsp.Header
		if !bytes.Equal(got, script) || h.Get("Content-Type") != c.typ ||
			h.Get("Content-Disposition") != c.disposition ||
			h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Content-Security-Policy") != "default-src 'none'; sandbox" {
			t.Errorf("%s: %v", c.name, h)
		}
	}
}

// TestAbusePaths: only files of the folder are served, however the path is written, and
// symbolic links are not followed out of it.
func TestAbusePaths(t *testing.T) {
	r := newRig(t, nil)
	outside := filepath.Join(filepath.Dir(r.dir), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	u := r.upload("a.jpg", []byte("x"))
	for name, target := range map[string]string{"link": outside, "up": "..", "circle": "circle",
		"nowhere": "nothing"} {
		if err := os.Symlink(target, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/../outside", "/..%2foutside", "/%2e%2e/outside",
		"/%2e%2e%2foutside", "/%252e%252e/outside", `/..\outside`, "/..%5coutside",
		"/....//outside",
		"/.%00./outside", outside, "/" + outside, "//" + outside, "http://x" + outside,
		"/g0%00.jpg", "/g0/", "/" + u.Path + "/", "/" + u.Path + "/x", "/" + u.Path + "%00",
		"/.tmp", "/.tmp/",
		"/link", "/up/outside", "/circle", "/nowhere", "/%c0%ae%c0%ae/outside", "/..;/outside",
		"/" + strings.Repeat("a", 5000), "/" + strings.Repeat("a/", 2000), "/%"} {
		a := webtest.Raw(t, r.web, "GET "+path+" HTTP/1.1\nHost: x\nConnection: close\n\n")
		if s := webtest.Status(a); s != 404 && s != 400 || strings.Contains(a, "secret") {
			t.Errorf("GET %.60s: %.200q", path, a)
		}
	}
}

// TestAbuseRanges: many, overlapping or absurd ranges yield at most the file once.
func TestAbuseRanges(t *testing.T) {
	r := newRig(t, nil)
	data := bytes.Repeat([]byte("0123456789"), 1000)
	u := r.upload("a.jpg", data)
	for _, c := range []struct {
		ranges string
		status int
		length int
	}{
		{"0-0", 206, 1}, {"-5", 206, 5}, {"9990-", 206, 10}, {"0-99999999999999999", 206, 10_000},
		{"10000-", 416, -1}, {"99999999999999999999-", 416, -1}, {"5-1", 416, -1}, {"x", 416, -1},
		{"0-9,0-9", 200, 10_000}, {strings.TrimSuffix(strings.Repeat("0-,", 4000), ","), 200,
			10_000}, {strings.TrimSuffix(strings.Repeat("1-1,", 4000), ","), 200, 10_000},
	} {
		rsp, got := r.get("/"+u.Path, "Range", "bytes="+c.ranges)
		if rsp.StatusCode != c.status || c.length >= 0 && len(got) != c.length {
			t.Errorf("Range %.40s: status %d, %d bytes", c.ranges, rsp.StatusCode, len(got))
		}
	}
	for _, h := range []string{"If-Range: \"x\"", "If-Modified-Since: yesterday",
		"If-None-Match: " + strings.Repeat("\"x\",", 3000)} {
		if a := webtest.Raw(t, r.web, "GET /"+u.Path+" HTTP/1.1\nHost: x\nConnection: close\n"+h+
			"\n\n"); webtest.Status(a) != 200 {
			t.Errorf("%.40s: %.100q", h, a)
		}
	}
}

// oddRequest is a request and the status of its answer.
type oddRequest struct {
	request string
	status  int
}

// oddRequests returns requests of other versions and methods, and wrong ones. get is the
// start of a request for the file at path.
func oddRequests(path, get string) map[string]oddRequest {
	return map[string]oddRequest{
		"HTTP/1.0":              {"GET /" + path + " HTTP/1.0\n\n", 200},
		"HTTP/0.9":              {"GET /" + path + "\n\n", 400},
		"HTTP/2 without asking": {"PRI * HTTP/2.0\n\nSM\n\n", 405},
		"HTTP/3.7":              {"GET / HTTP/3.7\nHost: x\n\n", 505},
		"no Host":               {"GET /" + path + " HTTP/1.1\n\n", 400},
		"two Hosts":             {get + "Host: y\n\n", 400},
		"PUT": {"PUT /" + path +
			" HTTP/1.1\nHost: x\nConnection: close\n\n", 405},
		"DELETE": {"DELETE /" + path +
			" HTTP/1.1\nHost: x\nConnection: close\n\n", 405},
		"TRACE": {
			"TRACE / HTTP/1.1\nHost: x\nConnection: close\nCookie: secret\n\n", 405},
		"CONNECT": {
			"CONNECT example.com:443 HTTP/1.1\nHost: x\nConnection: close\n\n", 405},
		"a made-up method": {"FETCH / HTTP/1.1\nHost: x\nConnection: close\n\n",
			405},
		"two lengths": {get + "Content-Length: 1\nContent-Length: 2\n\nxx",
			400},
		"an unknown encoding": {get + "Transfer-Encoding: xchunked\n\n", 501},
		"an encoding twice": {get +
			"Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", 501},
		"a space before the colon": {get + "Content-Length : 5\n\n", 400},
		"a line that is continued": {get + "X: a\n b\nConnection: close\n\n", 200},
		"a header without end":     {get + "X: " + strings.Repeat("x", 1<<20), 431},
		"noise": {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
			400},
		"a frame of the protocol": {
			"\x00\x00\x00\x10\x00\x01\x01\x03\x00\x00\x00\x00\x00\x00\x00\x00\n\n", 400},
		"chunk lengths that are none": {head +
			"Transfer-Encoding: chunked\n\nffffffffffffffffff\n", 200},
		"chunked and a length: chunks count": {head +
			"Content-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n", 200},
	}
}

// TestAbuseHTTP: other methods and versions, pipelined requests and request smuggling are
// refused or answered in order.
func TestAbuseHTTP(t *testing.T) {
	r := newRig(t, nil)
	u := r.upload("a.jpg", []byte("content"))
	get := "GET /" + u.Path + " HTTP/1.1\nHost: x\n"
	for what, c := range oddRequests(u.Path, get) {
		if a := webtest.Raw(t, r.web, c.request); webtest.Status(a) != c.status ||
			strings.Contains(a, "secret") {
			t.Errorf("%s: %.200q, want status %d", what, a, c.status)
		}
	}
	// A request inside the body of another one is not executed.
	inner := "GET /" + u.Path + " HTTP/1.1\nX: "
	a := webtest.Raw(t, r.web,
		fmt.Sprintf("GET /nothing HTTP/1.1\nHost: x\nContent-Length: %d\n\n%s"+get+
			"Connection: close\n\n", len(inner)+1, inner))
	if strings.Count(a, "HTTP/1.1 ") != 2 || strings.Count(a, "content") != 1 {
		t.Errorf("a request in a body: %q", a)
	}
	// Pipelined requests are answered one by one, in order.
	if a := webtest.Raw(t, r.web, strings.Repeat(get+"\n", 500)+get+
		"Connection: close\n\n"); strings.Count(a, "HTTP/1.1 200") != 501 {
		t.Errorf("%d answers for 501 requests", strings.Count(a, "HTTP/1.1 200"))
	}
	if got, err := os.ReadFile(filepath.Join(r.dir, u.Path)); string(got) != "content" ||
		err != nil {
		t.Errorf("the file is now %q, %v", got, err)
	}
}

// TestAbuseSlow: a slow client does not hold a connection, or an upload slot, for ever.
func TestAbuseSlow(t *testing.T) {
	const short = 100 * time.Millisecond
	r := newRigOn(t, func(o *Options) { o.MaxUploads, o.Progress, o.MaxSize = 1, 2*short, 64<<20 },
		web.Options{HeaderTimeout: short, ReadTimeout: short, WriteTimeout: short,
			IdleTimeout: short})
	u := r.upload("a.jpg", make([]byte, 48<<20))
	for _, request := range map[string]string{
		"silence": "", "half a header": "GET / HTTP/1.1\nHo",
		"a GET's body that never comes": "GET /x HTTP/1.1\nHost: x\nContent-Length: 100\n\n",
		"another method's":              "DELETE /x HTTP/1.1\nHost: x\nContent-Length: 100\n\n",
		"an upload's":                   head + "Content-Length: 1000\n\n",
		"a chunk's":                     head + "Transfer-Encoding: chunked\n\n5\n",
		"silence after a request":       "HEAD /x HTTP/1.1\nHost: x\n\n",
	} {
		webtest.Raw(t, r.web, request) // fails when it stays open
	}
	deaf := webtest.Dial(t, r.web)
	fmt.Fprintf(deaf, "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", u.Path)
	chatty := webtest.Dial(t, r.web) // asks on and on, and reads nothing
	go func() {
		for {
			if _, err := chatty.Write(bytes.Repeat([]byte("GET /x HTTP/1.1\r\nHost: x\r\n\r\n"),
				1000)); err != nil {
				return
			}
		}
	}()
	trickle := webtest.Dial(t, r.web)
	io.WriteString(trickle, strings.ReplaceAll(head+"Content-Length: 100000\n\n"+part, "\n",
		"\r\n"))
	tick := time.NewTicker(short / 10) // slower than may be, never silent for long
	defer tick.Stop()
	for deadline := time.Now().Add(webtest.Patience); ; {
		<-tick.C
		if _, err := trickle.Write([]byte("x")); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an upload of single bytes is not cut off")
		}
	}
	http.DefaultClient.CloseIdleConnections()
	r.await("all to be closed", func() bool { return r.web.Open() == 0 })
	if u := r.upload("a.jpg", []byte("x")); u.Code != 0 {
		t.Errorf("the upload slot is still occupied: %+v", u)
	}
}

// TestAbuseDisk: when less disk space is free than is reserved, uploads are refused and
// stored files are still served.
func TestAbuseDisk(t *testing.T) {
	var full blob.Store
	r := newRig(t, func(o *Options) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "there.jpg"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		folder, err := blob.OpenFolder(dir, 1<<62)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { folder.Close() })
		full = folder
		o.Store = full
	})
	if u := r.upload("a.jpg", []byte("x")); u.Code != 9 {
		t.Errorf("upload to a full disk: %+v", u)
	}
	if rsp, _ := r.get("/there.jpg"); rsp.StatusCode != 200 {
		t.Errorf("download from a full disk: %d", rsp.StatusCode)
	}
}

// TestIdleCrowd opens 10,000 silent connections. Files are still stored and served, and
// the silent connections are closed.
func TestIdleCrowd(t *testing.T) {
	r := newRigOn(t, nil, webtest.CrowdLimits)
	webtest.IdleCrowd(t, r.web, func() {
		u := r.upload("a.jpg", []byte("x"))
		if rsp, got := r.get("/" + u.Path); u.Code != 0 || rsp.StatusCode != 200 ||
			string(got) != "x" {
			t.Fatalf("beside a crowd: %+v, %d %q", u, rsp.StatusCode, got)
		}
	})
}
