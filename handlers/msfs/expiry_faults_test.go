package msfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/mono"
)

// oddStore is a folder with faults.
type oddStore struct {
	*blob.Folder
	begins     []string // names after which Ages began
	beforeAges func(a blob.Age)
	fail       func(name string) error // of Delete
}

func (o *oddStore) Ages(ctx context.Context, folder, after string,
	visit func(blob.Age) error) error {
	o.begins = append(o.begins, after)
	return o.Folder.Ages(ctx, folder, after, func(a blob.Age) error {
		if o.beforeAges != nil {
			o.beforeAges(a)
		}
		return visit(a)
	})
}

func (o *oddStore) Delete(ctx context.Context, name string) error {
	if o.fail != nil {
		if err := o.fail(name); err != nil {
			return err
		}
	}
	return o.Folder.Delete(ctx, name)
}

// newOdd starts a server on an oddStore, with files that were never read.
func newOdd(t *testing.T, files int) (a *aging, odd *oddStore, names []string) {
	a = newAging(t, func(o *Options) {
		odd = &oddStore{Folder: o.Store.(*blob.Folder)}
		o.Store = odd
	})
	a.pass()
	for range files {
		names = append(names, a.put())
	}
	slices.Sort(names)
	return a, odd, names
}

// TestExpiryReadMeanwhile: a file that is read between the look at it and its deletion stays.
func TestExpiryReadMeanwhile(t *testing.T) {
	a, odd, names := newOdd(t, 2)
	odd.beforeAges = func(age blob.Age) {
		if age.Name == names[0] {
			a.read(names[0], 200)
		}
	}
	a.days(10)
	if !a.there(names[0]) || a.there(names[1]) {
		t.Errorf("read meanwhile: %v, not read: %v", a.there(names[0]), a.there(names[1]))
	}
}

// TestExpiryAfterAKill: a pass that ended in the middle continues where it was, in another
// process, and not while the first one may run.
func TestExpiryAfterAKill(t *testing.T) {
	a, odd, names := newOdd(t, 6)
	a.days(9)
	a.add(day)
	odd.beforeAges = func(age blob.Age) {
		if age.Name == names[3] {
			a.add(noteEvery) // the note is stored before this file
		}
	}
	ctx, kill := context.WithCancel(t.Context())
	odd.fail = func(name string) error {
		if name == names[4] {
			kill()
		}
		return ctx.Err()
	}
	if err := a.server.expire(ctx); err == nil {
		t.Fatal("the pass was not killed")
	}
	odd.beforeAges, odd.fail, odd.begins = nil, nil, nil
	a.add(abandoned / 2)
	a.pass()
	if len(odd.begins) > 0 || !a.there(names[4]) {
		t.Error("two passes at the same time")
	}
	a.add(abandoned / 2)
	a.pass()
	if !slices.Equal(odd.begins, []string{names[2]}) {
		t.Errorf("continued after %q, want %q", odd.begins, names[2])
	}
	if n := a.files(); n != 1 { // the note
		t.Errorf("%d files are left", n)
	}
	if s := a.state(); s.Ended.IsZero() || s.After != "" {
		t.Errorf("%+v", s)
	}
}

// TestExpiryFailures: a file that cannot be deleted does not keep the others.
func TestExpiryFailures(t *testing.T) {
	a, odd, names := newOdd(t, 5)
	odd.fail = func(name string) error {
		if name == names[1] {
			return im.Errorf(im.Unavailable, "no permission")
		}
		return nil
	}
	a.days(10)
	for i, name := range names {
		if a.there(name) != (i == 1) {
			t.Errorf("file %d stayed: %v", i, a.there(name))
		}
	}
	if n := testutil.ToFloat64(a.server.metrics.expiryFailures); n != 1 {
		t.Errorf("%v failures", n)
	}
}

// TestExpiryOfMarksAlone: a mark whose file is gone is removed. One whose file is stored while the
// list is read stays.
func TestExpiryOfMarksAlone(t *testing.T) {
	a, odd, names := newOdd(t, 2)
	for _, name := range names {
		a.read(name, 200)
		if err := os.Rename(filepath.Join(a.dir, name), filepath.Join(a.dir, "kept")); err != nil {
			t.Fatal(err)
		}
	}
	odd.beforeAges = func(age blob.Age) {
		if age.Name == names[1] {
			err := os.Rename(filepath.Join(a.dir, "kept"), filepath.Join(a.dir, names[1]))
			if err != nil {
				t.Error(err)
			}
		}
	}
	a.days(1)
	if n := a.files(); n != 3 || !a.there(names[1]) { // a file, its mark and the note
		t.Errorf("%d files", n)
	}
}

// TestExpiryPace: a pass pauses, so that it leaves the disk to clients.
func TestExpiryPace(t *testing.T) {
	a, _, names := newOdd(t, 30)
	files := len(names)
	for i := range 270 {
		name := fmt.Sprint(filepath.Dir(names[0]), "/more", i)
		if err := os.WriteFile(filepath.Join(a.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		a.stamp(name)
		files++
	}
	var paused time.Duration
	a.server.pause = func(_ context.Context, d time.Duration) error { paused += d; return nil }
	a.days(1)
	if least := time.Duration(files)*lookCost - pauseEvery; paused < least {
		t.Errorf("paused for %v, want %v", paused, least)
	}
	a.days(8)
	paused = 0
	a.days(1)
	least := time.Duration(files)*(lookCost+deleteCost) - pauseEvery
	if a.there(names[0]) || paused < least {
		t.Errorf("paused for %v while deleting, want %v", paused, least)
	}
}

// TestExpiryStepInAPass: a step of the clock during a pass lets no file expire.
func TestExpiryStepInAPass(t *testing.T) {
	var ahead atomic.Int64
	a, odd, names := newOdd(t, 3)
	a.server.opt.Now = func() time.Time {
		return mono.Step(time.Now(), time.Duration(ahead.Load()))
	}
	ahead.Store(int64(day))
	odd.beforeAges = func(blob.Age) { ahead.Add(int64(4000 * day)) }
	a.pass()
	if len(odd.begins) != 1 || a.state().Ended.IsZero() {
		t.Fatal("no pass")
	}
	for _, name := range names {
		if !a.there(name) {
			t.Errorf("%s is gone", name)
		}
	}
}

// TestExpiredPicture: the scaled forms of a picture leave the memory with it.
func TestExpiredPicture(t *testing.T) {
	a := newAging(t, func(o *Options) { o.ScaledCache = 1 << 20 })
	a.pass()
	u := a.upload("a.png", picture(t, ".png", 400, 300))
	a.stamp(u.Path)
	a.read(u.Path+"_100x100.jpg", 200)
	if a.server.scaler.keptBytes() == 0 {
		t.Fatal("no picture is cached")
	}
	a.days(31)
	a.read(u.Path+"_100x100.jpg", 404)
	if n := a.server.scaler.keptBytes(); n != 0 {
		t.Errorf("%v bytes of scaled pictures are cached", n)
	}
}
