package msfs

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/sound"
)

// httpOptions are the options of a client of the small file server at url.
func httpOptions(url string) sound.HTTPOptions {
	return sound.HTTPOptions{URL: url, MaxSize: im.MaxAudio, Timeout: 5 * time.Second}
}

// TestHere: files that db_proxy stores on the small file server of its own process can be
// downloaded by every client. They are found under another address too, and files of
// other servers are fetched from these.
func TestHere(t *testing.T) {
	other := newRig(t, nil)
	var elsewhere uploaded
	if elsewhere = other.upload("sound.amr", []byte("elsewhere")); elsewhere.Code != 0 {
		t.Fatal(elsewhere)
	}
	store, err := blob.OpenFolder(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	here := func(url string) *sound.Here {
		http, err := sound.NewHTTP(httpOptions(url))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { http.Close() })
		return sound.NewHere(sound.HereOptions{Server: newServer(Options{Store: store, URL: url,
			MaxSize: 3}), URL: url, Elsewhere: http, MaxSize: 100})
	}
	web := httptest.NewServer(newServer(Options{Store: store}))
	defer web.Close()
	f := here(web.URL)
	data := bytes.Repeat([]byte{0xfe}, 100)
	url, err := f.Put(t.Context(), "sound.audio", data)
	if err != nil || !strings.HasPrefix(url, web.URL+"/g0/") {
		t.Fatalf("kept at %q, %v", url, err)
	}
	over, err := sound.NewHTTP(httpOptions("http://localhost")) // as another db_proxy does
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	for name, from := range map[string]sound.Store{"here": f,
		"later, under another address": here("http://files.example.com/msfs/"), "over HTTP": over} {
		if got, err := from.Get(t.Context(), url); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if got, err := f.Get(t.Context(), elsewhere.URL); err != nil || string(got) != "elsewhere" {
		t.Errorf("of another server: %q, %v", got, err)
	}
	if _, err := f.Put(t.Context(), "x", make([]byte, 101)); im.KindOf(err) != im.Invalid {
		t.Errorf("too big: %v", err)
	}
	if _, err := here(web.URL+"/").Get(t.Context(), url+"x"); im.KindOf(err) != im.NotFound {
		t.Errorf("not there: %v", err)
	}
	if rsp, err := http.Get(url); err != nil || rsp.StatusCode != http.StatusOK {
		t.Errorf("GET %s: %v, %v", url, rsp, err)
	}
	alone := sound.NewHere(sound.HereOptions{Server: newServer(Options{Store: store}),
		MaxSize: 100})
	if _, err := alone.Get(t.Context(), elsewhere.URL); im.KindOf(err) != im.NotFound {
		t.Errorf("of another server, which nobody may ask: %v", err)
	}
}
