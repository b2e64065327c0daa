package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/im"
)

// withQuota opens a folder with a quota, which is not counted yet.
func withQuota(t *testing.T, dir string, quota int64) *Folder {
	t.Helper()
	f, err := OpenFolder(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	f.SetQuota(quota)
	return f
}

func (f *Folder) mustCount(t *testing.T, blobs int) {
	t.Helper()
	if n, err := f.Count(t.Context()); n != blobs || err != nil {
		t.Fatalf("counted %d blobs, %v, want %d", n, err, blobs)
	}
}

func (f *Folder) wantUsage(t *testing.T, when string, blocks int64) {
	t.Helper()
	if u := f.Usage(); u.Bytes != blocks*block {
		t.Errorf("%s: usage of %d bytes, want %d blocks", when, u.Bytes, blocks)
	}
}

// TestQuota stores blobs until the quota is used up, and then again after a restart and a
// deletion.
func TestQuota(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	f := withQuota(t, dir, 3*block)
	f.mustCount(t, 0)
	put := func(name string, size int) error {
		_, err := f.Put(ctx, name, strings.NewReader(strings.Repeat("x", size)), "")
		return err
	}
	for name, size := range map[string]int{"g0/a": 1, "g0/b": block + 1} {
		if err := put(name, size); err != nil {
			t.Fatal(err)
		}
	}
	full := func(when string, err error) {
		t.Helper()
		if !errors.Is(err, ErrQuota) || im.KindOf(err) != im.Busy {
			t.Errorf("%s: %v", when, err)
		}
	}
	full("with the quota used up", put("g0/c", 1))
	f.wantUsage(t, "after a refusal", 3)
	if _, err := f.Put(ctx, "g0/a", strings.NewReader("x"), ""); !errors.Is(err, ErrQuota) {
		t.Errorf("a name that exists, with the quota used up: %v", err)
	}
	f.Close()

	f = withQuota(t, dir, 3*block)
	f.mustCount(t, 2)
	f.wantUsage(t, "after a restart", 3)
	full("after a restart", put("g0/c", 1))
	for range 2 { // the second has no effect
		if err := f.Delete(ctx, "g0/a"); err != nil {
			t.Fatal(err)
		}
	}
	f.wantUsage(t, "after Delete", 2)
	full("a blob larger than the rest", put("g0/c", block+1))
	if err := put("g0/c", block); err != nil {
		t.Errorf("a blob as large as the rest: %v", err)
	}
	if names := filesBelow(t, dir); len(names) != 2 {
		t.Errorf("files: %v", names)
	}
}

// TestQuotaOfFailedPuts: a reader that fails and a name that exists cost nothing.
func TestQuotaOfFailedPuts(t *testing.T) {
	f := withQuota(t, t.TempDir(), 10*block)
	f.mustCount(t, 0)
	if _, err := f.Put(t.Context(), "a", strings.NewReader("x"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(t.Context(), "a", strings.NewReader("y"), ""); im.KindOf(err) != im.Exists {
		t.Errorf("a second Put: %v", err)
	}
	broken := errors.New("broken")
	half := io.MultiReader(strings.NewReader(strings.Repeat("x", 2*block)), failing{broken})
	if _, err := f.Put(t.Context(), "b", half, ""); !errors.Is(err, broken) {
		t.Errorf("a failing reader: %v", err)
	}
	f.wantUsage(t, "after failures", 1)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestCountWhileStoring: blobs that are stored before and during the count are counted once,
// and Delete waits for the end of the count.
func TestCountWhileStoring(t *testing.T) {
	const old, threads, each = 200, 4, 50
	dir := t.TempDir()
	for i := range old {
		path := filepath.Join(dir, "g0", fmt.Sprint(i%10), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := withQuota(t, dir, 1<<30)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Delete(ended, "g0/1/1"); im.KindOf(err) != im.Busy {
		t.Errorf("Delete before the count: %v", err)
	}
	if _, err := f.Put(t.Context(), "g0/3/first", strings.NewReader("x"), ""); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for thread := range threads {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("g0/%d/%d-%d", i%10, thread, i)
				if _, err := f.Put(t.Context(), name, strings.NewReader("x"), ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	deleted := make(chan error, 1)
	go func() { deleted <- f.Delete(t.Context(), "g0/1/1") }()
	if _, err := f.Count(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := <-deleted; err != nil {
		t.Error(err)
	}
	f.wantUsage(t, "after all", old+1+threads*each-1)
}

// TestCountEndsWithItsContext: a count that is cut off lets the folder work.
func TestCountEndsWithItsContext(t *testing.T) {
	f := withQuota(t, t.TempDir(), 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Count(ctx); err == nil {
		t.Error("no error")
	}
	if err := f.Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}
