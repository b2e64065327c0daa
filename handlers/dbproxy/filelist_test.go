package dbproxy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

func (f *faulty) OfflineFilePage(ctx context.Context, after uint32) ([]im.OfflineFile, uint32,
	error) {
	if err := f.before(); err != nil {
		return nil, 0, err
	}
	return f.Store.OfflineFilePage(ctx, after)
}

func (f *faulty) OfflineFileState(ctx context.Context, from, to uint32,
	task string) (im.OfflineFileState, error) {
	if err := f.before(); err != nil {
		return 0, err
	}
	return f.Store.OfflineFileState(ctx, from, to, task)
}

func (f *faulty) ForgetOfflineFile(ctx context.Context, o im.SpoolOwner, from, to uint32,
	task string) (bool, error) {
	if err := f.before(); err != nil {
		return false, err
	}
	return f.Store.ForgetOfflineFile(ctx, o, from, to, task)
}

// spoolOf names a process of a file server.
func spoolOf(spool string, epoch uint64) *pb.FileListOwner {
	return pb.FileListOwner_builder{Server: proto.String("10.0.0.9:8600"), Spool: []byte(spool),
		Epoch: &epoch, Lease: proto.Uint32(600)}.Build()
}

// spoolA is the id of a spool.
const spoolA = "aaaaaaaaaaaaaaaa"

// own makes p the process that forgets files, and returns its name.
func own(p *peer, seq uint16) *pb.FileListOwner {
	req := pageReq(0)
	req.SetOwner(spoolOf(spoolA, 0))
	return spoolOf(spoolA, ask[*pb.IMFileListRsp](p, seq, req).GetEpoch())
}

func listed(from, to uint32, task string) *pb.ListedFile {
	return pb.ListedFile_builder{FromUserId: &from, ToUserId: &to, TaskId: &task,
		FileName: proto.String("报告.pdf"), FileSize: proto.Uint32(4294967295)}.Build()
}

func pageReq(after uint32) *pb.IMFileListReq {
	return pb.IMFileListReq_builder{After: &after, AttachData: []byte("back")}.Build()
}

func repairReq(owner *pb.FileListOwner, list, forget []*pb.ListedFile) *pb.IMFileListRepairReq {
	return pb.IMFileListRepairReq_builder{List: list, Forget: forget, Owner: owner,
		AttachData: []byte("back")}.Build()
}

// TestFileListPages: a file server reads the list of all users, page by page.
func TestFileListPages(t *testing.T) {
	h := open(t, options{users: 20, db: dbproxy.Options{LinkHeartbeat: time.Hour}})
	p := h.dial()
	if rsp := ask[*pb.IMFileListRsp](p, 1, pageReq(0)); len(rsp.GetFiles()) != 0 ||
		rsp.GetLast() != 0 || string(rsp.GetAttachData()) != "back" {
		t.Errorf("nobody's list: %v", rsp)
	}
	want, begun := map[string]bool{}, h.clock.Now()
	for i := range im.OfflineFilePage + 300 {
		from, task := uint32(1+i/im.MaxFilesBetween), fmt.Sprintf("task-%d", i)
		if err := h.store.AddOfflineFile(t.Context(),
			im.OfflineFile{From: from, To: 20, Task: task, Name: "x"}); err != nil {
			t.Fatal(err)
		}
		want[task] = true
	}
	if err := h.store.DeleteOfflineFile(t.Context(), 1, 20, "task-7"); err != nil {
		t.Fatal(err)
	}
	delete(want, "task-7")
	now := h.clock.Now().Add(time.Hour)
	h.clock.set(now)
	oldest := uint32(now.Sub(begun)/time.Second) + 1 // the store rounds down
	pages := 0
	for after := uint32(0); ; pages++ {
		rsp := ask[*pb.IMFileListRsp](p, uint16(10+pages), pageReq(after))
		for _, f := range rsp.GetFiles() {
			if !want[f.GetTaskId()] || f.GetToUserId() != 20 || f.GetFromUserId() == 0 ||
				f.GetAge() < 3599 || f.GetAge() > oldest || f.HasFileName() {
				t.Errorf("file %v", f)
			}
			delete(want, f.GetTaskId())
		}
		if after = rsp.GetLast(); after == 0 {
			break
		}
	}
	if pages != 1 || len(want) != 0 {
		t.Errorf("%d pages before the last, %d files missing", pages, len(want))
	}
	h.clock.Add(-24 * time.Hour) // a clock behind the store's does not make ages negative
	if rsp := ask[*pb.IMFileListRsp](p, 4, pageReq(0)); rsp.GetFiles()[0].GetAge() != 0 {
		t.Errorf("from the future: %v", rsp.GetFiles()[0])
	}
}

// TestFileListRepair: the answer has one result for each file to list, in order.
func TestFileListRepair(t *testing.T) {
	p := open(t, options{}).dial()
	p.send(1, addFile(1, 2, "there"))
	p.send(1, addFile(1, 2, "taken"))
	p.send(1, deleteFile(1, 2, "taken"))
	p.send(1, addFile(1, 2, "lost"))
	p.wantFiles(2, 2, "there", "lost")
	rsp := ask[*pb.IMFileListRepairRsp](p, 3, repairReq(own(p, 30),
		[]*pb.ListedFile{listed(1, 2, "there"), listed(1, 2, "new"), listed(1, 99, "nobody"),
			listed(1, 2, "taken"), listed(1, 2, "no/task"), listed(1, 2, "new")},
		[]*pb.ListedFile{listed(1, 2, "lost"), listed(1, 2, "lost"), listed(1, 2, "taken"),
			listed(3, 2, "there"), listed(1, 2, "none")}))
	want := []pb.ListResult{pb.ListResult_LIST_RESULT_THERE, pb.ListResult_LIST_RESULT_LISTED,
		pb.ListResult_LIST_RESULT_REFUSED, pb.ListResult_LIST_RESULT_TAKEN,
		pb.ListResult_LIST_RESULT_REFUSED, pb.ListResult_LIST_RESULT_THERE}
	if !slices.Equal(rsp.GetResults(), want) || rsp.GetForgotten() != 1 ||
		string(rsp.GetAttachData()) != "back" {
		t.Errorf("answer %v, want %v", rsp, want)
	}
	p.wantFiles(4, 2, "there", "new")
	ask[*pb.IMFileListRepairRsp](p, 5, repairReq(nil, []*pb.ListedFile{listed(1, 2, "lost")}, nil))
	p.wantFiles(6, 2, "there", "new", "lost")
}

// TestFileListOwners: one spool of an address forgets files. A request of another one, of a process
// before the last one, or of a server that names none, removes none.
func TestFileListOwners(t *testing.T) {
	p := open(t, options{}).dial()
	p.send(1, addFile(1, 2, "row"))
	p.wantFiles(2, 2, "row")
	forget := []*pb.ListedFile{listed(1, 2, "row")}
	before := own(p, 3)
	if rsp := ask[*pb.IMFileListRsp](p, 4, pageReq(0)); rsp.HasEpoch() {
		t.Errorf("an epoch for a server that did not ask: %v", rsp)
	}
	other := pageReq(0)
	other.SetOwner(spoolOf("bbbbbbbbbbbbbbbb", 0))
	if rsp := ask[*pb.IMFileListRsp](p, 5, other); !rsp.HasEpoch() || rsp.GetEpoch() != 0 ||
		len(rsp.GetFiles()) != 1 {
		t.Errorf("the answer to another spool: %v", rsp)
	}
	now := own(p, 6)
	if before.GetEpoch() != 1 || now.GetEpoch() != 2 {
		t.Errorf("epochs %v, %v", before, now)
	}
	rsp := ask[*pb.IMFileListRepairRsp](p, 7, repairReq(nil, nil, forget))
	if rsp.GetForgotten() != 0 {
		t.Errorf("without an owner: %v", rsp)
	}
	for _, o := range []*pb.FileListOwner{before, spoolOf("bbbbbbbbbbbbbbbb", 2),
		spoolOf("short", 2), spoolOf(spoolA+"x", 2), spoolOf("", 2)} {
		p.send(8, repairReq(o, nil, forget)) // is not answered
	}
	p.wantFiles(9, 2, "row")
	rsp = ask[*pb.IMFileListRepairRsp](p, 10, repairReq(now, nil, forget))
	if rsp.GetForgotten() != 1 {
		t.Errorf("by the owner: %v", rsp)
	}
	p.wantFiles(11, 2)
}

// TestFileListUnanswered: a request is not answered when the store fails, or when it
// names too many files.
func TestFileListUnanswered(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	fails := 3
	h.store.set(func() error {
		if fails--; fails >= 0 {
			return errors.New("no disk")
		}
		return nil
	})
	p.send(1, pageReq(0))
	p.send(1, repairReq(nil, []*pb.ListedFile{listed(1, 2, "a")}, nil))
	p.send(1, repairReq(spoolOf(spoolA, 1), nil, []*pb.ListedFile{listed(1, 2, "a")}))
	many := make([]*pb.ListedFile, 201)
	for i := range many {
		many[i] = listed(1, 2, fmt.Sprintf("task-%d", i))
	}
	p.send(1, repairReq(nil, many, nil))
	// The requests run one after the other: the answer to the last one shows that the
	// earlier ones have run.
	rsp := ask[*pb.IMFileListRsp](p, 2, pageReq(0))
	if len(rsp.GetFiles()) != 0 {
		t.Errorf("listed: %v", rsp)
	}
}
