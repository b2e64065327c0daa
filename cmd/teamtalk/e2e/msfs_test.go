//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"image"
	"image/jpeg"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// storedFile is the answer to an upload.
type storedFile struct {
	Code int    `json:"error_code"`
	Text string `json:"error_msg"`
	Path string `json:"path"`
	URL  string `json:"url"`
}

// TestSmallFiles: login says where small files are kept, one uploaded there can be fetched, also after the server was killed.
func TestSmallFiles(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 1})
	fetch := func(url string) []byte {
		t.Helper()
		rsp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer rsp.Body.Close()
		data, err := io.ReadAll(rsp.Body)
		if err != nil || rsp.StatusCode != 200 {
			t.Fatalf("GET %s: status %d, %v", url, rsp.StatusCode, err)
		}
		return data
	}
	var where struct {
		Prior string `json:"msfsPrior"`
	}
	if err := json.Unmarshal(fetch(sys.url()+"/msg_server"), &where); err != nil {
		t.Fatal(err)
	}
	if where.Prior != "http://"+sys.files+"/" {
		t.Fatalf("login says that small files are at %q, want http://%s/", where.Prior, sys.files)
	}
	picture := bytes.Repeat([]byte("picture "), 50_000)
	upload := func(name string, data []byte) (stored storedFile) {
		t.Helper()
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, err := form.CreateFormFile("file", name)
		if err != nil {
			t.Fatal(err)
		}
		part.Write(data)
		form.Close()
		rsp, err := http.Post(where.Prior+"upload/", form.FormDataContentType(), &body)
		if err != nil {
			t.Fatal(err)
		}
		defer rsp.Body.Close()
		if err := json.NewDecoder(rsp.Body).Decode(&stored); err != nil {
			t.Fatal(err)
		}
		if typ := rsp.Header.Get("Content-Type"); typ != "text/html; charset=utf-8" {
			t.Errorf("the answer to an upload is of type %q", typ)
		}
		return stored
	}
	stored := upload("photo_640x480.jpg", picture)
	if stored.Code != 0 || !strings.HasSuffix(stored.Path, "_640x480.jpg") || stored.URL != where.Prior+stored.Path {
		t.Fatalf("upload: %+v", stored)
	}
	if got := fetch(stored.URL); !bytes.Equal(got, picture) {
		t.Errorf("fetched %d bytes, want %d", len(got), len(picture))
	}
	// An avatar, as the clients ask for it.
	face := image.NewGray(image.Rect(0, 0, 400, 300))
	var encoded bytes.Buffer
	if err := jpeg.Encode(&encoded, face, nil); err != nil {
		t.Fatal(err)
	}
	avatar := upload("face.jpg", encoded.Bytes())
	for _, url := range []string{avatar.URL + "_100x100.jpg", where.Prior + "/" + avatar.Path + "_100x100.jpg"} {
		small, err := jpeg.Decode(bytes.NewReader(fetch(url)))
		if err != nil || small.Bounds().Size() != image.Pt(100, 75) {
			t.Errorf("GET %s: %v, %v", url, small, err)
		}
	}
	if got := fetch(stored.URL + "_100x100.jpg"); !bytes.Equal(got, picture) {
		t.Errorf("a file that is no picture, in a size: %d bytes", len(got))
	}
	sys.msg[0].kill()
	sys.msg[0].start()
	if got := fetch(stored.URL); !bytes.Equal(got, picture) {
		t.Errorf("after a kill: fetched %d bytes, want %d", len(got), len(picture))
	}
}
