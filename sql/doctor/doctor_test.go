package doctor_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
	"teamtalk/sql/doctor"
)

var ctx = context.Background()

// worker is a test for a goroutine of its own, which Fatal ends.
type worker struct{ testing.TB }

func (w worker) Fatal(args ...any) {
	w.Error(args...)
	runtime.Goexit()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes a store with some of everything: the departments 1 and 2 below it, the users
// 1 to 6 in department 2, the groups 1 (made by user 1) and 2, texts, sounds, reads, and
// a waiting file.
func fill(t testing.TB, s im.Store, f doctor.Files) {
	t.Helper()
	top, err := s.CreateDepart(ctx, im.Depart{Name: "top"})
	check(t, err)
	below, err := s.CreateDepart(ctx, im.Depart{Name: "below", Parent: top})
	check(t, err)
	accounts := make([]im.Account, 6)
	for i := range accounts {
		accounts[i].Name, accounts[i].DepartID = fmt.Sprint("user", i), below
	}
	_, err = s.CreateUsers(ctx, accounts)
	check(t, err)
	for i, list := range [][]uint32{{1, 2, 3, 4}, {2, 5}} {
		_, err = s.CreateGroup(ctx, im.Group{Name: fmt.Sprint("group", i), Creator: list[0],
			Members: list, Type: pb.GroupType_GROUP_TYPE_NORMAL}, list[0])
		check(t, err)
	}
	say(t, s, earlier, 1, 2, 3)
	say(t, s, earlier, 2, 1, 2)
	say(t, s, earlier, 3, 4, 40)
	say(t, s, earlier, 4, 3, 1)
	check(t, s.ClearUnread(ctx, 2, 1))
	check(t, s.ClearUnread(ctx, 3, 4))
	say(t, s, earlier, 1, 2, 2)
	sayTo(t, s, earlier, 1, 1, 4)
	sayTo(t, s, earlier, 2, 1, 3)
	check(t, s.ClearGroupUnread(ctx, 3, 1))
	sayTo(t, s, earlier, 1, 1, 2)
	sayTo(t, s, earlier, 2, 2, 2)
	check(t, s.ClearGroupUnread(ctx, 5, 2))
	_, err = s.ChangeMembers(ctx, im.MemberEdit{Group: 2, Users: []uint32{6}, By: 2,
		Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD})
	check(t, err)
	sayTo(t, s, earlier, 5, 2, 2)
	check(t, s.RemoveSession(ctx, 1, 2, pb.SessionType_SESSION_TYPE_SINGLE))
	addSounds(t, s, f)
	wait(t, s, f)
	_, err = s.SyncSessions(ctx)
	check(t, err)
}

func send(t testing.TB, s im.Store, list []*im.Message) {
	t.Helper()
	s.AppendMessages(ctx, list)
	for _, m := range list {
		check(t, m.Err)
	}
}

// earlier is the time of the texts of a store: the doctor leaves time for young ones to
// be counted.
var earlier = uint32(time.Now().Unix()) - 3600

// say stores n texts of a user to another, with a time.
func say(t testing.TB, s im.Store, at, from, to uint32, n int) {
	t.Helper()
	send(t, s, texts(pb.MsgType_MSG_TYPE_SINGLE_TEXT, at, from, to, n))
}

// texts makes n texts.
func texts(kind pb.MsgType, at, from, to uint32, n int) []*im.Message {
	list := make([]*im.Message, n)
	for i := range list {
		list[i] = &im.Message{From: from, To: to, Created: at, Type: kind,
			Data: fmt.Append(nil, "text ", i)}
	}
	return list
}

// sayTo stores n texts of a user to a group, with a time.
func sayTo(t testing.TB, s im.Store, at, from, group uint32, n int) {
	t.Helper()
	send(t, s, texts(pb.MsgType_MSG_TYPE_GROUP_TEXT, at, from, group, n))
}

// The names of a sound that db_proxy keeps, and of a small file.
const (
	soundFile = "01/0123456789abcdef0123456789abcdef.amr"
	smallFile = "g0/001/002/0123456789abcdef0123456789abcdef.jpg"
	smallURL  = "http://small.test:8700"
)

// addSounds stores a sound in a conversation and one in a group, and an avatar.
func addSounds(t testing.TB, s im.Store, f doctor.Files) {
	t.Helper()
	for place, name := range map[blob.Ager]string{f.Sounds: soundFile, f.Small: smallFile} {
		_, err := place.(blob.Store).Put(ctx, name, strings.NewReader("x"), "")
		check(t, err)
	}
	send(t, s, []*im.Message{{From: 5, To: 6, Created: 7, Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
		Audio: &im.Audio{Path: soundFile, Size: 1, Duration: 1}}})
	send(t, s, []*im.Message{{From: 1, To: 1, Created: 7, Type: pb.MsgType_MSG_TYPE_GROUP_AUDIO,
		Audio: &im.Audio{Path: smallURL + "/" + smallFile, Size: 1, Duration: 1}}})
	check(t, s.SetAvatar(ctx, 1, smallURL+"/"+smallFile))
	check(t, s.SetAvatar(ctx, 2, "http://elsewhere.test/"+smallFile))
}

// task is the waiting file.
const task = "11111111-2222-3333-4444-555555555555"

// wait makes a file of user 1 that waits for user 2.
func wait(t testing.TB, s im.Store, f doctor.Files) {
	t.Helper()
	addToSpool(t, f, task)
	check(t, s.AddOfflineFile(ctx, im.OfflineFile{From: 1, To: 2, Task: task, Name: "a", Size: 3}))
}

func openSpool(t testing.TB, f doctor.Files) *spool.Spool {
	t.Helper()
	sp, err := spool.Open(spool.Options{Dir: f.Waiting, Quota: 1 << 20, MaxFiles: 10,
		MaxUserFiles: 10, KeepUnfinished: time.Hour, KeepWaiting: time.Hour})
	check(t, err)
	return sp
}

// addToSpool puts a whole file of user 1 for user 2 into the spool.
func addToSpool(t testing.TB, f doctor.Files, id string) {
	t.Helper()
	sp := openSpool(t, f)
	defer sp.Close()
	check(t, sp.Create(spool.Info{ID: id, From: 1, To: 2, Name: "a", Size: 3, Created: time.Now()}))
	check(t, sp.Append(id, 0, []byte("abc")))
	check(t, sp.Finish(id))
}

// files makes the places of files.
func files(t testing.TB) doctor.Files {
	t.Helper()
	f := doctor.Files{Waiting: filepath.Join(t.TempDir(), "files"), Whole: true, SmallURL: smallURL,
		FileServer: "127.0.0.1:8600"}
	for _, place := range []*blob.Ager{&f.Sounds, &f.Small} {
		folder, err := blob.OpenFolder(t.TempDir(), 0)
		check(t, err)
		t.Cleanup(func() { folder.Close() })
		*place = folder
	}
	return f
}

// quick are options for tests, in which the stores are quiet unless a test says
// otherwise.
var quick = doctor.Options{Settle: time.Nanosecond}

// run runs all checks and returns their results. It fails the test for a check that
// failed.
func run(t testing.TB, d *doctor.Doctor, o doctor.Options) map[string]doctor.Result {
	t.Helper()
	all := map[string]doctor.Result{}
	check(t, d.Run(ctx, o, func(r doctor.Result) error {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Name, r.Err)
		}
		all[r.Name] = r
		return nil
	}))
	return all
}

// want fails the test unless exactly the named checks have found something.
func want(t testing.TB, when string, all map[string]doctor.Result, names ...string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if r := all[name]; (r.Found > 0) != slices.Contains(names, name) {
			t.Errorf("%s: check %s found %d: %q", when, name, r.Found, r.Examples)
		}
	}
	for _, name := range names {
		if _, ok := all[name]; !ok {
			t.Errorf("%s: there is no check %s", when, name)
		}
	}
}

// damage is damage made on purpose, and what the doctor must say to it.
type damage struct {
	name string // of the check that finds it
	// do is made of statements of SQL, commands of Redis after "redis ", and the words of
	// patient.do for files.
	do   []string
	also []string // names of checks that find it as well
	text string   // in the first example
	undo []string // for a check without a repair
}

// patient is a store that is damaged and repaired.
type patient struct {
	*testing.T
	d     *doctor.Doctor
	files doctor.Files
	exec  func(statement string)
	dump  func() string // everything in the databases
}

// do makes or removes damage.
func (p *patient) do(statements []string) {
	p.Helper()
	for _, q := range statements {
		switch q {
		case "rm sound":
			check(p, p.files.Sounds.(blob.Store).Delete(ctx, soundFile))
		case "rm small":
			check(p, p.files.Small.(blob.Store).Delete(ctx, smallFile))
		case "put sound", "put small":
			place, name := p.files.Sounds, soundFile
			if q == "put small" {
				place, name = p.files.Small, smallFile
			}
			_, err := place.(blob.Store).Put(ctx, name, strings.NewReader("x"), "")
			check(p, err)
		case "rm file":
			sp := openSpool(p, p.files)
			check(p, sp.Delete(task))
			check(p, sp.Close())
		case "add file":
			addToSpool(p, p.files, uuid.NewString())
		default:
			p.exec(q)
		}
	}
}

// suffer makes each damage, finds it, checks that finding it has changed nothing, repairs
// it, and finds nothing more.
func (p *patient) suffer(list []damage) {
	for _, x := range list {
		p.Run(x.name, func(t *testing.T) {
			p := &patient{T: t, d: p.d, files: p.files, exec: p.exec, dump: p.dump}
			names := append(slices.Clone(x.also), x.name)
			p.do(x.do)
			before := p.dump()
			all := run(p, p.d, quick)
			want(p, "damaged", all, names...)
			if r := all[x.name]; len(r.Examples) == 0 || !strings.Contains(r.Examples[0], x.text) {
				p.Errorf("the check says %q, want %q", r.Examples, x.text)
			}
			if after := p.dump(); after != before {
				p.Errorf("looking has changed the store from\n%s\nto\n%s", before, after)
			}
			repair := quick
			repair.Repair = true
			all = run(p, p.d, repair)
			for _, name := range names {
				r := all[name]
				if left := r.Left > 0; left != (r.Repair == "" && r.Found > 0) {
					p.Errorf("the repair of %s leaves %d of %d: %s", name, r.Left, r.Found,
						r.Refused)
				}
			}
			for _, name := range x.also {
				delete(all, name) // a repair may have ended it before
			}
			want(p, "repairing", all, x.name)
			p.do(x.undo)
			want(p, "repaired", run(p, p.d, quick))
		})
	}
}

func TestUnknownCheck(t *testing.T) {
	_, d := openLite(t, files(t))
	err := d.Run(ctx, doctor.Options{Only: []string{"nothing"}}, nil)
	if im.KindOf(err) != im.Invalid || !strings.Contains(err.Error(), "message-ids") {
		t.Errorf("an unknown check: %v", err)
	}
}

// TestAllAreDescribed requires names and texts for people.
func TestAllAreDescribed(t *testing.T) {
	_, d := openLite(t, files(t))
	page, err := os.ReadFile("DOCTOR.md")
	check(t, err)
	seen := map[string]bool{}
	for _, a := range d.Checks() {
		if a.Name == "" || a.Compares == "" || seen[a.Name] {
			t.Errorf("%+v", a)
		}
		seen[a.Name] = true
		if !strings.Contains(string(page), "**"+a.Name+"**") {
			t.Errorf("DOCTOR.md does not describe %s", a.Name)
		}
	}
}
