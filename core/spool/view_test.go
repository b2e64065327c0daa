package spool

import (
	"os"
	"path/filepath"
	"testing"

	"teamtalk/core/im"
)

// TestView looks at a folder that a server has open: waiting and fetched files, an unfinished one,
// and one that is damaged.
func TestView(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir})
	ids := []string{"00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002",
		"00000000-0000-0000-0000-000000000003", "00000000-0000-0000-0000-000000000004"}
	for i, id := range ids {
		info := file(3)
		info.ID = id
		must(t, s.Create(info))
		if i > 0 {
			must(t, s.Append(id, 0, []byte("abc")))
			must(t, s.Finish(id))
		}
	}
	must(t, s.MarkFetched(ids[2]))
	must(t, os.Truncate(filepath.Join(dir, ids[3]+extData), 2))
	before := names(t, dir)
	files, err := View(dir)
	must(t, err)
	want := map[string]State{ids[1]: Waiting, ids[2]: Fetched}
	if len(files) != len(want) {
		t.Errorf("%d files are seen, want %d: %+v", len(files), len(want), files)
	}
	for id, state := range want {
		f, ok := files[id]
		if !ok || f.State != state || f.From != file(3).From || f.Since.IsZero() {
			t.Errorf("%s: %+v, want state %v", id, f, state)
		}
	}
	viewSome(t, dir, ids, files)
	if after := names(t, dir); len(after) != len(before) {
		t.Errorf("files before %v, after %v", before, after)
	}
	if _, _, err := Hold(dir); err == nil {
		t.Error("a folder that a server uses is held")
	}
	id := s.ID()
	must(t, s.Close())
	held, lock, err := Hold(dir)
	must(t, err)
	if held != id {
		t.Errorf("the folder has the id %x, and had %x", held, id)
	}
	if _, err := Open(Options{Dir: dir, Quota: 1, MaxFiles: 1, MaxUserFiles: 1, KeepUnfinished: 1,
		KeepWaiting: 1}); err == nil {
		t.Error("a folder that is held is opened")
	}
	must(t, lock.Close())
	for _, dir := range []string{"", filepath.Join(dir, "no")} {
		if _, err := View(dir); err == nil {
			t.Errorf("View(%q) found a folder", dir)
		}
		if _, _, err := Hold(dir); err == nil || im.KindOf(err) == im.Busy {
			t.Errorf("Hold(%q): %v", dir, err)
		}
	}
}

// viewSome looks at some files, and expects what a look at all has found.
func viewSome(t *testing.T, dir string, ids []string, all map[string]Seen) {
	t.Helper()
	some, err := ViewSome(dir, append(ids[:3:3], "no id", "../"+ids[1]))
	must(t, err)
	if len(some) != 2 || some[ids[1]] != all[ids[1]] || some[ids[2]] != all[ids[2]] {
		t.Errorf("some files are %+v, all %+v", some, all)
	}
	if text, err := os.ReadFile(some[ids[2]].Path); err != nil || string(text) != "abc" {
		t.Errorf("the path of a file has %q, %v", text, err)
	}
}
