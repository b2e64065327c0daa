package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"teamtalk/core/im"
)

// stores returns the stores under test. names lists the blobs of a store.
func stores(t *testing.T) map[string]func(t *testing.T) (s Store, names func() []string) {
	t.Helper()
	return map[string]func(t *testing.T) (Store, func() []string){
		"folder": func(t *testing.T) (Store, func() []string) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			f, err := OpenFolder(dir, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f, func() []string { return filesBelow(t, dir) }
		},
		"s3": func(t *testing.T) (Store, func() []string) {
			backend := s3mem.New()
			if err := backend.CreateBucket("files"); err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewTLSServer(gofakes3.New(backend).Server())
			t.Cleanup(srv.Close)
			s, err := OpenS3(S3Options{Endpoint: strings.TrimPrefix(srv.URL, "https://"),
				Secure: true, Transport: srv.Client().Transport, Region: "us-east-1",
				Bucket: "files", Prefix: "tt", AccessKey: "key", SecretKey: "secret"})
			if err != nil {
				t.Fatal(err)
			}
			return s, func() []string {
				list, err := backend.ListBucket("files", nil, gofakes3.ListBucketPage{})
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, o := range list.Contents {
					names = append(names, strings.TrimPrefix(o.Key, "tt/"))
				}
				return names
			}
		},
	}
}

func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, p)
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestStores(t *testing.T) {
	ctx := context.Background()
	large := make([]byte, 2*partSize+12345) // three parts
	_, _ = rand.Read(large)
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			s, names := open(t)
			if err := s.Ping(ctx); err != nil {
				t.Fatal(err)
			}
			for name, data := range map[string][]byte{"g0/000/001/a.jpg": []byte("picture"),
				"large": large} {
				n, err := s.Put(ctx, name, bytes.NewReader(data), "image/jpeg")
				if err != nil || n != int64(len(data)) {
					t.Fatalf("Put %s: %d, %v", name, n, err)
				}
				b, err := s.Open(ctx, name)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(b)
				if err != nil || !bytes.Equal(got, data) || b.Size != int64(len(data)) {
					t.Errorf("%s: %d bytes (Size %d), %v, want %d", name, len(got), b.Size, err,
						len(data))
				}
				if len(b.ETag) < 3 || b.ETag[0] != '"' || b.Modified.IsZero() {
					t.Errorf("%s: ETag %s, modified %v", name, b.ETag, b.Modified)
				}
				if len(data) > 5 {
					if _, err := b.Seek(3, io.SeekStart); err != nil {
						t.Fatal(err)
					}
					two := make([]byte, 2)
					if _, err := io.ReadFull(b, two); err != nil || !bytes.Equal(two, data[3:5]) {
						t.Errorf("after Seek: %q, %v", two, err)
					}
				}
				b.Close()
			}
			for range 2 { // the second Delete finds no blob
				if err := s.Delete(ctx, "large"); err != nil {
					t.Error(err)
				}
			}
			if _, err := s.Open(ctx, "large"); im.KindOf(err) != im.NotFound {
				t.Errorf("Open of a deleted blob: %v", err)
			}
			if _, err := s.Open(ctx, "g0/000"); im.KindOf(err) != im.NotFound {
				t.Errorf("Open of a folder: %v", err)
			}

			// A failed Put leaves nothing behind.
			before := len(names())
			broken := errors.New("connection lost")
			if _, err := s.Put(ctx, "g0/empty", strings.NewReader(""),
				""); im.KindOf(err) != im.Invalid {
				t.Errorf("Put of an empty blob: %v", err)
			}
			for _, size := range []int{0, 10, partSize + 10} {
				r := io.MultiReader(bytes.NewReader(large[:size]), iotest.ErrReader(broken))
				if _, err := s.Put(ctx, "g0/broken", r, ""); !errors.Is(err, broken) {
					t.Errorf("Put of a broken stream of %d bytes: %v", size, err)
				}
			}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			if _, err := s.Put(ended, "g0/ended", strings.NewReader("x"), ""); !errors.Is(err,
				context.Canceled) {
				t.Errorf("Put with an ended context: %v", err)
			}
			if after := names(); len(after) != before {
				t.Errorf("failed Puts left %v behind", after)
			}
			for _, bad := range []string{"", "/etc/passwd", "../x", "a/../../x", "a//b", ".tmp/x",
				"a/.x", `a\b`, "a\x00", "ä", "a b", strings.Repeat("x", maxName+1)} {
				if _, err := s.Put(ctx, bad, strings.NewReader("x"),
					""); im.KindOf(err) != im.Invalid {
					t.Errorf("Put %q: %v", bad, err)
				}
				if _, err := s.Open(ctx, bad); im.KindOf(err) != im.Invalid {
					t.Errorf("Open %q: %v", bad, err)
				}
				if err := s.Delete(ctx, bad); im.KindOf(err) != im.Invalid {
					t.Errorf("Delete %q: %v", bad, err)
				}
			}
		})
	}
}

// TestFolderRemovesHalfWrittenFilesAtStart leaves half a file in .tmp, as a killed
// process does.
func TestFolderRemovesHalfWrittenFilesAtStart(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	f, err := OpenFolder(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(ctx, "a/b", strings.NewReader("x"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(ctx, "a/b", strings.NewReader("y"), ""); im.KindOf(err) != im.Exists {
		t.Errorf("a second Put: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, tmpDir, "half"), []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if f, err = OpenFolder(dir, 0); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if names := filesBelow(t, dir); len(names) != 1 || names[0] != "a/b" {
		t.Errorf("after a restart: %v", names)
	}
}

func TestFolderFollowsNoLinkOut(t *testing.T) {
	ctx, dir, outside := context.Background(), t.TempDir(), t.TempDir()
	f, err := OpenFolder(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	if b, err := f.Open(ctx, "link/secret"); err == nil {
		b.Close()
		t.Error("Open followed a link that leads out of the folder")
	}
	if _, err := f.Put(ctx, "link/x", strings.NewReader("x"), ""); err == nil {
		t.Error("Put followed a link that leads out of the folder")
	}
	if names := filesBelow(t, outside); len(names) != 1 {
		t.Errorf("outside: %v", names)
	}
}

func TestFolderKeepsFreeSpace(t *testing.T) {
	f, err := OpenFolder(t.TempDir(), 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Put(context.Background(), "a", strings.NewReader("x"),
		""); im.KindOf(err) != im.Busy {
		t.Errorf("Put on a full disk: %v", err)
	}
	if err := f.Ping(context.Background()); im.KindOf(err) != im.Busy {
		t.Errorf("Ping on a full disk: %v", err)
	}
}
