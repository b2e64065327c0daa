package file_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

// listStand is a db_proxy with a list, for answers that a real one does not send.
// cmd/teamtalk/e2e has the tests with real ones.
type listStand struct {
	mu      sync.Mutex
	rows    []*pb.ListedFile
	taken   map[string]bool
	refuse  bool
	largest int // number of files in the largest repair
	repairs int
	lease   *pb.FileListOwner // the last holder, with its epoch
	ended   bool              // the lease has ended
	old     bool              // it is of a version without leases
	// spoil changes or withholds an answer.
	spoil func(answer pb.Message) (pb.Message, error)
}

// pageRows is the number of rows in a page of listStand.
const pageRows = 3

func (l *listStand) Call(_ *session.Loop, _ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var answer pb.Message
	switch m := req.(type) {
	case *pb.IMFileListReq:
		page := l.page(int(m.GetAfter()))
		if m.HasOwner() && !l.old {
			page.SetEpoch(l.keep(m.GetOwner()))
		}
		answer = page
	case *pb.IMFileListRepairReq:
		answer = l.repair(m)
	}
	err := error(nil)
	if answer == nil {
		err = im.Errorf(im.Denied, "the lease has a later holder")
	}
	if l.spoil != nil {
		answer, err = l.spoil(answer)
	}
	go done(answer, err)
}

// keep gives the lease to a spool as a store does, see im.FileStore.
func (l *listStand) keep(o *pb.FileListOwner) uint64 {
	last := l.lease
	same := string(last.GetSpool()) == string(o.GetSpool())
	switch {
	case last == nil || o.GetServer() != last.GetServer():
		o.SetEpoch(1)
	case same && o.GetEpoch() == last.GetEpoch():
	case same && o.GetEpoch() == 0, l.ended:
		o.SetEpoch(last.GetEpoch() + 1)
	default:
		return 0
	}
	l.lease, l.ended = proto.CloneOf(o), false
	return o.GetEpoch()
}

func (l *listStand) page(after int) *pb.IMFileListRsp {
	end, last := min(after+pageRows, len(l.rows)), uint32(after+pageRows)
	if end == len(l.rows) {
		last = 0
	}
	return pb.IMFileListRsp_builder{Files: l.rows[min(after, end):end], Last: &last}.Build()
}

func (l *listStand) repair(m *pb.IMFileListRepairReq) pb.Message {
	l.repairs++
	l.largest = max(l.largest, len(m.GetList())+len(m.GetForget()))
	n := uint32(0)
	for _, f := range m.GetForget() {
		if !l.old && !proto.Equal(m.GetOwner(), l.lease) {
			return nil
		}
		if i := slices.IndexFunc(l.rows, func(r *pb.ListedFile) bool {
			return sameFile(r,
				f)
		}); i >= 0 {
			l.rows = slices.Delete(slices.Clone(l.rows), i, i+1)
			n++
		}
	}
	var results []pb.ListResult
	for _, f := range m.GetList() {
		r := pb.ListResult_LIST_RESULT_LISTED
		switch {
		case l.taken[f.GetTaskId()]:
			r = pb.ListResult_LIST_RESULT_TAKEN
		case l.refuse:
			r = pb.ListResult_LIST_RESULT_REFUSED
		case slices.ContainsFunc(l.rows, func(r *pb.ListedFile) bool { return sameFile(r, f) }):
			r = pb.ListResult_LIST_RESULT_THERE
		default:
			l.rows = append(l.rows, row(f.GetFromUserId(), f.GetToUserId(), f.GetTaskId()))
		}
		results = append(results, r)
	}
	return pb.IMFileListRepairRsp_builder{Results: results, Forgotten: &n}.Build()
}

func sameFile(a, b *pb.ListedFile) bool {
	return a.GetTaskId() == b.GetTaskId() && a.GetFromUserId() == b.GetFromUserId() &&
		a.GetToUserId() == b.GetToUserId()
}

// row returns a row that is a day old.
func row(from, to uint32, task string) *pb.ListedFile {
	return pb.ListedFile_builder{FromUserId: &from, ToUserId: &to, TaskId: &task,
		Age: new(uint32(86_400))}.Build()
}

func (l *listStand) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// want compares the rows with want. Transfers have the names that the test gave them.
func (l *listStand) want(t *testing.T, what string, tasks map[string]string, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	names := map[string]string{}
	for name, id := range tasks {
		names[id] = name
	}
	var got []string
	for _, r := range l.rows {
		got = append(got, fmt.Sprintf("%s %d>%d", names[r.GetTaskId()], r.GetFromUserId(),
			r.GetToUserId()))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: the list differs (-want +got):\n%s", what, cmp.Diff(want, got))
	}
}

// compare waits for two comparisons that began after its call.
func (h *house) compare() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan struct{})
	before := h.metric("teamtalk_file_list_comparisons_total")
	go func() {
		defer close(end)
		h.server.RunCompare(ctx, time.Millisecond)
	}()
	h.until("two comparisons",
		func() bool { return h.metric("teamtalk_file_list_comparisons_total") >= before+2 })
	cancel()
	<-end
}

// upload uploads a file of 40,000 bytes and returns its task.
func (h *house) upload(from, to uint32) string {
	h.t.Helper()
	task := h.task(from, to, 40_000, offline)
	p := h.in(from, task, uploader)
	defer p.Close()
	if st, err := p.serve(task, from, random(1, 40_000),
		40_000); st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
		h.t.Fatalf("upload: %v, %v", st, err)
	}
	return task
}

// states returns the files in the spool.
func (h *house) states(tasks map[string]string) map[string]spool.State {
	all := map[string]spool.State{}
	for name, id := range tasks {
		if _, st, ok := h.spool.Lookup(id); ok {
			all[name] = st
		}
	}
	return all
}

// differing makes files and rows that differ in every way, and rows of other servers, and
// returns the transfers by name.
func differing(t *testing.T, h *house, list *listStand) map[string]string {
	t.Helper()
	tasks := map[string]string{
		"unlisted": h.upload(1, 2), "listed": h.upload(1, 2), "taken": h.upload(1, 2),
		"fetched": h.upload(1, 2), "lost": h.upload(1, 2),
		"unfinished": h.task(1, 2, 40_000, offline),
		"first":      "6bd466b8-85bd-4ec3-94a6-01886865f3e0", // from the first implementation
		"chance": im.MarkTask("6bd466b8-85bd-4ec3-94a6-01886865f3e0",
			im.ServerMark("127.0.0.1", 15860)),
		"other": im.SealTask("6bd466b8-85bd-4ec3-94a6-01886865f3e0", "10.0.0.9", 15860),
		"text":  "not-a-uuid",
	}
	p := h.in(2, tasks["fetched"], downloader)
	if got, err := p.fetch(tasks["fetched"], 2, offline, 40_000, 0, 4, 40_000); err != nil ||
		len(got) != 40_000 {
		t.Fatal(err)
	}
	next[*pb.IMFileState](p)
	p.Close()
	if err := h.spool.Delete(tasks["lost"]); err != nil {
		t.Fatal(err)
	}
	list.taken[tasks["taken"]] = true
	for _, name := range []string{"listed", "fetched", "lost", "unfinished", "first", "chance",
		"other", "text"} {
		list.rows = append(list.rows, row(1, 2, tasks[name]))
	}
	// These rows name other users.
	list.rows = append(list.rows, row(3, 2, tasks["listed"]), row(1, 9, tasks["unlisted"]))
	return tasks
}

// TestCompare checks every way in which spool and list can differ, and rows of other
// servers.
func TestCompare(t *testing.T) {
	list := &listStand{taken: map[string]bool{}}
	h := open(t, file.Options{List: list, Grace: -1})
	tasks := differing(t, h, list)
	want := []string{"unlisted 1>2", "listed 1>2", "fetched 1>2", "unfinished 1>2", "first 1>2",
		"chance 1>2", "other 1>2", "text 1>2"}
	files := map[string]spool.State{"unlisted": spool.Waiting, "listed": spool.Waiting,
		"fetched": spool.Fetched, "unfinished": spool.Unfinished}

	t.Run("differences are repaired", func(t *testing.T) {
		h.compare()
		h.until("the file to be deleted", func() bool {
			_, _, ok := h.spool.Lookup(tasks["taken"])
			return !ok
		})
		list.want(t, "compared", tasks, want...)
		if got := h.states(tasks); !maps.Equal(got, files) {
			t.Errorf("the files differ (-want +got):\n%s", cmp.Diff(files, got))
		}
		// One file is listed, three rows are forgotten, and one file is removed: a worker does
		// that, so a later comparison may find the file once more.
		const repairs = "teamtalk_file_list_repairs_total"
		n, removed := h.metric(repairs, "listed", "forgotten"), h.metric(repairs, "removed")
		if n != 4 || removed < 1 || h.metric(repairs) != n+removed {
			t.Errorf("%v repairs, of them %v listed or forgotten and %v removed",
				h.metric(repairs), n, removed)
		}
	})

	t.Run("correct files and rows remain after a restart", func(t *testing.T) {
		before := list.repairs
		h.stop()
		h.start()
		h.compare()
		list.want(t, "compared again", tasks, want...)
		if list.repairs != before || !maps.Equal(h.states(tasks), files) {
			t.Errorf("%d more repairs, files %v", list.repairs-before, h.states(tasks))
		}
	})

	t.Run("another server does not recognize the ids", func(t *testing.T) {
		h.server.SetAddresses(file.Address{IP: "127.0.0.1", Port: 15861})
		for _, name := range []string{"unlisted", "listed"} {
			if err := h.spool.Delete(tasks[name]); err != nil {
				t.Fatal(err)
			}
		}
		h.compare()
		list.want(t, "under another address", tasks, want...)
	})
}

// TestCompareFails: after half a list, or an answer that is not a list, nothing is
// changed.
func TestCompareFails(t *testing.T) {
	asked := 0
	for name, spoil := range map[string]func(pb.Message) (pb.Message, error){
		"no answer": func(pb.Message) (pb.Message, error) {
			return nil,
				im.Errorf(im.Unavailable, "no answer in 10s")
		},
		"not to the second page": func(m pb.Message) (pb.Message, error) {
			if asked++; asked%2 == 0 {
				return nil, im.Errorf(im.Unavailable, "the link broke")
			}
			return m, nil
		},
		"a page that goes back": func(m pb.Message) (pb.Message, error) {
			if p, ok := m.(*pb.IMFileListRsp); ok && p.GetLast() == 0 {
				p.SetLast(1)
			}
			return m, nil
		},
		"something else": func(pb.Message) (pb.Message, error) { return &pb.IMHeartBeat{}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			list := &listStand{spoil: spoil}
			h := open(t, file.Options{List: list, Grace: -1})
			tasks := map[string]string{"unlisted": h.upload(1, 2), "lost": h.task(1, 2, 1, offline)}
			if err := h.spool.Delete(tasks["lost"]); err != nil {
				t.Fatal(err)
			}
			want := []string{"lost 1>2"}
			list.rows = []*pb.ListedFile{row(1, 2, tasks["lost"])}
			for i := range 2 * pageRows {
				id := fmt.Sprintf("other-%d", i)
				tasks[id] = id
				list.rows = append(list.rows, row(1, 2, id))
				want = append(want, id+" 1>2")
			}
			asked = 0
			h.compare()
			list.want(t, "after failures", tasks, want...)
			if list.repairs != 0 || len(h.states(tasks)) != 1 {
				t.Errorf("%d repairs, files %v", list.repairs, h.states(tasks))
			}
			list.set(func() { list.spoil = nil })
			h.compare()
			list.want(t, "after none", tasks, append(want[1:], "unlisted 1>2")...)
		})
	}
}

// TestCompareBadResults: an answer to a repair with impossible results deletes nothing.
func TestCompareBadResults(t *testing.T) {
	list := &listStand{}
	h := open(t, file.Options{List: list, Grace: -1})
	task := h.upload(1, 2)
	for _, results := range [][]pb.ListResult{nil,
		{pb.ListResult_LIST_RESULT_TAKEN, pb.ListResult_LIST_RESULT_TAKEN}, {99}} {
		list.set(func() {
			list.spoil = func(m pb.Message) (pb.Message, error) {
				if rsp, ok := m.(*pb.IMFileListRepairRsp); ok {
					list.rows = nil
					rsp.SetResults(results)
				}
				return m, nil
			}
		})
		h.compare()
		if _, state, ok := h.spool.Lookup(task); !ok || state != spool.Waiting {
			t.Errorf("results %v: the file was deleted", results)
		}
	}
}

// TestCompareGrace: young files and young rows are ignored.
func TestCompareGrace(t *testing.T) {
	list, time := &listStand{taken: map[string]bool{}}, &clock{}
	h := open(t, file.Options{List: list, Now: time.Now})
	h.stop()
	h.spoolOp.Now = time.Now
	h.start()
	tasks := map[string]string{"young": h.upload(1, 2), "lost": h.task(1, 2, 1, offline)}
	if err := h.spool.Delete(tasks["lost"]); err != nil {
		t.Fatal(err)
	}
	lost := row(1, 2, tasks["lost"])
	lost.SetAge(9 * 60)
	list.rows = []*pb.ListedFile{lost}
	h.compare()
	list.want(t, "young", tasks, "lost 1>2")
	time.add(11 * 60e9)
	list.set(func() { lost.SetAge(11 * 60) })
	h.compare()
	list.want(t, "old", tasks, "young 1>2")
}

// TestCompareMany: requests are bounded, and files that cannot be listed are counted and
// kept.
func TestCompareMany(t *testing.T) {
	const n = 130
	list := &listStand{refuse: true}
	h := open(t, file.Options{List: list, Grace: -1})
	for range n {
		if task := h.task(1, 2, 0, offline); h.spool.Finish(task) != nil {
			t.Fatal("not finished")
		}
		task := h.task(1, 2, 1, offline)
		list.rows = append(list.rows, row(1, 2, task))
		if err := h.spool.Delete(task); err != nil {
			t.Fatal(err)
		}
	}
	h.compare()
	list.want(t, "refused", nil)
	if files, _ := h.spool.Usage(); files != n || list.largest > 100 {
		t.Errorf("%d files are left, the largest repair had %d", files, list.largest)
	}
	list.set(func() { list.refuse = false })
	h.compare()
	if len(list.rows) != n || list.largest > 100 {
		t.Errorf("%d files are listed, the largest repair had %d", len(list.rows), list.largest)
	}
}

// TestCompareNobody: RunCompare returns at once without a db_proxy.
func TestCompareNobody(t *testing.T) {
	open(t, file.Options{}).server.RunCompare(t.Context(), time.Hour)
}

// TestListing: finished files are listed without a report of their senders, after a failure
// again, and also those of the process before. Others are not asked for.
func TestListing(t *testing.T) {
	list, time := &listStand{taken: map[string]bool{}}, &clock{}
	h := open(t, file.Options{List: list, Now: time.Now})
	h.stop()
	h.spoolOp.Now = time.Now
	h.start()
	tasks := map[string]string{"old": h.upload(1, 2)}
	time.add(3600e9)
	tasks["before"] = h.upload(1, 2)
	time.add(10e9)
	failed := 0
	list.set(func() {
		list.spoil = func(m pb.Message) (pb.Message, error) {
			failed++
			return nil, im.Errorf(im.Unavailable, "no db_proxy is up")
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan struct{})
	go func() {
		defer close(end)
		h.server.RunListing(ctx, 1e6, 1200e9)
	}()
	defer func() { cancel(); <-end }()
	rows := func() (n int) {
		list.set(func() { n = len(list.rows) })
		return n
	}
	h.until("two failures", func() (met bool) {
		list.set(func() { met = failed > 1 })
		return met
	})
	list.set(func() { list.rows, list.spoil = nil, nil })
	h.until("the file of the process before", func() bool { return rows() == 1 })
	tasks["new"] = h.upload(3, 4)
	time.add(10e9)
	h.until("the new file", func() bool { return rows() == 2 })
	list.want(t, "listed", tasks, "before 1>2", "new 3>4")
}
