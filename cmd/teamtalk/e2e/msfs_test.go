//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// storedFile is the answer to an upload.
type storedFile struct {
	Code int    `json:"error_code"`
	Text string `json:"error_msg"`
	Path string `json:"path"`
	URL  string `json:"url"`
}

// TestSmallFiles uploads files to the small file server that login_server names, and
// fetches them, also after a kill of the server.
func TestSmallFiles(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 1})
	var where struct {
		Prior string `json:"msfsPrior"`
	}
	if err := json.Unmarshal(fetch(t, sys.url()+"/msg_server"), &where); err != nil {
		t.Fatal(err)
	}
	if where.Prior != "http://"+sys.files+"/" {
		t.Fatalf("login_server names %q, want http://%s/", where.Prior, sys.files)
	}
	data := bytes.Repeat([]byte("picture "), 50_000)
	stored := upload(t, where.Prior, "photo_640x480.jpg", data)
	if stored.Code != 0 || !strings.HasSuffix(stored.Path, "_640x480.jpg") ||
		stored.URL != where.Prior+stored.Path {
		t.Fatalf("upload: %+v", stored)
	}
	if got := fetch(t, stored.URL); !bytes.Equal(got, data) {
		t.Errorf("fetched %d bytes, want %d", len(got), len(data))
	}
	// Clients request an avatar in a size.
	avatar := upload(t, where.Prior, "face.jpg", picture(t))
	for _, url := range []string{avatar.URL + "_100x100.jpg",
		where.Prior + "/" + avatar.Path + "_100x100.jpg"} {
		small, err := jpeg.Decode(bytes.NewReader(fetch(t, url)))
		if err != nil || small.Bounds().Size() != image.Pt(100, 75) {
			t.Errorf("GET %s: %v, %v", url, small, err)
		}
	}
	if got := fetch(t, stored.URL+"_100x100.jpg"); !bytes.Equal(got, data) {
		t.Errorf("a file that is no picture, in a size: %d bytes", len(got))
	}
	sys.msg[0].kill()
	sys.msg[0].start()
	if got := fetch(t, stored.URL); !bytes.Equal(got, data) {
		t.Errorf("after a kill: fetched %d bytes, want %d", len(got), len(data))
	}
}

// TestSmallFilesExpire: of two files that are a day old, the one that nobody has fetched expires.
func TestSmallFilesExpire(t *testing.T) {
	t.Parallel()
	expire := []string{"--msfs.expire-unused-after", "24h"}
	// Loopback is trusted by default, and what a server stores counts as downloaded.
	sys := deployAllInOne(t, settings{flags: append(slices.Clone(expire),
		"--strangers.trusted-networks", "192.0.2.0/24")})
	used := upload(t, "http://"+sys.files+"/", "used.jpg", []byte("used"))
	unused := upload(t, "http://"+sys.files+"/", "unused.jpg", []byte("nobody looks"))
	fetch(t, used.URL)
	sys.msg[0].stop()

	folder := filepath.Join(sys.store[1], "msfs")
	ago := func(hours int) string {
		return time.Now().Add(-time.Duration(hours) * time.Hour).Format(time.RFC3339)
	}
	// As after a day of work: the marks are complete since 30 hours, and the files are younger.
	note := fmt.Sprintf(`{"since":%q,"seen":%q,"began":%q,"ended":%q}`, ago(30), ago(1),
		ago(7), ago(7))
	if err := os.WriteFile(filepath.Join(folder, ".expiry"), []byte(note), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []storedFile{used, unused} {
		at := time.Now().Add(-25 * time.Hour)
		if err := os.Chtimes(filepath.Join(folder, f.Path), at, at); err != nil {
			t.Fatal(err)
		}
	}
	shown := mustRun(t, append([]string{"msfs", "expire", "--dry-run", "--list", "--data-dir",
		sys.store[1]}, expire...)...)
	if !strings.Contains(shown, unused.Path) || strings.Contains(shown, used.Path) {
		t.Errorf("of %s and %s, a dry run lists\n%s", used.Path, unused.Path, shown)
	}
	sys.msg[0].start()
	until(t, "a file to expire", func() bool {
		return sys.msg[0].metric("teamtalk_msfs_expired_total", `"unused"`) == 1
	})
	if rsp, err := http.Get(unused.URL); err != nil || rsp.StatusCode != http.StatusNotFound {
		t.Errorf("the file that expired: %v, %v", rsp, err)
	} else {
		rsp.Body.Close()
	}
	equal(t, "the file that was fetched", string(fetch(t, used.URL)), "used")
}

// fetch returns the body of a URL, which must answer with status 200.
func fetch(t *testing.T, url string) []byte {
	t.Helper()
	rsp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	data, err := io.ReadAll(rsp.Body)
	if err != nil || rsp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: status %d, %v", url, rsp.StatusCode, err)
	}
	return data
}

// upload uploads a file to the small file server at prior, as clients do.
func upload(t *testing.T, prior, name string, data []byte) (stored storedFile) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	part.Write(data)
	form.Close()
	rsp, err := http.Post(prior+"upload/", form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	if err := json.NewDecoder(rsp.Body).Decode(&stored); err != nil {
		t.Fatal(err)
	}
	equal(t, "content type of the answer", rsp.Header.Get("Content-Type"),
		"text/html; charset=utf-8")
	return stored
}
