package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
)

var ctx = context.Background()

// server is an embedded store with files beside it.
type server struct {
	*testing.T
	dir   string
	s     *embedded.Store
	users []uint32
	group uint32
}

// newServer opens a new store with three users and a group.
func newServer(t *testing.T) *server {
	v := &server{T: t, dir: filepath.Join(t.TempDir(), "data")}
	v.open()
	t.Cleanup(func() { v.s.Close() })
	var accounts []im.Account
	for _, name := range []string{"ann", "bob", "eve"} {
		accounts = append(accounts, im.Account{User: im.User{Name: name, Nick: name}})
	}
	var err error
	v.users, err = v.s.CreateUsers(ctx, accounts)
	v.check(err)
	g, err := v.s.CreateGroup(ctx, im.Group{Name: "g", Creator: v.users[0],
		Members: v.users[:2], Type: pb.GroupType_GROUP_TYPE_NORMAL}, 0)
	v.check(err)
	v.group = g.ID
	return v
}

func (v *server) check(err error) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
}

func (v *server) open() {
	v.Helper()
	var err error
	v.s, err = embedded.Open(ctx, embedded.Options{Dir: v.dir})
	v.check(err)
}

// say stores a message from the first to the second user and one to the group, and returns their
// ids.
func (v *server) say(text string) (single, group uint32) {
	v.Helper()
	batch := []*im.Message{
		{From: v.users[0], To: v.users[1], Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
			Data: []byte(text)},
		{From: v.users[0], To: v.group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte(text)},
	}
	v.s.AppendMessages(ctx, batch)
	for _, m := range batch {
		v.check(m.Err)
	}
	return batch[0].ID, batch[1].ID
}

// write writes a file beside the store, an hour old.
func (v *server) write(name, text string) {
	v.Helper()
	file := filepath.Join(v.dir, filepath.FromSlash(name))
	v.check(os.MkdirAll(filepath.Dir(file), 0o750))
	v.check(os.WriteFile(file, []byte(text), 0o640))
	at := time.Now().Add(-time.Hour)
	v.check(os.Chtimes(file, at, at))
}

func (v *server) source() Source { return sourceOf(v.dir) }

// read reads a file, or returns its error as a text.
func read(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return "none"
	}
	return string(b)
}

// hidden returns the names in a folder that begin with a dot.
func hidden(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestBackup copies a store that is in use with its files, verifies the copy and restores it.
func TestBackup(t *testing.T) {
	v := newServer(t)
	v.say("one")
	v.write("msfs/g0/000/a.jpg", "picture")
	v.write("msfs/.tmp/upload", "half")
	v.write("msfs/.expiry", "{}")
	v.write("audio/b", "sound")
	v.write("files/id.meta", "meta")
	v.write("files/id.data", "data")
	v.write("files/other.part", "half")
	v.write("files/lock", "")
	target := filepath.Join(t.TempDir(), "backup")
	made, err := Make(ctx, v.source(), Options{Target: target, Program: "p 1"})
	v.check(err)
	if made.Files != 6 || made.Linked != 0 || made.Program != "p 1" || made.Schema == 0 {
		t.Errorf("made %+v, want 6 files: the database and 5 others", made)
	}
	if _, err := Make(ctx, v.source(), Options{Target: target}); im.KindOf(err) != im.Exists {
		t.Errorf("a second backup with this name: %v", err)
	}
	checked, err := Verify(ctx, target)
	if err != nil || checked.Tail != made.Tail {
		t.Errorf("verified %+v, %v, want %+v", checked, err, made)
	}
	v.say("lost")
	v.check(v.s.Close())
	v.dir = filepath.Join(t.TempDir(), "restored")
	restored, err := Restore(ctx, RestoreOptions{Backup: target, DataDir: v.dir})
	v.check(err)
	if restored.Tail != made.Tail || restored.Replaced != "" {
		t.Errorf("restored %+v, want %+v", restored, made)
	}
	for name, want := range map[string]string{"msfs/g0/000/a.jpg": "picture",
		"msfs/.tmp/upload": "none", "msfs/.expiry": "{}", "audio/b": "sound",
		"files/id.meta": "meta", "files/id.data": "data", "files/other.part": "none",
		ManifestName: "none"} {
		if got := read(v.dir, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	info, err := os.Stat(filepath.Join(v.dir, "audio", "b"))
	if err != nil || time.Since(info.ModTime()) < time.Hour || info.Mode().Perm() != 0o640 {
		t.Errorf("a restored file: %v, %v, want it an hour old, with its permissions", info, err)
	}
	v.open()
	list, err := v.s.History(ctx, v.users[0], v.users[1], 0, 10)
	if err != nil || len(list) != 1 || string(list[0].Data) != "one" {
		t.Errorf("history %+v, %v, want the one message from before the backup", list, err)
	}
	for _, dir := range []string{target, v.dir} {
		if left := hidden(t, filepath.Dir(dir)); left != nil {
			t.Errorf("left beside %s: %q", dir, left)
		}
	}
}

// TestRestoredIDs requires that a restored store gives no id again that was given after the
// backup, that it counts as changed what clients may know in a later state, and that nobody has
// more unread messages.
func TestRestoredIDs(t *testing.T) {
	v := newServer(t)
	v.say("one")
	v.check(v.s.ClearGroupUnread(ctx, v.users[1], v.group))
	v.say("two")
	target := filepath.Join(t.TempDir(), "backup")
	_, err := Make(ctx, v.source(), Options{Target: target})
	v.check(err)
	lost, lostInGroup := v.say("lost")
	lostUser, err := v.s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "lost"}}})
	v.check(err)
	change, err := v.s.ChangeMembers(ctx, im.MemberEdit{Group: v.group, By: v.users[0],
		Type:  pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD,
		Users: v.users[2:]})
	v.check(err)
	v.check(v.s.Close())
	now := time.Now().Add(time.Hour)
	v.dir = filepath.Join(t.TempDir(), "restored")
	_, err = Restore(ctx, RestoreOptions{Backup: target, DataDir: v.dir, Gap: 50,
		Now: func() time.Time { return now }})
	v.check(err)
	v.open()
	counts, total, err := v.s.UnreadCounts(ctx, v.users[1], 10)
	if err != nil || total != 3 || len(counts) != 2 {
		t.Errorf("unread %+v, %d, %v, want 2 of a user and 1 of the group", counts, total, err)
	}
	users, newest, err := v.s.UsersChangedSince(ctx, uint32(now.Unix()))
	if err != nil || len(users) != 3 || newest != uint32(now.Unix()) {
		t.Errorf("%d users have changed at %d, %v, want 3 at the restore", len(users), newest, err)
	}
	versions, err := v.s.GroupVersions(ctx, []uint32{v.group})
	if err != nil || len(versions) != 1 || versions[0].Version <= change.Version {
		t.Errorf("versions %+v, %v, want one above the lost %d", versions, err, change.Version)
	}
	single, group := v.say("three")
	if single <= lost || group <= lostInGroup || single != 53 || group != 53 {
		t.Errorf("ids %d and %d, want 53: %d and %d were given", single, group, lost, lostInGroup)
	}
	ids, err := v.s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "new"}}})
	if err != nil || ids[0] <= lostUser[0] {
		t.Errorf("a new user got %d, %v; %d was given", ids, err, lostUser)
	}
	if _, err := Restore(ctx, RestoreOptions{Backup: target, DataDir: filepath.Join(
		t.TempDir(), "x"), Gap: 1<<32 - 2}); im.KindOf(err) != im.Invalid {
		t.Errorf("a gap that leaves no ids: %v", err)
	}
}

// TestRunning makes backups while a store appends messages, each after its file was written. Every
// message in a backup has its file.
func TestRunning(t *testing.T) {
	v := newServer(t)
	work, done := make(chan int, 1<<10), make(chan struct{})
	var stored atomic.Int64
	v.check(os.MkdirAll(filepath.Join(v.dir, "msfs"), 0o750))
	go func() {
		defer close(done)
		for n := range work {
			name := fmt.Sprintf("%d.jpg", n)
			if err := os.WriteFile(filepath.Join(v.dir, "msfs", name), []byte(name),
				0o640); err != nil {
				t.Error(err)
			}
			m := &im.Message{From: v.users[0], To: v.users[1],
				Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(name)}
			if v.s.AppendMessages(ctx, []*im.Message{m}); m.Err != nil {
				t.Error(m.Err)
			}
			stored.Add(1)
		}
	}()
	parent := t.TempDir()
	previous := ""
	for n := range 5 {
		for k := range 200 {
			work <- n*200 + k
		}
		before := stored.Load()
		target := filepath.Join(parent, fmt.Sprint("backup", n))
		_, err := Make(ctx, v.source(), Options{Target: target, Previous: previous})
		v.check(err)
		previous = target
		dir := filepath.Join(parent, fmt.Sprint("restored", n))
		_, err = Restore(ctx, RestoreOptions{Backup: target, DataDir: dir})
		v.check(err)
		s, err := embedded.Open(ctx, embedded.Options{Dir: dir})
		v.check(err)
		list, err := s.History(ctx, v.users[0], v.users[1], 0, 1<<20)
		v.check(errors.Join(err, s.Close()))
		if int64(len(list)) < before {
			t.Errorf("%d messages in the backup, %d were stored before it", len(list), before)
		}
		for _, m := range list {
			if got := read(filepath.Join(dir, "msfs"), string(m.Data)); got != string(m.Data) {
				t.Errorf("the file of message %s: %q", m.Data, got)
			}
		}
	}
	close(work)
	<-done
}

// TestPrevious links the files that an earlier backup has, and copies those that have changed.
func TestPrevious(t *testing.T) {
	v := newServer(t)
	v.write("msfs/same", "same")
	v.write("msfs/z/changed", "old")
	v.write("msfs/deleted", "x")
	v.write("audio/sound", "sound")
	parent := t.TempDir()
	first, second := filepath.Join(parent, "1"), filepath.Join(parent, "2")
	_, err := Make(ctx, v.source(), Options{Target: first})
	v.check(err)
	v.write("msfs/z/changed", "new")
	at := time.Now().Add(-time.Minute)
	v.check(os.Chtimes(filepath.Join(v.dir, "msfs", "z", "changed"), at, at))
	v.write("msfs/added", "added")
	v.check(os.Remove(filepath.Join(v.dir, "msfs", "deleted")))
	made, err := Make(ctx, v.source(), Options{Target: second, Previous: first})
	v.check(err)
	if made.Linked != 2 || made.Files != 5 {
		t.Errorf("made %+v, want 5 files, 2 of them links", made)
	}
	for name, want := range map[string]string{"msfs/same": "same", "msfs/z/changed": "new",
		"msfs/deleted": "none", "msfs/added": "added", "audio/sound": "sound"} {
		if got := read(second, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	a, _ := os.Stat(filepath.Join(first, "msfs", "same"))
	b, _ := os.Stat(filepath.Join(second, "msfs", "same"))
	if !os.SameFile(a, b) {
		t.Error("the same file is no link")
	}
	for _, dir := range []string{first, second} {
		if _, err := Verify(ctx, dir); err != nil {
			t.Error(err)
		}
	}
	if _, err := Make(ctx, v.source(), Options{Target: filepath.Join(parent, "3"),
		Previous: parent}); im.KindOf(err) != im.NotFound {
		t.Errorf("a previous backup that is none: %v", err)
	}
}

// TestLog copies the log in front of the database. Ids get no gaps before a server has read it.
func TestLog(t *testing.T) {
	v := newServer(t)
	v.write(LogFolder+"/1", "accepted")
	target := filepath.Join(t.TempDir(), "backup")
	_, err := Make(ctx, v.source(), Options{Target: target})
	v.check(err)
	if _, err := Verify(ctx, target); err != nil || read(target, LogFolder+"/1") != "accepted" {
		t.Errorf("the log in the backup: %q, %v", read(target, LogFolder+"/1"), err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	o := RestoreOptions{Backup: target, DataDir: dir}
	if _, err := Restore(ctx, o); im.KindOf(err) != im.Invalid {
		t.Errorf("a gap before the log is read: %v", err)
	}
	o.SameIDs = true
	_, err = Restore(ctx, o)
	v.check(err)
	if got := read(dir, LogFolder+"/1"); got != "accepted" {
		t.Errorf("the restored log: %q", got)
	}
}

// TestDamage requires that a changed backup is neither verified nor restored.
func TestDamage(t *testing.T) {
	v := newServer(t)
	v.write("msfs/a", "a file")
	for _, c := range []struct {
		name string
		harm func(dir string) error
		want string
	}{
		{"other bytes", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "msfs", "a"), []byte("b file"), 0o600)
		}, "msfs/a has other bytes"},
		{"shorter", func(dir string) error {
			return os.Truncate(filepath.Join(dir, "msfs", "a"), 2)
		}, "msfs/a has 2 bytes, want 6"},
		{"missing", func(dir string) error {
			return os.Remove(filepath.Join(dir, "msfs", "a"))
		}, "msfs/a is missing"},
		{"cut manifest", func(dir string) error {
			return edit(dir, func(b []byte) []byte {
				return b[:bytes.LastIndex(b, []byte("{\"end"))]
			})
		}, "ends early"},
		{"changed manifest", func(dir string) error {
			return edit(dir, func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"mode":416`), []byte(`"mode":438`), 1)
			})
		}, "was changed or cut"},
		{"a path outside", func(dir string) error {
			return edit(dir, func(b []byte) []byte {
				return bytes.Replace(b, []byte("msfs/a"), []byte("../msfs/a"), 1)
			})
		}, "with the path"},
		{"no manifest", func(dir string) error {
			return os.Remove(filepath.Join(dir, ManifestName))
		}, "is not a backup"},
		{"no folder", os.RemoveAll, "does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			target, dir := filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "d")
			if _, err := Make(ctx, v.source(), Options{Target: target}); err != nil {
				t.Fatal(err)
			}
			if err := c.harm(target); err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(ctx, target); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("verify: %v, want %q", err, c.want)
			}
			_, err := Restore(ctx, RestoreOptions{Backup: target, DataDir: dir})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("restore: %v, want %q", err, c.want)
			}
			if list, _ := os.ReadDir(filepath.Dir(dir)); len(list) > 0 {
				t.Errorf("restore left %v", list)
			}
		})
	}
}

// edit changes the manifest of a backup.
func edit(dir string, change func([]byte) []byte) error {
	file := filepath.Join(dir, ManifestName)
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, change(b), 0o600)
}

// TestFolderInUse requires that a restore neither touches the folder of a server nor a folder with
// content, and that with Force it keeps that content under another name.
func TestFolderInUse(t *testing.T) {
	v := newServer(t)
	v.say("one")
	target := filepath.Join(t.TempDir(), "backup")
	_, err := Make(ctx, v.source(), Options{Target: target})
	v.check(err)
	o := RestoreOptions{Backup: target, DataDir: v.dir, Force: true}
	if _, err := Restore(ctx, o); im.KindOf(err) != im.Unavailable {
		t.Errorf("a folder in use: %v", err)
	}
	v.say("two")
	v.check(v.s.Close())
	o.Force = false
	if _, err := Restore(ctx, o); im.KindOf(err) != im.Exists {
		t.Errorf("a folder with content: %v", err)
	}
	o.Force = true
	r, err := Restore(ctx, o)
	v.check(err)
	v.open()
	if list, err := v.s.History(ctx, v.users[0], v.users[1], 0, 9); err != nil || len(list) != 1 {
		t.Errorf("%d messages, %v, want that of the backup", len(list), err)
	}
	v.check(v.s.Close())
	v.dir = r.Replaced
	v.open()
	if list, err := v.s.History(ctx, v.users[0], v.users[1], 0, 9); err != nil || len(list) != 2 {
		t.Errorf("%d messages in the replaced folder, %v, want 2", len(list), err)
	}
	empty := t.TempDir()
	if _, err := Restore(ctx, RestoreOptions{Backup: target, DataDir: empty}); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
}
