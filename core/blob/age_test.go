package blob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
)

// agedNames are names in an order that all stores share.
var agedNames = []string{"g0/000/001/a.jpg", "g0/000/001/b.jpg", "g0/000/002/a", "g0/001/000/z"}

// storeAged stores agedNames, and a blob in another folder.
func storeAged(t *testing.T, s Store) {
	t.Helper()
	for i, name := range append([]string{"other/a"}, agedNames...) {
		data := strings.NewReader(strings.Repeat("x", i+1))
		if _, err := s.Put(t.Context(), name, data, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// ages lists the ages behind a name in the folder g0.
func ages(t *testing.T, s Ager, after string) (list []Age) {
	t.Helper()
	if err := s.Ages(t.Context(), "g0", after, func(a Age) error {
		list = append(list, a)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func namesOf(list []Age) (names []string) {
	for _, a := range list {
		names = append(names, a.Name)
	}
	return names
}

// TestAges: every blob of a folder is visited once, in order, from any name on, with its size
// and the time of its mark. Nobody can open a mark.
func TestAges(t *testing.T) {
	eachStore(t, func(t *testing.T, store Store, _ func() []string) {
		s, ctx := store.(Aged), t.Context()
		if list := ages(t, s, ""); list != nil {
			t.Errorf("of an empty store: %v", list)
		}
		storeAged(t, s)
		marked := time.Now().Truncate(time.Second)
		for range 2 {
			if err := s.Mark(ctx, agedNames[1], marked); err != nil {
				t.Fatal(err)
			}
		}
		for i := range len(agedNames) + 1 {
			after := ""
			if i > 0 {
				after = agedNames[i-1]
			}
			list := ages(t, s, after)
			if !slices.Equal(namesOf(list), agedNames[i:]) {
				t.Fatalf("after %q: %v", after, namesOf(list))
			}
			for j, a := range list {
				one, err := s.Age(ctx, a.Name)
				// Times in lists of S3 are finer, and the fake one notes them a moment later.
				if err != nil || one.Size != a.Size ||
					one.Read.Sub(a.Read).Abs() > time.Minute ||
					one.Stored.Sub(a.Stored).Abs() > time.Minute {
					t.Errorf("Age %+v, %v, in the list %+v", one, err, a)
				}
				isMarked := a.Name == agedNames[1]
				if a.Size != int64(i+j+2) || a.Stored.IsZero() || a.Read.IsZero() == isMarked ||
					isMarked && a.Read.Before(marked) {
					t.Errorf("%+v", a)
				}
			}
		}
		stop := errors.New("stop")
		if err := s.Ages(ctx, "g0", "", func(Age) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("a visit that fails: %v", err)
		}
		if _, err := s.Open(ctx, agedNames[1]+markEnd); im.KindOf(err) != im.Invalid {
			t.Errorf("Open of a mark: %v", err)
		}
		if _, err := s.Age(ctx, "g0/none"); im.KindOf(err) != im.NotFound {
			t.Errorf("Age of no blob: %v", err)
		}
		if err := s.Mark(ctx, "a!", marked); im.KindOf(err) != im.Invalid {
			t.Errorf("Mark of a bad name: %v", err)
		}
	})
}

// TestMarksLeave: Delete and Unmark remove a mark. A mark without its blob is visited.
func TestMarksLeave(t *testing.T) {
	eachStore(t, func(t *testing.T, store Store, names func() []string) {
		s, ctx := store.(Aged), t.Context()
		storeAged(t, s)
		for _, name := range agedNames {
			if err := s.Mark(ctx, name, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Unmark(ctx, agedNames[0]); err != nil {
			t.Fatal(err)
		}
		if err := s.Unmark(ctx, agedNames[0]); err != nil {
			t.Errorf("Unmark without a mark: %v", err)
		}
		if a, err := s.Age(ctx, agedNames[0]); err != nil || !a.Read.IsZero() {
			t.Errorf("after Unmark: %+v, %v", a, err)
		}
		if err := s.Delete(ctx, agedNames[1]); err != nil {
			t.Fatal(err)
		}
		if left := names(); slices.ContainsFunc(left, func(name string) bool {
			return strings.HasPrefix(name, agedNames[1])
		}) {
			t.Errorf("after Delete: %v", left)
		}
		orphan(t, s, agedNames[2])
		want := []string{agedNames[0], agedNames[2], agedNames[3]}
		list := ages(t, s, "")
		if !slices.Equal(namesOf(list), want) || !list[1].Stored.IsZero() || list[1].Read.IsZero() {
			t.Errorf("with a mark alone: %+v", list)
		}
	})
}

// orphan removes a blob and leaves its mark, as a kill between the two does.
func orphan(t *testing.T, s Aged, name string) {
	t.Helper()
	var err error
	switch s := s.(type) {
	case *Folder:
		err = s.root.Remove(name)
	case *S3:
		if err = s.Delete(t.Context(), name); err == nil {
			err = s.Mark(t.Context(), name, time.Now())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNote: the note is replaced whole, is no blob, and survives a restart.
func TestNote(t *testing.T) {
	eachStore(t, func(t *testing.T, store Store, _ func() []string) {
		s, ctx := store.(Aged), t.Context()
		if note, err := s.Note(ctx); note != nil || err != nil {
			t.Errorf("without a note: %q, %v", note, err)
		}
		for _, text := range []string{"a long note", "short"} {
			if err := s.SetNote(ctx, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if note, err := s.Note(ctx); string(note) != text || err != nil {
				t.Errorf("%q, %v, want %q", note, err, text)
			}
		}
		if _, err := s.Open(ctx, noteName); im.KindOf(err) != im.Invalid {
			t.Errorf("Open of the note: %v", err)
		}
	})
}

// TestMarksAreFree: marks and the note are neither blobs nor bytes of the quota, and what is
// deleted is given back.
func TestMarksAreFree(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	f := withQuota(t, dir, 100*block)
	f.mustCount(t, 0)
	storeAged(t, f)
	if err := errors.Join(f.Mark(ctx, agedNames[0], time.Now()),
		f.SetNote(ctx, []byte("note"))); err != nil {
		t.Fatal(err)
	}
	f.wantUsage(t, "with a mark", int64(len(agedNames)+1))
	f.Close()
	f = withQuota(t, dir, 100*block)
	f.mustCount(t, len(agedNames)+1)
	f.wantUsage(t, "after a restart", int64(len(agedNames)+1))
	if err := f.Delete(ctx, agedNames[0]); err != nil {
		t.Fatal(err)
	}
	f.wantUsage(t, "after Delete", int64(len(agedNames)))
	if err := f.Mark(ctx, agedNames[0], time.Now()); im.KindOf(err) != im.NotFound {
		t.Errorf("Mark of a deleted blob: %v", err)
	}
}

// TestViewFolder: a view changes nothing, also while another process writes a blob.
func TestViewFolder(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFolder(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	storeAged(t, f)
	half := filepath.Join(dir, tmpDir, "half")
	if err := os.WriteFile(half, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	view, err := ViewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if list := ages(t, view, ""); len(list) != len(agedNames) {
		t.Errorf("%d blobs", len(list))
	}
	if _, err := os.Stat(half); err != nil {
		t.Errorf("the half-written file: %v", err)
	}
	if _, err := ViewFolder(filepath.Join(dir, "none")); err == nil {
		t.Error("a view of no folder")
	}
}

// TestAgesInAnyOrderOfNames: names that sort differently as texts and as paths are visited
// once, wherever a walk begins.
func TestAgesInAnyOrderOfNames(t *testing.T) {
	eachStore(t, func(t *testing.T, store Store, _ func() []string) {
		s, ctx := store.(Aged), context.WithoutCancel(t.Context())
		var names []string
		for _, dir := range []string{"a", "a-b", "a.b", "a_b", "ab", "a-"} {
			for _, file := range []string{"x", "x-", "x.y", "x_10x10.jpg", "xy", "-"} {
				names = append(names, fmt.Sprintf("g0/%s/%s", dir, file))
			}
		}
		for i, name := range names {
			if _, err := s.Put(ctx, name, strings.NewReader("x"), ""); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				if err := s.Mark(ctx, name, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		all := ages(t, s, "")
		if len(all) != len(names) {
			t.Fatalf("%d of %d blobs: %q", len(all), len(names), namesOf(all))
		}
		for i, a := range all {
			if at := slices.Index(names, a.Name); a.Read.IsZero() != (at%2 == 1) {
				t.Errorf("%+v", a)
			}
			if i%5 != 0 {
				continue
			}
			if rest := ages(t, s, a.Name); !slices.Equal(namesOf(rest), namesOf(all[i+1:])) {
				t.Errorf("after %s: %q", a.Name, namesOf(rest))
			}
		}
	})
}
