package console

import (
	"compress/gzip"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// firstLoad is the largest sum of the compressed files that a browser loads first, in bytes.
const firstLoad = 120 << 10

// TestFresh: the page was built together with the chat page, whose test compares both with their
// sources.
func TestFresh(t *testing.T) {
	here, err := os.ReadFile("dist/sources.sha256")
	if err != nil {
		t.Fatal(err)
	}
	chat, err := os.ReadFile("../../web/page/dist/sources.sha256")
	if err != nil {
		t.Fatal(err)
	}
	if string(here) != string(chat) {
		t.Errorf("dist is of the sources %.12s, the chat page of %.12s: run make page, and commit "+
			"both", here, chat)
	}
}

// counter counts bytes.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// TestPage: the page is whole, has no script and no style in its markup, which its policy forbids,
// and is small.
func TestPage(t *testing.T) {
	page := Page()
	html, err := fs.ReadFile(embedded, "dist/index.html")
	if err != nil || !page.Has("/") || !page.Has("/licenses.txt") {
		t.Fatal("the binary has no page", err)
	}
	for _, bad := range []string{"<style", "style=", "onload", "javascript:", "http://", "https://"} {
		if strings.Contains(string(html), bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if n := strings.Count(string(html), "<script"); n != strings.Count(string(html), ` src="/`) {
		t.Errorf("%d scripts, not all of them files of the page", n)
	}
	size := counter(len(html))
	files, err := fs.Glob(embedded, "dist/assets/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		body, err := fs.ReadFile(embedded, name)
		if err != nil {
			t.Fatal(err)
		}
		if !page.Has(strings.TrimPrefix(name, "dist")) {
			t.Errorf("%s is not served", name)
		}
		z := gzip.NewWriter(&size)
		if _, err = z.Write(body); err == nil {
			err = z.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes compressed in %d files", size, len(files)+1)
	if size > firstLoad {
		t.Errorf("the first load has %d bytes, at most %d", size, firstLoad)
	}
}
