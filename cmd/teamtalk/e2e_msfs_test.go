//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// TestSmallFiles: login says where small files are kept, one uploaded there can be fetched, also after the server was killed.
func TestSmallFiles(t *testing.T) {
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
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "photo_640x480.jpg")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(picture)
	form.Close()
	rsp, err := http.Post(where.Prior+"upload/", form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	var stored struct {
		Code int    `json:"error_code"`
		Text string `json:"error_msg"`
		Path string `json:"path"`
		URL  string `json:"url"`
	}
	if err := json.NewDecoder(rsp.Body).Decode(&stored); err != nil {
		t.Fatal(err)
	}
	if stored.Code != 0 || !strings.HasSuffix(stored.Path, "_640x480.jpg") || stored.URL != where.Prior+stored.Path {
		t.Fatalf("upload: %+v", stored)
	}
	if got := fetch(stored.URL); !bytes.Equal(got, picture) {
		t.Errorf("fetched %d bytes, want %d", len(got), len(picture))
	}
	sys.msg[0].kill()
	sys.msg[0].start()
	if got := fetch(stored.URL); !bytes.Equal(got, picture) {
		t.Errorf("after a kill: fetched %d bytes, want %d", len(got), len(picture))
	}
}
