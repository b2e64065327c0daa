package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

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

// eachStore runs a test on every store.
func eachStore(t *testing.T, test func(t *testing.T, s Store, names func() []string)) {
	t.Helper()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			s, names := open(t)
			test(t, s, names)
		})
	}
}

// largeBlob has three parts on S3.
func largeBlob() []byte {
	large := make([]byte, 2*partSize+12345)
	_, _ = rand.Read(large)
	return large
}

// wantInvalid fails unless err is of kind Invalid.
func wantInvalid(t *testing.T, what string, err error) {
	t.Helper()
	if im.KindOf(err) != im.Invalid {
		t.Errorf("%s: %v, want an error of kind Invalid", what, err)
	}
}

func TestStoresReturnWhatWasPut(t *testing.T) {
	blobs := map[string][]byte{"g0/000/001/a.jpg": []byte("picture"), "large": largeBlob()}
	eachStore(t, func(t *testing.T, s Store, _ func() []string) {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, data := range blobs {
			n, err := s.Put(t.Context(), name, bytes.NewReader(data), "image/jpeg")
			if err != nil || n != int64(len(data)) {
				t.Fatalf("Put %s: %d, %v", name, n, err)
			}
			b, err := s.Open(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			got, err := io.ReadAll(b)
			if err != nil || !bytes.Equal(got, data) || b.Size != int64(len(data)) {
				t.Errorf("%s: %d bytes (Size %d), %v, want %d", name, len(got), b.Size, err,
					len(data))
			}
			if len(b.ETag) < 3 || b.ETag[0] != '"' || b.Modified.IsZero() {
				t.Errorf("%s: ETag %s, modified %v", name, b.ETag, b.Modified)
			}
			if _, err := b.Seek(3, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			two := make([]byte, 2)
			if _, err := io.ReadFull(b, two); err != nil || !bytes.Equal(two, data[3:5]) {
				t.Errorf("%s after Seek: %q, %v", name, two, err)
			}
		}
	})
}

func TestStoresDelete(t *testing.T) {
	eachStore(t, func(t *testing.T, s Store, names func() []string) {
		if _, err := s.Put(t.Context(), "g0/000/a", strings.NewReader("x"), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(t.Context(), "g0/000"); im.KindOf(err) != im.NotFound {
			t.Errorf("Open of a folder: %v, want an error of kind NotFound", err)
		}
		for range 2 { // the second Delete finds no blob
			if err := s.Delete(t.Context(), "g0/000/a"); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.Open(t.Context(), "g0/000/a"); im.KindOf(err) != im.NotFound {
			t.Errorf("Open of a deleted blob: %v, want an error of kind NotFound", err)
		}
		if left := names(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func TestFailedPutLeavesNothing(t *testing.T) {
	large := largeBlob()
	eachStore(t, func(t *testing.T, s Store, names func() []string) {
		_, err := s.Put(t.Context(), "g0/empty", strings.NewReader(""), "")
		wantInvalid(t, "Put of an empty blob", err)
		broken := errors.New("connection lost")
		for _, size := range []int{0, 10, partSize + 10} {
			r := io.MultiReader(bytes.NewReader(large[:size]), iotest.ErrReader(broken))
			if _, err := s.Put(t.Context(), "g0/broken", r, ""); !errors.Is(err, broken) {
				t.Errorf("Put of a broken stream of %d bytes: %v", size, err)
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Put(ended, "g0/ended", strings.NewReader("x"), "")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Put with an ended context: %v", err)
		}
		if left := names(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func TestStoresRefuseBadNames(t *testing.T) {
	eachStore(t, func(t *testing.T, s Store, _ func() []string) {
		for _, bad := range []string{"", "/etc/passwd", "../x", "a/../../x", "a//b", ".tmp/x",
			"a/.x", `a\b`, "a\x00", "ä", "a b", strings.Repeat("x", maxName+1)} {
			_, err := s.Put(t.Context(), bad, strings.NewReader("x"), "")
			wantInvalid(t, "Put "+bad, err)
			_, err = s.Open(t.Context(), bad)
			wantInvalid(t, "Open "+bad, err)
			wantInvalid(t, "Delete "+bad, s.Delete(t.Context(), bad))
		}
	})
}

// TestFolderRemovesHalfWrittenFilesAtStart leaves half a file in .tmp, as a killed
// process does, and one that another process is writing.
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
	half := filepath.Join(dir, tmpDir, "half")
	for _, name := range []string{half, filepath.Join(dir, tmpDir, "written")} {
		if err := os.WriteFile(name, []byte("ha"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(half, old, old); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if f, err = OpenFolder(dir, 0); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if names := filesBelow(t, dir); !slices.Equal(names, []string{".tmp/written", "a/b"}) {
		t.Errorf("after a restart: %v", names)
	}
}

// TestFoldersOpenAtOnce: processes that start at the same time may use one directory, and none
// removes what another is writing.
func TestFoldersOpenAtOnce(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			f, err := OpenFolder(dir, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			_, err = f.Put(t.Context(), fmt.Sprint("a/", i), strings.NewReader("x"), "")
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if names := filesBelow(t, dir); len(names) != 20 {
		t.Errorf("%d blobs: %v", len(names), names)
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
