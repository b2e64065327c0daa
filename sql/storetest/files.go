package storetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"teamtalk/core/im"
)

// fileFixture has the helpers for files that wait for their receivers.
type fileFixture struct{ *base }

var fileTests = []test{
	{"every field comes back", everyFileField},
	{"invalid ones", filesInvalid},
	{"added twice", fileTwice},
	{"deleted", fileDeleted},
	{"of others", filesOfOthers},
	{"in order and bounded", filesInOrder},
	{"too many between two", filesBetween},
	{"expire", filesExpire},
	{"survive reopen", filesSurvive},
	{"two processes", filesShared},
	{"added at the same time", fileRace},
	{"cancelled before", filesCancelled},
	{"of all users, in pages, then expired", filesInPages},
	{"state", fileState},
	{"forgotten", fileForgotten}, {"forgotten by one spool", fileFenced},
	{"invalid owners", fileOwners},
}

// task returns the n-th task id.
func task(n int) string { return fmt.Sprintf("6bd466b8-85bd-4ec3-94a6-%012d", n) }

// addFile adds a file to its receiver's list.
func (f fileFixture) addFile(from, to uint32, task string) {
	f.Helper()
	f.check("AddOfflineFile", f.s.AddOfflineFile(f.ctx, fileOf(pair{from, to}, task)))
}

// fileOf returns a file from one user to another.
func fileOf(p pair, task string) im.OfflineFile {
	return im.OfflineFile{From: p.from, To: p.to, Task: task, Name: "a.pdf", Size: 5}
}

// wantFiles checks the files that wait for a user, and returns them.
func (f fileFixture) wantFiles(what string, to uint32, tasks ...string) []im.OfflineFile {
	f.Helper()
	list, err := f.s.OfflineFiles(f.ctx, to)
	f.check(what, err)
	var got []string
	for _, o := range list {
		got = append(got, o.Task)
	}
	if !slices.Equal(got, tasks) {
		f.Errorf("%s: transfers %v, want %v", what, got, tasks)
	}
	return list
}

func everyFileField(f *fixture) {
	u := f.users(3)
	want := []im.OfflineFile{
		{From: u[0], To: u[1], Task: task(1), Name: "报告 \U0001f4c4 'final'; \\ / ..\x00 ",
			Size: math.MaxUint32},
		{From: u[2], To: u[1], Task: strings.Repeat("Az9-", im.MaxTaskID/4),
			Name: strings.Repeat("漢", im.MaxFileName), Size: 0},
		{From: u[1], To: u[1], Task: "1", Name: "to another device", Size: 1},
	}
	before := f.now()
	for _, o := range want {
		o.Created = 1 // must be ignored
		f.check("AddOfflineFile", f.s.AddOfflineFile(f.ctx, o))
	}
	for range 2 {
		got := f.wantFiles("all", u[1], want[0].Task, want[1].Task, want[2].Task)
		for i, o := range got {
			if o.Created < before || o.Created > f.now() {
				f.Errorf("created %d, not within %d … %d", o.Created, before, f.now())
			}
			if o.Created = 0; i < len(want) && o != want[i] {
				f.Errorf("got %+v, want %+v", o, want[i])
			}
		}
		f.wantFiles("of a sender", u[0])
		f.wantFiles("of nobody", 0)
		f.reopen()
	}
}

func filesInvalid(f *fixture) {
	u := f.users(3)
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, u[2], im.StatusDeparted))
	for name, spoil := range map[string]func(*im.OfflineFile){
		"no name": func(o *im.OfflineFile) { o.Name = "" },
		"name too long": func(o *im.OfflineFile) {
			o.Name = strings.Repeat("x", im.MaxFileName+1)
		},
		"name not UTF-8": func(o *im.OfflineFile) { o.Name = "\xff" },
		"no task":        func(o *im.OfflineFile) { o.Task = "" },
		"task too long": func(o *im.OfflineFile) {
			o.Task = strings.Repeat("x", im.MaxTaskID+1)
		},
		"task with a path":       func(o *im.OfflineFile) { o.Task = "../x" },
		"task with other digits": func(o *im.OfflineFile) { o.Task = "١" },
		"no sender":              func(o *im.OfflineFile) { o.From = 0 },
		"sender unknown":         func(o *im.OfflineFile) { o.From = u[2] + 1000 },
		"receiver unknown":       func(o *im.OfflineFile) { o.To = u[2] + 1000 },
		"receiver departed":      func(o *im.OfflineFile) { o.To = u[2] },
		"to oneself, departed":   func(o *im.OfflineFile) { o.From, o.To = u[2], u[2] },
	} {
		o := im.OfflineFile{From: u[0], To: u[1], Task: task(1), Name: "x", Size: 1}
		spoil(&o)
		f.wantKind(name, f.s.AddOfflineFile(f.ctx, o), im.Invalid)
		f.wantFiles(name, o.To)
	}
}

func fileTwice(f *fixture) {
	u := f.users(3)
	f.addFile(u[0], u[1], task(1))
	f.check("again", f.s.AddOfflineFile(f.ctx, im.OfflineFile{From: u[0], To: u[1], Task: task(1),
		Name: "other", Size: 9}))
	if got := f.wantFiles("again", u[1], task(1)); got[0].Name != "a.pdf" || got[0].Size != 5 {
		f.Errorf("changed to %+v", got[0])
	}
	// The same task with other users is another task: no user can take a task id from
	// others.
	f.addFile(u[2], u[1], task(1))
	f.addFile(u[0], u[2], task(1))
	f.wantFiles("from another", u[1], task(1), task(1))
	f.wantFiles("to another", u[2], task(1))
}

func fileDeleted(f *fixture) {
	u := f.users(2)
	f.addFile(u[0], u[1], task(1))
	f.addFile(u[0], u[1], task(2))
	for range 2 {
		f.check("DeleteOfflineFile", f.s.DeleteOfflineFile(f.ctx, u[0], u[1], task(1)))
		f.wantFiles("one deleted", u[1], task(2))
	}
	for _, none := range []string{"", task(3), "\xff", "../x", strings.Repeat("x", 1<<16)} {
		f.check("delete what is not there", f.s.DeleteOfflineFile(f.ctx, u[0], u[1], none))
	}
	f.wantFiles("nothing else deleted", u[1], task(2))
	f.addFile(u[0], u[1], task(1))
	f.wantFiles("noted once more, too late", u[1], task(2))
	f.reopen()
	f.wantFiles("reopened", u[1], task(2))
}

func filesOfOthers(f *fixture) {
	u := f.users(3)
	f.addFile(u[0], u[1], task(1))
	for _, pair := range [][2]uint32{{u[1], u[0]}, {u[2], u[1]}, {u[0], u[2]},
		{0, u[1]}, {u[0], 0}} {
		f.check("DeleteOfflineFile", f.s.DeleteOfflineFile(f.ctx, pair[0], pair[1], task(1)))
	}
	f.wantFiles("deleted by others", u[1], task(1))
}

func filesInOrder(f *fixture) {
	u := f.users(2 + im.MaxOfflineFiles/im.MaxFilesBetween)
	to := u[0]
	var want []string
	var files []im.OfflineFile
	for i := range im.MaxOfflineFiles + 1 {
		name := task(5000 - i)
		files = append(files, fileOf(pair{u[1+i%(len(u)-1)], to}, name))
		want = append(want, name)
	}
	f.addAll(files)
	f.wantFiles("the oldest", to, want[:im.MaxOfflineFiles]...)
	f.check("DeleteOfflineFile", f.s.DeleteOfflineFile(f.ctx, u[1], to, want[0]))
	f.wantFiles("one less", to, want[1:]...)
}

func filesBetween(f *fixture) {
	u := f.users(3)
	for i := range im.MaxFilesBetween {
		f.addFile(u[0], u[1], task(i))
	}
	more := im.OfflineFile{From: u[0], To: u[1], Task: task(1000), Name: "x", Size: 1}
	f.wantKind("one too many", f.s.AddOfflineFile(f.ctx, more), im.Denied)
	f.addFile(u[0], u[1], task(0)) // exists
	f.addFile(u[0], u[2], task(1000))
	f.addFile(u[2], u[1], task(1000))
	f.check("DeleteOfflineFile", f.s.DeleteOfflineFile(f.ctx, u[0], u[1], task(7)))
	f.check("room for one", f.s.AddOfflineFile(f.ctx, more))
	f.wantKind("and one too many", f.s.AddOfflineFile(f.ctx, im.OfflineFile{From: u[0], To: u[1],
		Task: task(1001), Name: "x"}), im.Denied)
}

// expire deletes the files from before a time, and checks their number.
func (f fileFixture) expire(before uint32, want int) {
	f.Helper()
	n, err := f.s.ExpireOfflineFiles(f.ctx, before)
	if err != nil || n != want {
		f.Errorf("ExpireOfflineFiles(%d): %d, %v, want %d", before, n, err, want)
	}
}

func filesExpire(f *fixture) {
	u := f.users(2)
	f.addFile(u[0], u[1], task(1))
	f.addFile(u[0], u[1], task(2))
	f.check("DeleteOfflineFile", f.s.DeleteOfflineFile(f.ctx, u[0], u[1], task(2)))
	f.advance(time.Hour)
	middle := f.now()
	f.addFile(u[0], u[1], task(3))
	f.expire(0, 0)
	f.expire(middle-3600-60, 0)
	f.wantFiles("none is so old", u[1], task(1), task(3))
	f.expire(middle, 2)
	f.wantFiles("two are older", u[1], task(3))
	f.expire(middle, 0)
	f.addFile(u[0], u[1], task(2))
	f.wantFiles("a deleted one may come again", u[1], task(3), task(2))
	f.expire(math.MaxUint32, 2)
	f.wantFiles("all", u[1])
}

func filesSurvive(f *fixture) {
	u := f.users(2)
	f.addFile(u[0], u[1], task(1))
	f.reopen()
	f.addFile(u[0], u[1], task(1))
	f.addFile(u[0], u[1], task(2))
	f.wantFiles("reopened", u[1], task(1), task(2))
}

func filesShared(f *fixture) {
	u := f.users(2)
	other := f.second()
	f.addFile(u[0], u[1], task(1))
	list, err := other.OfflineFiles(f.ctx, u[1])
	if err != nil || len(list) != 1 {
		f.Fatalf("the other process: %v, %v", list, err)
	}
	f.check("DeleteOfflineFile", other.DeleteOfflineFile(f.ctx, u[0], u[1], task(1)))
	f.wantFiles("deleted by the other process", u[1])
}

// fileRace adds the same file on several connections at once. The file must be listed
// once, and the bound must hold.
func fileRace(f *fixture) {
	u := f.users(2)
	for i := range im.MaxFilesBetween - 5 {
		f.addFile(u[0], u[1], task(i))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	added := 0
	for i := range 40 {
		wg.Go(func() {
			o := im.OfflineFile{From: u[0], To: u[1], Task: task(1000 + i%10), Name: "x", Size: 1}
			switch err := f.s.AddOfflineFile(f.ctx, o); {
			case err == nil:
				mu.Lock()
				added++
				mu.Unlock()
			case im.KindOf(err) != im.Denied:
				f.Errorf("AddOfflineFile: %v", err)
			}
		})
	}
	wg.Wait()
	list, err := f.s.OfflineFiles(f.ctx, u[1])
	f.check("OfflineFiles", err)
	tasks := map[string]int{}
	for _, o := range list {
		tasks[o.Task]++
	}
	if len(list) != im.MaxFilesBetween || len(tasks) != im.MaxFilesBetween || added < 5 {
		f.Errorf("%d files of %d transfers wait, %d calls added one; want %d", len(list),
			len(tasks), added, im.MaxFilesBetween)
	}
}

func filesCancelled(f *fixture) {
	u := f.users(2)
	f.addFile(u[0], u[1], task(1))
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	late := im.OfflineFile{From: u[0], To: u[1], Task: task(2), Name: "x"}
	if err := f.s.AddOfflineFile(ctx, late); err == nil {
		f.Error("AddOfflineFile: no error")
	}
	if _, err := f.s.OfflineFiles(ctx, u[1]); err == nil {
		f.Error("OfflineFiles: no error")
	}
	for _, name := range []string{task(1), ""} {
		if err := f.s.DeleteOfflineFile(ctx, u[0], u[1], name); err == nil {
			f.Error("DeleteOfflineFile: no error")
		}
	}
	if _, _, err := f.s.OfflineFilePage(ctx, 0); err == nil {
		f.Error("OfflineFilePage: no error")
	}
	for _, name := range []string{task(1), ""} {
		if _, err := f.s.OfflineFileState(ctx, u[0], u[1], name); err == nil {
			f.Error("OfflineFileState: no error")
		}
		if _, err := f.s.ForgetOfflineFile(ctx, owner('a'), u[0], u[1], name); err == nil {
			f.Error("ForgetOfflineFile: no error")
		}
	}
	if _, err := f.s.ExpireOfflineFiles(ctx, math.MaxUint32); err == nil {
		f.Error("ExpireOfflineFiles: no error")
	}
	f.wantFiles("after all that", u[1], task(1))
}

// pair is the sender and the receiver of a file.
type pair struct{ from, to uint32 }

// removeFile removes a file from its receiver's list.
func (f fileFixture) removeFile(p pair, task string) {
	f.Helper()
	f.check("DeleteOfflineFile", f.s.DeleteOfflineFile(f.ctx, p.from, p.to, task))
}

// addAll adds many files, the first one first.
func (f fileFixture) addAll(files []im.OfflineFile) {
	f.Helper()
	if f.factory.AddFiles != nil {
		f.factory.AddFiles(f.T, f.s, files)
		return
	}
	for _, o := range files {
		f.addFile(o.From, o.To, o.Task)
	}
}

// addFiles adds n files, task(0) first, and removes every 13th again. It returns those
// that wait.
func (f fileFixture) addFiles(u []uint32, n int) map[string]pair {
	f.Helper()
	files := map[string]pair{}
	var all []im.OfflineFile
	for i := range n {
		k := i / im.MaxFilesBetween
		p := pair{u[k], u[k+1]}
		files[task(i)] = p
		all = append(all, fileOf(p, task(i)))
	}
	f.addAll(all)
	for i := 0; i < n; i += 13 {
		f.removeFile(files[task(i)], task(i))
		delete(files, task(i))
	}
	return files
}

// filesInPages reads the waiting files of all users in pages. Each must appear once,
// whatever is removed or added between two pages. Then all of them expire: they are more
// than a store deletes at once. Both are one test because adding the files takes most of it.
func filesInPages(f *fixture) {
	const n = 2*im.OfflineFilePage + 500
	u := f.users(n/im.MaxFilesBetween + 1)
	f.wantNoPage("an empty list", 0)
	before := f.now()
	want := f.addFiles(u, n)
	seen, pages := map[string]bool{}, 0
	for after := uint32(0); ; {
		files, last, err := f.s.OfflineFilePage(f.ctx, after)
		if err != nil {
			f.Fatalf("page after %d: %v", after, err)
		}
		if pages++; len(files) > im.OfflineFilePage {
			f.Errorf("a page of %d files", len(files))
		}
		for _, o := range files {
			if (pair{o.From, o.To}) != want[o.Task] || o.Name != "a.pdf" || o.Size != 5 ||
				o.Created < before || o.Created > f.now() || seen[o.Task] {
				f.Errorf("page %d has %+v, seen before: %v", pages, o, seen[o.Task])
			}
			seen[o.Task] = true
		}
		if pages == 1 { // one on a page that was read, one on a later page
			f.removeFile(want[task(1)], task(1))
			f.removeFile(want[task(n-1)], task(n-1))
			delete(want, task(n-1))
			f.addFile(u[0], u[0], task(n))
			want[task(n)] = pair{u[0], u[0]}
		}
		if last == 0 {
			break
		}
		if last <= after {
			f.Fatalf("the page after %d ends at %d", after, last)
		}
		after = last
	}
	if len(seen) != len(want) || pages < 3 {
		f.Errorf("%d files in %d pages, want %d", len(seen), pages, len(want))
	}
	f.wantNoPage("behind the end", math.MaxUint32)
	f.expire(math.MaxUint32, n+1) // those removed from their lists too
	f.wantNoPage("expired", 0)
}

// wantNoPage checks that no file waits after a position.
func (f fileFixture) wantNoPage(what string, after uint32) {
	f.Helper()
	if files, last, err := f.s.OfflineFilePage(f.ctx, after); len(files) != 0 || last != 0 ||
		err != nil {
		f.Errorf("%s: %d files up to %d, %v", what, len(files), last, err)
	}
}

func fileState(f *fixture) {
	u := f.users(3)
	want := func(what string, from, to uint32, task string, want im.OfflineFileState) {
		f.Helper()
		if got, err := f.s.OfflineFileState(f.ctx, from, to, task); got != want || err != nil {
			f.Errorf("%s: state %d, %v, want %d", what, got, err, want)
		}
	}
	want("never noted", u[0], u[1], task(1), im.FileUnlisted)
	f.addFile(u[0], u[1], task(1))
	want("noted", u[0], u[1], task(1), im.FileListed)
	want("from another", u[2], u[1], task(1), im.FileUnlisted)
	want("to another", u[0], u[2], task(1), im.FileUnlisted)
	for _, none := range []string{"", task(2), "\xff", "../x", strings.Repeat("x", 1<<16)} {
		want("none", u[0], u[1], none, im.FileUnlisted)
	}
	f.check("DeleteOfflineFile", f.s.DeleteOfflineFile(f.ctx, u[0], u[1], task(1)))
	want("taken off", u[0], u[1], task(1), im.FileTaken)
	f.reopen()
	want("reopened", u[0], u[1], task(1), im.FileTaken)
	f.expire(math.MaxUint32, 1)
	want("expired", u[0], u[1], task(1), im.FileUnlisted)
}
