package files_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/core/files"
	"teamtalk/core/im"
)

func openFolder(t *testing.T, dir string, max int) *files.Folder {
	t.Helper()
	f, err := files.OpenFolder(dir, max)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audio")
	f := openFolder(t, dir, 1000)
	urls := map[string][]byte{}
	for i, test := range []struct{ name, extension string }{
		{"sound.amr", ".amr"}, {"sound.amr", ".amr"}, {"", ""}, {"noext", ""}, {"x.", ""}, {"x.AMR", ""}, {"x.tar.gz", ".gz"},
		{"x./../../etc/passwd", ""}, {"../../x", ""}, {"x.a\x00b", ""}, {"x.123456789", ""}, {"x.12345678", ".12345678"},
	} {
		data := bytes.Repeat([]byte{byte(i)}, i*50)
		url, err := f.Put(t.Context(), test.name, data)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(url) != test.extension {
			t.Errorf("file %q is at %s", test.name, url)
		}
		if _, twice := urls[url]; twice {
			t.Errorf("two files at %s", url)
		}
		urls[url] = data
	}
	if _, err := f.Put(t.Context(), "big", make([]byte, 1001)); im.KindOf(err) != im.Invalid {
		t.Errorf("a file that is too big: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "unfinished")); err != nil || len(left) != 0 {
		t.Errorf("unfinished: %v, %v", left, err)
	}

	again := openFolder(t, dir, 1000) // after a restart, or from another process
	for url, want := range urls {
		got, err := again.Get(t.Context(), url)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d, %v", url, len(got), len(want), err)
		}
	}
	small := openFolder(t, dir, 100)
	for url, data := range urls {
		if _, err := small.Get(t.Context(), url); (im.KindOf(err) == im.Invalid) != (len(data) > 100) {
			t.Errorf("%d bytes where 100 are the most: %v", len(data), err)
		}
	}
}

// TestFolderNames asks for what Put did not name: things in the folder and beside it, a link out of it, a directory.
func TestFolderNames(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "audio")
	f := openFolder(t, dir, 0)
	const stem = "0123456789abcdef0123456789abcdef"
	for name, data := range map[string]string{"secret": "x", "audio/secret": "x", "audio/unfinished/" + stem: "x"} {
		if err := os.WriteFile(filepath.Join(top, filepath.FromSlash(name)), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "01"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(top, "secret"), filepath.Join(dir, "01", stem)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "01", stem+".dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"", "secret", "../secret", "/" + top + "/secret", "unfinished/" + stem, "01/" + stem, "01/" + stem + ".dir", "01/" + stem + ".gone",
		"01/" + stem + "/../../secret", "01/" + stem + ".", "02/" + stem, "01\\" + stem, "01/" + strings.ToUpper(stem), "http://host/01/" + stem} {
		if data, err := f.Get(t.Context(), url); err == nil {
			t.Errorf("%q: %q", url, data)
		} else if k := im.KindOf(err); k != im.NotFound && url != "01/"+stem {
			t.Errorf("%q: %v, of kind %s", url, err, k)
		}
	}
}

// TestFolderLeftovers: what a crash left unfinished goes when it is old; what may be being written stays.
func TestFolderLeftovers(t *testing.T) {
	dir := t.TempDir()
	openFolder(t, dir, 0)
	old, young := filepath.Join(dir, "unfinished", "old"), filepath.Join(dir, "unfinished", "young")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Now().Add(-2*time.Hour), time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	openFolder(t, dir, 0)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("old leftover: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("young leftover: %v", err)
	}
}

// TestFolderFailures: what cannot be kept is an error, and leaves nothing.
func TestFolderFailures(t *testing.T) {
	dir := t.TempDir()
	if _, err := files.OpenFolder(filepath.Join(dir, "no", "parent"), 0); im.KindOf(err) != im.Unavailable {
		t.Errorf("without a parent: %v", err)
	}
	f := openFolder(t, filepath.Join(dir, "audio"), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Put(ctx, "x", nil); im.KindOf(err) != im.Unavailable {
		t.Errorf("put with a context that is over: %v", err)
	}
	if _, err := f.Get(ctx, "x"); im.KindOf(err) != im.Unavailable {
		t.Errorf("get with a context that is over: %v", err)
	}
	// A file where each of the directories should be.
	for i := range 256 {
		if err := os.WriteFile(filepath.Join(dir, "audio", string("0123456789abcdef"[i>>4])+string("0123456789abcdef"[i&15])), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if url, err := f.Put(t.Context(), "x", []byte("y")); im.KindOf(err) != im.Unavailable {
		t.Errorf("put without a directory: %q, %v", url, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "audio", "unfinished")); err != nil || len(left) != 0 {
		t.Errorf("unfinished: %v, %v", left, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "audio")); err != nil {
		t.Fatal(err)
	}
	if url, err := f.Put(t.Context(), "x", []byte("y")); im.KindOf(err) != im.Unavailable {
		t.Errorf("put without the folder: %q, %v", url, err)
	}
}

// FuzzFolderGet: whatever is asked for, nothing but what Put named is found.
func FuzzFolderGet(f *testing.F) {
	top := f.TempDir()
	if err := os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o600); err != nil {
		f.Fatal(err)
	}
	folder, err := files.OpenFolder(filepath.Join(top, "audio"), 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { folder.Close() })
	url, err := folder.Put(f.Context(), "x.amr", []byte("sound"))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{url, "", "../secret", "unfinished", url[:2], url + "/..", "ab/../../secret"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ask string) {
		data, err := folder.Get(t.Context(), ask)
		if err == nil && (ask != url || string(data) != "sound") {
			t.Errorf("%q: %q", ask, data)
		}
		if err != nil && ask == url {
			t.Error(err)
		}
	})
}
