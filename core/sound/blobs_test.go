package sound_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/sound"
)

func openFolder(t testing.TB, dir string) *blob.Folder {
	t.Helper()
	f, err := blob.OpenFolder(dir, 0)
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

func TestBlobsReturnWhatWasPut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audio")
	f := sound.NewBlobs(openFolder(t, dir), 1000)
	urls := map[string][]byte{}
	for i, test := range []struct{ name, extension string }{
		{"sound.amr", ".amr"}, {"sound.amr", ".amr"}, {"", ""}, {"noext", ""}, {"x.", ""},
		{"x.AMR", ""}, {"x.tar.gz", ".gz"},
		{"x./../../etc/passwd", ""}, {"../../x", ""}, {"x.a\x00b", ""}, {"x.123456789", ""},
		{"x.12345678", ".12345678"},
	} {
		data := bytes.Repeat([]byte{byte(i)}, 1+i*50)
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
		t.Errorf("Put of a file that is too large: %v, want an error of kind Invalid", err)
	}
	again := sound.NewBlobs(openFolder(t, dir), 1000) // as after a restart
	small := sound.NewBlobs(openFolder(t, dir), 100)
	for url, want := range urls {
		got, err := again.Get(t.Context(), url)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d, %v", url, len(got), len(want), err)
		}
		_, err = small.Get(t.Context(), url)
		if refused := im.KindOf(err) == im.Invalid; refused != (len(want) > 100) {
			t.Errorf("Get of %d bytes with a limit of 100: %v", len(want), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if url, err := f.Put(ctx, "x", []byte("y")); err == nil {
		t.Errorf("Put with an ended context stored %s", url)
	}
}

// TestBlobsOpenOnlyTheirNames asks for files in the store and beside it, for a link out
// of the store and for a directory.
func TestBlobsOpenOnlyTheirNames(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "audio")
	f := sound.NewBlobs(openFolder(t, dir), 1000)
	const stem = "0123456789abcdef0123456789abcdef"
	for name, data := range map[string]string{"secret": "x", "audio/secret": "x",
		"audio/.tmp/" + stem: "x"} {
		if err := os.WriteFile(filepath.Join(top, filepath.FromSlash(name)), []byte(data),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "01", stem+".dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(top, "secret"), filepath.Join(dir, "01", stem)); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"", "secret", "../secret", "/" + top + "/secret", ".tmp/" + stem,
		"01/" + stem, "01/" + stem + ".dir", "01/" + stem + ".gone", "01/" + stem + "/../../secret",
		"01/" + stem + ".", "02/" + stem, "01\\" + stem, "01/" + strings.ToUpper(stem),
		"http://host/01/" + stem} {
		if data, err := f.Get(t.Context(), url); err == nil {
			t.Errorf("%q: %q", url, data)
		} else if k := im.KindOf(err); k != im.NotFound && url != "01/"+stem {
			t.Errorf("%q: %v, of kind %s", url, err, k)
		}
	}
}

// FuzzBlobsGet asks for any name. Only the name that Put returned is found.
func FuzzBlobsGet(f *testing.F) {
	top := f.TempDir()
	if err := os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o600); err != nil {
		f.Fatal(err)
	}
	blobs := sound.NewBlobs(openFolder(f, filepath.Join(top, "audio")), 1000)
	url, err := blobs.Put(f.Context(), "x.amr", []byte("sound"))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{url, "", "../secret", ".tmp", url[:2], url + "/..",
		"ab/../../secret"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ask string) {
		data, err := blobs.Get(t.Context(), ask)
		if err == nil && (ask != url || string(data) != "sound") {
			t.Errorf("%q: %q", ask, data)
		}
		if err != nil && ask == url {
			t.Error(err)
		}
	})
}

// TestMovedFindsOldAndNewSounds puts a sound before the move and another one after it.
func TestMovedFindsOldAndNewSounds(t *testing.T) {
	before := sound.NewBlobs(openFolder(t, t.TempDir()), 1000)
	now := &urls{kept: map[string][]byte{}}
	was, err := before.Put(t.Context(), "x.audio", []byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	f := sound.NewMoved(now, before)
	is, err := f.Put(t.Context(), "x.audio", []byte("now"))
	if err != nil || now.kept[is] == nil {
		t.Fatalf("kept at %q, %v", is, err)
	}
	for url, want := range map[string]string{was: "before", is: "now"} {
		if got, err := f.Get(t.Context(), url); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", url, got, err, want)
		}
	}
	for _, url := range []string{"http://files/gone", was[:2] + "/" + was[:2] + strings.Repeat("0", 30) + ".audio"} {
		if _, err := f.Get(t.Context(), url); im.KindOf(err) != im.NotFound {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// urls stores files in memory, under URLs.
type urls struct{ kept map[string][]byte }

func (u *urls) Put(_ context.Context, name string, data []byte) (string, error) {
	url := "http://files/g0/" + name
	u.kept[url] = data
	return url, nil
}

func (u *urls) Get(_ context.Context, url string) ([]byte, error) {
	if data, ok := u.kept[url]; ok {
		return data, nil
	}
	return nil, im.Errorf(im.NotFound, "no such file")
}
