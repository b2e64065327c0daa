package spool

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/opt/opttest"
)

// clock is a time that changes only by add.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func mustOpen(t *testing.T, opt Options) *Spool {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	s, err := Open(filled(opt))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, what string, err error, kind im.Kind) {
	t.Helper()
	if err == nil || im.KindOf(err) != kind {
		t.Errorf("%s: %v, want an error of kind %v", what, err, kind)
	}
}

const id = "6bd466b8-85bd-4ec3-94a6-01886865f3e0"

func idOf(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

func file(size int) Info {
	return Info{ID: id, From: 7, To: 8, Name: "r\x80port \"1\".pdf", Size: uint32(size),
		Created: time.Unix(1795412926, 0)}
}

// names returns the folder's files without the lock.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var list []string
	for _, e := range entries {
		if e.Name() != "lock" {
			list = append(list, strings.TrimPrefix(e.Name(), id))
		}
	}
	return list
}

// story is the life of one file in a spool, told in order by TestFileFromUploadToDelete.
type story struct {
	dir     string
	s       *Spool
	content []byte
	info    Info
}

// restart closes the spool and opens its folder again.
func (st *story) restart(t *testing.T) {
	t.Helper()
	must(t, st.s.Close())
	var err error
	st.s, err = Open(filled(Options{Dir: st.dir}))
	must(t, err)
}

func TestFileFromUploadToDelete(t *testing.T) {
	dir, content := t.TempDir(), bytes.Repeat([]byte("0123456789"), 1000)
	st := &story{dir: dir, content: content, info: file(len(content)),
		s: mustOpen(t, Options{Dir: dir})}
	t.Cleanup(func() { st.s.Close() })
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"an upload appends in order", st.upload},
		{"an unfinished file is not served", st.unfinished},
		{"a folder has one spool", st.lock},
		{"an upload continues after a restart", st.resume},
		{"a whole file is served", st.serve},
		{"a fetched file is still served", st.fetch},
		{"nothing is left of a deleted file", st.remove},
		{"a closed spool refuses", st.close},
	} {
		if !t.Run(step.name, step.run) {
			t.FailNow()
		}
	}
}

// upload appends the first 4,000 bytes.
func (st *story) upload(t *testing.T) {
	must(t, st.s.Create(st.info))
	wantKind(t, "a second file of that id", st.s.Create(st.info), im.Exists)
	if at, err := st.s.Resume(id); at != 0 || err != nil {
		t.Errorf("Resume of a new file: %d, %v", at, err)
	}
	must(t, st.s.Append(id, 0, st.content[:4000]))
	wantKind(t, "bytes that the file has", st.s.Append(id, 0, st.content[:4000]), im.Invalid)
	wantKind(t, "bytes behind a hole", st.s.Append(id, 4001, st.content[:10]), im.Invalid)
	wantKind(t, "more bytes than announced", st.s.Append(id, 4000, st.content[:6001]), im.Invalid)
}

// unfinished reads the file before its end.
func (st *story) unfinished(t *testing.T) {
	wantKind(t, "Finish too early", st.s.Finish(id), im.Invalid)
	wantKind(t, "Read too early", st.s.Read(id, 0, make([]byte, 10)), im.NotFound)
	wantKind(t, "MarkFetched too early", st.s.MarkFetched(id), im.NotFound)
}

// lock opens the folder twice.
func (st *story) lock(t *testing.T) {
	if _, err := Open(filled(Options{Dir: st.dir})); err == nil {
		t.Error("two spools opened one folder")
	}
}

// resume uploads the rest after a restart.
func (st *story) resume(t *testing.T) {
	st.restart(t)
	if got, state, ok := st.s.Lookup(id); !ok || state != Unfinished || got != st.info {
		t.Fatalf("Lookup: %+v, %v, %v", got, state, ok)
	}
	at, err := st.s.Resume(id)
	if at != 4000 || err != nil {
		t.Fatalf("Resume: %d, %v", at, err)
	}
	must(t, st.s.Append(id, at, st.content[at:]))
	must(t, st.s.Finish(id))
	must(t, st.s.Finish(id))
	wantKind(t, "Append to a whole file", st.s.Append(id, 10000, nil), im.NotFound)
	_, err = st.s.Resume(id)
	wantKind(t, "Resume of a whole file", err, im.NotFound)
}

// serve reads the whole file after a restart.
func (st *story) serve(t *testing.T) {
	st.restart(t)
	got := make([]byte, len(st.content))
	must(t, st.s.Read(id, 0, got[:5000]))
	must(t, st.s.Read(id, 5000, got[5000:]))
	if !bytes.Equal(got, st.content) {
		t.Error("Read returned other bytes than were appended")
	}
	wantKind(t, "Read behind the end", st.s.Read(id, 9999, make([]byte, 2)), im.Invalid)
	wantKind(t, "Read before the beginning", st.s.Read(id, -1, make([]byte, 2)), im.Invalid)
}

// fetch marks the file as fetched.
func (st *story) fetch(t *testing.T) {
	must(t, st.s.MarkFetched(id))
	st.restart(t)
	if _, state, _ := st.s.Lookup(id); state != Fetched {
		t.Errorf("state %v after MarkFetched and a restart", state)
	}
	must(t, st.s.Read(id, 0, make([]byte, len(st.content))))
}

// remove deletes the file.
func (st *story) remove(t *testing.T) {
	must(t, st.s.Delete(id))
	wantKind(t, "Delete again", st.s.Delete(id), im.NotFound)
	if files, n := st.s.Usage(); files != 0 || n != 0 || len(names(t, st.dir)) > 0 ||
		st.s.unwritten != 0 || len(st.s.users) > 0 {
		t.Errorf("left: %d files, %d bytes, %v, %d unwritten, %v", files, n, names(t, st.dir),
			st.s.unwritten, st.s.users)
	}
}

// close closes the spool.
func (st *story) close(t *testing.T) {
	must(t, st.s.Close())
	wantKind(t, "Create after Close", st.s.Create(st.info), im.Closed)
	wantKind(t, "Append after Close", st.s.Append(id, 0, nil), im.Closed)
}

func TestEmptyFileBecomesWhole(t *testing.T) {
	s := mustOpen(t, Options{})
	must(t, s.Create(file(0)))
	must(t, s.Finish(id))
	must(t, s.Read(id, 0, nil))
	if _, state, _ := s.Lookup(id); state != Waiting {
		t.Errorf("state %v", state)
	}
}

// TestOnlyUUIDsBecomeFileNames uses ids that would lead elsewhere on the disk.
func TestOnlyUUIDsBecomeFileNames(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: filepath.Join(dir, "spool")})
	for _, bad := range []string{"", ".", "..", "../x", "/etc/passwd", strings.ToUpper(id),
		id + "x", id[:35], "6bd466b8/85bd-4ec3-94a6-01886865f3e0",
		"6bd466b8-85bd-4ec3-94a6-0188686../..",
		"../../../../../../../../etc/passwd00", id[:35] + "\x00", strings.Repeat("a", 100_000)} {
		info := file(1)
		info.ID = bad
		wantKind(t, fmt.Sprintf("Create %.40q", bad), s.Create(info), im.Invalid)
		if _, _, ok := s.Lookup(bad); ok {
			t.Errorf("Lookup %q finds something", bad)
		}
		wantKind(t, "Read", s.Read(bad, 0, nil), im.NotFound)
		wantKind(t, "Delete", s.Delete(bad), im.NotFound)
		wantKind(t, "Append", s.Append(bad, 0, nil), im.NotFound)
	}
	for _, bad := range []string{"", strings.Repeat("n", maxName+1)} {
		info := file(1)
		info.Name = bad
		wantKind(t, "Create with a name out of range", s.Create(info), im.Invalid)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"spool"}) {
		t.Errorf("files beside the spool: %v", got)
	}
}

func TestBoundsOfSendersAndSpool(t *testing.T) {
	c := &clock{now: time.Now()}
	s := mustOpen(t, Options{Quota: 1000, MaxFiles: 5, MaxUserFiles: 3, Now: c.Now})
	create := func(n int, from uint32, size int) error {
		info := file(size)
		info.ID, info.From = idOf(n), from
		return s.Create(info)
	}
	must(t, create(1, 1, 600))
	wantKind(t, "beyond the quota", create(2, 1, 401), im.Busy)
	must(t, create(2, 1, 400))
	must(t, create(3, 1, 0))
	wantKind(t, "beyond the user's number of files", create(4, 1, 0), im.Busy)
	must(t, create(4, 2, 1000))
	must(t, s.Append(idOf(4), 0, make([]byte, 1000)))
	must(t, s.Finish(idOf(4)))
	wantKind(t, "beyond the quota with a file that waits", create(5, 2, 1), im.Busy)
	must(t, s.MarkFetched(idOf(4)))
	must(t, create(5, 2, 1000))
	wantKind(t, "beyond the number of files", create(6, 3, 1), im.Busy)
	must(t, s.Delete(idOf(1)))
	must(t, create(6, 1, 600))
	wantKind(t, "beyond the quota again", create(7, 1, 1), im.Busy)
}

func TestFreeSpaceIsReserved(t *testing.T) {
	dir := t.TempDir()
	free, err := freeBytes(dir)
	must(t, err)
	s := mustOpen(t, Options{Dir: dir, MinFree: free - 1<<30, Quota: 1 << 62})
	info := file(1 << 31)
	wantKind(t, "a file that the disk has no room for", s.Create(info), im.Busy)
	info.Size = 600 << 20
	must(t, s.Create(info))
	info.ID = idOf(2)
	wantKind(t, "a second, while the first is not written", s.Create(info), im.Busy)
	must(t, s.Ping(context.Background()))
	must(t, s.Close())
	s = mustOpen(t, Options{Dir: dir, MinFree: 1 << 62})
	wantKind(t, "Ping with a full disk", s.Ping(context.Background()), im.Busy)
}

func TestSweepRemovesExpiredFiles(t *testing.T) {
	c := &clock{now: time.Now()}
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir, Now: c.Now})
	content := make([]byte, 100)
	for n := range 3 {
		info := file(len(content))
		info.ID = idOf(n)
		must(t, s.Create(info))
		must(t, s.Append(info.ID, 0, content[:50]))
	}
	for _, n := range []int{1, 2} {
		must(t, s.Append(idOf(n), 50, content[50:]))
		must(t, s.Finish(idOf(n)))
	}
	must(t, s.MarkFetched(idOf(2)))
	left := func() string {
		list := ""
		for n := range 3 {
			if _, _, ok := s.Lookup(idOf(n)); ok {
				list += fmt.Sprint(n)
			}
		}
		return list
	}
	const day = 24 * time.Hour
	for _, step := range []struct {
		after time.Duration
		n     int
		left  string
	}{{day - time.Second, 0, "012"}, {time.Second, 1, "01"}, {6*day - time.Second, 0, "01"},
		{time.Second, 1, "1"}, {23*day - time.Second, 0, "1"}, {time.Second, 1, ""}} {
		c.add(step.after)
		n, err := s.Sweep(context.Background())
		if n != step.n || err != nil || left() != step.left {
			t.Errorf("after %s more: %d removed, %v; left %s, want %s", step.after, n, err, left(),
				step.left)
		}
	}
	if list := names(t, dir); len(list) > 0 {
		t.Errorf("left on the disk: %v", list)
	}
}

// TestDamagedFilesAreSetAside checks that a damaged file is not served, and is removed
// after a month.
func TestDamagedFilesAreSetAside(t *testing.T) {
	content := []byte("hello")
	for what, spoil := range map[string]func(dir string) error{
		"meta": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, id+extMeta), []byte("{"), 0o600)
		},
		"another meta": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, id+extMeta),
				formatMeta(Info{ID: idOf(1), Name: "x"}), 0o600)
		},
		"data": func(dir string) error { return os.Truncate(filepath.Join(dir, id+extData), 4) },
	} {
		t.Run(what, func(t *testing.T) {
			dir, c := t.TempDir(), &clock{now: time.Now()}
			s := mustOpen(t, Options{Dir: dir})
			must(t, s.Create(file(len(content))))
			must(t, s.Append(id, 0, content))
			must(t, s.Finish(id))
			must(t, s.Close())
			must(t, spoil(dir))
			for range 2 {
				s = mustOpen(t, Options{Dir: dir, Now: c.Now})
				if _, _, ok := s.Lookup(id); ok {
					t.Error("the damaged file is served")
				}
				if got := names(t, dir); !slices.Equal(got, []string{extBad, extData}) {
					t.Errorf("the folder has %v", got)
				}
				must(t, s.Close())
			}
			c.add(31 * 24 * time.Hour)
			mustOpen(t, Options{Dir: dir, Now: c.Now})
			if got := names(t, dir); len(got) > 0 {
				t.Errorf("after a month the folder has %v", got)
			}
		})
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(formatMeta(file(99538)))
	f.Add([]byte(`{"version":1,"id":"../../etc/passwd","name":"eA==","size":1}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := parseMeta(b)
		if err != nil {
			return
		}
		if !validID(info.ID) || info.Name == "" || len(info.Name) > maxName {
			t.Fatalf("taken: %+v", info)
		}
		if again, err := parseMeta(formatMeta(info)); err != nil || again != info {
			t.Fatalf("%+v becomes %+v, %v", info, again, err)
		}
	})
}

// TestWaitingReturnsFilesFinishedBefore checks Waiting before and after a restart.
func TestWaitingReturnsFilesFinishedBefore(t *testing.T) {
	time0 := time.Now().Truncate(time.Second)
	now := &clock{now: time0}
	opt := Options{Dir: t.TempDir(), Now: now.Now}
	s := mustOpen(t, opt)
	for i := range 4 {
		info := file(1)
		info.ID = idOf(i)
		must(t, s.Create(info))
		if i > 0 {
			must(t, s.Append(info.ID, 0, []byte("x")))
			must(t, s.Finish(info.ID))
		}
	}
	must(t, s.MarkFetched(idOf(2)))
	must(t, s.Delete(idOf(3)))
	want := func(what string, before time.Time, ids ...string) {
		t.Helper()
		var got []string
		for _, info := range s.Waiting(before) {
			got = append(got, info.ID)
			if info.From != 7 || info.To != 8 || info.Size != 1 {
				t.Errorf("%s: %+v", what, info)
			}
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%s: Waiting returned %v, want %v", what, got, ids)
		}
	}
	want("before", time0)
	want("just now", time0.Add(1), idOf(1))
	must(t, s.Close())
	s = mustOpen(t, opt)
	want("opened again", time.Now().Add(time.Hour), idOf(1))
	want("long ago", time0.Add(-time.Hour))
}

// filled returns opt with the defaults of the settings in place of missing values.
func filled(opt Options) Options {
	c := config.Default().File
	return opttest.Fill(opt, Options{
		Quota: int64(c.Quota), MaxFiles: c.MaxTasks, MaxUserFiles: c.MaxUserTasks,
		KeepUnfinished: c.KeepUnfinished, KeepWaiting: c.KeepWaiting, KeepFetched: c.KeepFetched,
	})
}

// TestID: a folder keeps its id, and another folder has another one.
func TestID(t *testing.T) {
	dir := t.TempDir()
	first := mustOpen(t, Options{Dir: dir})
	id := first.ID()
	must(t, first.Close())
	if again := mustOpen(t, Options{Dir: dir}).ID(); again != id || id == [16]byte{} {
		t.Errorf("id %x, then %x", id, again)
	}
	if other := mustOpen(t, Options{}).ID(); other == id {
		t.Errorf("two folders with the id %x", id)
	}
}
